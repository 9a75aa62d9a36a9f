"""
Separator sheets: which pages of a scanned stack stand between two documents.

A sheet carries a barcode: the text PATCHT, as scanners and archives use it, or one
that begins with WAYBILL-SEPARATOR.  Where a pipeline says so an empty page is one
too; an empty page behind a sheet is the sheet's back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import Unacceptable, Usage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PATCH = "PATCHT"
OURS = "WAYBILL-SEPARATOR"
FORMATS = "Code128,Code39,QRCode"
# Bars of 0.33 mm on a scan turned by 5 degrees are read at 150 dpi; at 100 dpi
# only those of 0.5 mm are.  Decoding takes 10 ms a page, 20 ms a sheet.
DPI = 150
SIDE_MAX = 3000  # pixels, of a page larger than paper
WORDS_CHARS = 600  # in a text layer: nobody writes so much on a separator
BARS_INK = 0.001  # share of dark pixels; bars of the smallest sheet cover 0.002
# One word is no blank page, though its ink is less than that of dust on a scanner:
# what is as high as a glyph of 8 pt (1.4 mm) was written.
GLYPH_PX = 8
DARK = 128
# Of each side: the shadow of a lid, holes and staples stand there.
MARGIN = 0.05
INK_MAX = 0.6  # darker is a photograph, or scanned without a lid


def pages(
    path: str, first: int, last: int, kinds: Sequence[str], passwords: Sequence[str]
) -> list[int]:
    """The separators among pages `first` to `last` of a PDF, counted from 1."""
    from stages.formats.pdf import opened_pdf

    with opened_pdf(path, passwords) as document:
        found: list[int] = []
        before = kind_of(document, first - 2, kinds) if first > 1 else ""
        for number in range(first, last + 1):
            kind = kind_of(document, number - 1, kinds)
            # A scanner that takes both sides gives the sheet's empty back too.
            back = kind == "blank" and before == "barcode"
            if kind in kinds or back:
                found.append(number)
            before = kind
    return found


def kind_of(document: Any, index: int, kinds: Sequence[str]) -> str:
    """
    "barcode", "blank", or "" for a page that somebody wrote.

    Cheap looks first: a typed page is not rendered, an empty one not decoded.
    """
    from stages.formats.pdf import load_page

    try:
        page = load_page(document, index)
    except Unacceptable:
        return ""  # a broken page: its reading will say so
    try:
        written = characters(page)
        if written > WORDS_CHARS:
            return ""
        gray = rendered(page)
    finally:
        page.close()
    dark = ink(gray)
    if dark < BARS_INK:
        return "blank" if not written and is_blank(gray) else ""
    marked = "barcode" in kinds and dark < INK_MAX and is_marked(gray)
    return "barcode" if marked else ""


def characters(page: Any) -> int:
    """Characters in the text layer of a page."""
    layer = page.get_textpage()
    try:
        count: int = layer.count_chars()
    finally:
        layer.close()
    return count


def rendered(page: Any) -> NDArray[np.uint8]:
    """The page as a gray picture, forms and notes included."""
    import numpy as np

    scale = min(DPI / 72, SIDE_MAX / max(*page.get_size(), 1))
    bitmap = page.render(scale=scale, grayscale=True)
    try:
        return np.array(bitmap.to_numpy()).reshape(bitmap.height, bitmap.width)
    finally:
        bitmap.close()


def ink(gray: NDArray[np.uint8]) -> float:
    """Share of dark pixels inside the margins, 0-1."""
    dark = inside(gray) < DARK
    return float(dark.mean()) if dark.size else 0.0


def inside(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The page without its margins."""
    down, across = (math.ceil(side * MARGIN) for side in gray.shape)
    return gray[down:-down, across:-across]


def is_blank(gray: NDArray[np.uint8]) -> bool:
    """Nothing dark inside the margins is as large as a glyph."""
    import cv2

    dark = (inside(gray) < DARK).astype("uint8")
    count, _, found, _ = cv2.connectedComponentsWithStats(dark, connectivity=8)
    sides = found[1:count, cv2.CC_STAT_WIDTH : cv2.CC_STAT_HEIGHT + 1]
    return not bool((sides >= GLYPH_PX).any())


def is_marked(gray: NDArray[np.uint8]) -> bool:
    """It carries the barcode of a separator."""
    import zxingcpp

    found = zxingcpp.read_barcodes(
        gray, formats=zxingcpp.barcode_formats_from_str(FORMATS), try_invert=False
    )
    return any(is_word(code.text) for code in found)


def is_word(text: str) -> bool:
    """The text of a separator's barcode."""
    word = text.strip().upper()
    return word == PATCH or word.startswith(OURS)


def groups(separators: Sequence[int], count: int) -> list[tuple[int, int]]:
    """
    What lies between separators: first and last page of each document.

    Separators belong to none; two in a row, and those at the ends, enclose nothing.
    """
    edges = [0, *sorted(separators), count + 1]
    return [
        (before + 1, after - 1)
        for before, after in pairwise(edges)
        if after - before > 1
    ]


# -- sheets to print ---------------------------------------------------------------

SHEET = """#set page(paper: sys.inputs.paper, margin: 20mm)
#set align(center + horizon)
#image("bars.svg", width: 120mm, height: 35mm, fit: "stretch")
#text(20pt)[Separator]

#text(11pt)[Lay this sheet between two documents before you scan them in one
stack, any way up. It belongs to neither of them.]
"""


def sheet(paper: str = "a4") -> bytes:
    """
    A PDF of one separator sheet, to print and copy.

    Raises:
        Usage: NO_SUCH_PAPER.
    """
    import tempfile

    import typst
    import zxingcpp

    bars = zxingcpp.create_barcode(PATCH, zxingcpp.BarcodeFormat.Code128)
    with tempfile.TemporaryDirectory(prefix="waybill-sheet-") as folder:
        Path(folder, "bars.svg").write_text(
            bars.to_svg(add_quiet_zones=False), encoding="utf-8"
        )
        source = Path(folder, "sheet.typ")
        source.write_text(SHEET, encoding="utf-8")
        try:
            made: bytes = typst.compile(source, sys_inputs={"paper": paper})
        except typst.TypstError:
            raise Usage(
                f"there is no paper {paper!r}",
                code="NO_SUCH_PAPER",
                hint="a4, a5, us-letter",
            ) from None
    return made
