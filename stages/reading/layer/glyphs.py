"""
The characters of a page of a PDF: where each stands, and what draws it.

PDFium lists them in the order of the file, with spaces and line ends of its own.
"""

from __future__ import annotations

import ctypes
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from stages.formats.pdf import INVISIBLE_MODES

CHARS_MAX = 100_000  # a full newspaper page has 40,000
TINY_POINTS = 3.0  # glyphs smaller than this are not read by a person
SPACES = frozenset({0, 9, 10, 13, 32, 0xA0, 0x3000})
BROKEN_WORD = (0x02, 0xFFFE)  # PDFium's signs for a hyphen at the end of a line


@dataclass(slots=True)
class Ink:
    """What the characters of one text object have in common."""

    drawn: bool
    points: float
    font: int  # place in `Glyphs.fonts`


@dataclass(slots=True)
class Glyphs:
    """The characters of a page, as PDFium lists them."""

    codes: list[int] = field(default_factory=list)  # UTF-16 units or code points
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    inks: list[Ink | None] = field(default_factory=list)  # None: not in the file
    objects: dict[int, Any] = field(default_factory=dict)
    fonts: list[tuple[str, int]] = field(default_factory=list)


@contextmanager
def glyphs_of(page: Any, unit: float = 1.0) -> Iterator[Glyphs | None]:
    """The characters of a page; None when there are more than any page has."""
    from pypdfium2 import raw

    text_page = raw.FPDFText_LoadPage(page)
    if not text_page:
        yield Glyphs()
        return
    try:
        count = raw.FPDFText_CountChars(text_page)
        yield gathered(text_page, count, unit) if count <= CHARS_MAX else None
    finally:
        raw.FPDFText_ClosePage(text_page)


def gathered(text_page: Any, count: int, unit: float) -> Glyphs:
    """Every character with its place and its object."""
    from pypdfium2 import raw

    found = Glyphs()
    inks: dict[int, Ink] = {}
    fonts: dict[int, int] = {}
    left, right, bottom, top = (ctypes.c_double() for _ in range(4))
    at = tuple(ctypes.byref(side) for side in (left, right, bottom, top))
    for index in range(max(0, count)):
        found.codes.append(raw.FPDFText_GetUnicode(text_page, index))
        ink: Ink | None = None
        if found.codes[-1] not in SPACES:
            pointer = raw.FPDFText_GetTextObject(text_page, index)
            address = ctypes.cast(pointer, ctypes.c_void_p).value
            if address is not None:
                if address not in inks:
                    inks[address] = ink_of(
                        text_page, index, pointer, found, fonts, unit
                    )
                    found.objects[address] = pointer
                ink = inks[address]
        found.inks.append(ink)
        box = (0.0, 0.0, 0.0, 0.0)
        if ink is not None and raw.FPDFText_GetCharBox(text_page, index, *at):
            box = (left.value, bottom.value, right.value, top.value)
        found.boxes.append(box)
    return found


def ink_of(
    text_page: Any,
    index: int,
    pointer: Any,
    found: Glyphs,
    fonts: dict[int, int],
    unit: float,
) -> Ink:
    """How the object of a character draws it."""
    from pypdfium2 import raw

    mode = raw.FPDFTextObj_GetTextRenderMode(pointer)
    matrix = raw.FS_MATRIX()
    raw.FPDFText_GetMatrix(text_page, index, matrix)
    size = abs(raw.FPDFText_GetFontSize(text_page, index))
    points = unit * float(size * (matrix.c**2 + matrix.d**2) ** 0.5)
    font = raw.FPDFTextObj_GetFont(pointer)
    address = ctypes.cast(font, ctypes.c_void_p).value or 0
    if address not in fonts:
        fonts[address] = len(found.fonts)
        found.fonts.append(identity(font) if address else ("", 0))
    drawn = mode not in INVISIBLE_MODES and points >= TINY_POINTS
    return Ink(drawn, points, fonts[address])


def identity(font: Any) -> tuple[str, int]:
    """The name of a font and a sum over its bytes."""
    from pypdfium2 import raw

    length = raw.FPDFFont_GetBaseFontName(font, None, 0)
    name = ctypes.create_string_buffer(max(1, length))
    raw.FPDFFont_GetBaseFontName(font, name, length)
    size = ctypes.c_size_t()
    if not raw.FPDFFont_GetFontData(font, None, 0, size) or not size.value:
        return name.value.decode("utf-8", "replace"), 0
    data = (ctypes.c_uint8 * size.value)()
    raw.FPDFFont_GetFontData(font, data, size.value, size)
    return name.value.decode("utf-8", "replace"), zlib.crc32(bytes(data))
