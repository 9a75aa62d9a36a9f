"""
The jailed side of `output`: a reply in, a print-ready PDF file out.

The reply travels to typst as JSON data, never as markup, so whatever a document
makes somebody write prints as it is.  Each character is looked up in the fonts'
character maps beforehand: what no face can draw is reported, not printed as an
empty box.  The same arguments give the same bytes.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline.errors import Permanent
from pipeline.stage import Settings, Value
from stages.printing.fonts import characters, face_of, loaded

PRINT = "print.pdf"
PAPERS_MM = {"a4": (210.0, 297.0), "a5": (148.0, 210.0)}
POINTS_PER_MM = 72 / 25.4

# The page.  Lengths arrive as numbers in `data`; every text is inserted as a
# string value, which typst never parses.  `fallback: false` because the glyph
# check has already promised that the listed faces suffice.
PAGE = rb"""
#let data = json(bytes(sys.inputs.data))
#let bleed = data.bleed_mm * 1mm
#let margin = data.margin_mm * 1mm
#set document(title: "Letter", date: none)
#set page(
  width: data.width_mm * 1mm + 2 * bleed,
  height: data.height_mm * 1mm + 2 * bleed,
  margin: (x: margin + bleed, top: margin + bleed, bottom: margin + bleed),
  footer: context {
    let number = counter(page).get().first()
    if number > 1 { align(center, text(size: 0.8em, str(number))) }
  },
)
#set text(
  font: data.fonts,
  size: data.size_pt * 1pt,
  fill: rgb(data.ink),
  fallback: false,
  hyphenate: false,
)
#set par(leading: 0.8em, spacing: 1.3em, justify: false)
#let lines(value) = value.split("\n").join(linebreak())

#if data.date != "" { align(right, lines(data.date)) }
#block(below: 1.4em, sticky: true, lines(data.greeting))
#for paragraph in data.paragraphs { par(lines(paragraph)) }
#block(above: 1.8em, breakable: false, lines(data.closing))
"""

# Marks that steer direction or choose a presentation.  On paper they are
# nothing, and in a print of ours they have no business.
INVISIBLE = frozenset(
    chr(point)
    for first, last in (
        (0x00AD, 0x00AD),
        (0x061C, 0x061C),
        (0x200B, 0x200F),
        (0x202A, 0x202E),
        (0x2060, 0x2069),
        (0xFE00, 0xFE0F),
        (0xFEFF, 0xFEFF),
    )
    for point in range(first, last + 1)
)


class PrintSettings(Settings):
    """
    How the page looks: the keys of `[stage.output]`.

    `font` is the handwriting face, `fallback` draws what it lacks; all of them
    must be installed, so that every machine prints the same page.
    """

    paper: Literal["a4", "a5"] = "a5"
    font: str = "Klee One"
    fallback: tuple[str, ...] = ("DejaVu Sans",)
    size_pt: Annotated[float, Field(ge=6, le=48)] = 12.0
    margin_mm: Annotated[float, Field(ge=5, le=50)] = 17.0  # kept free of ink
    # Paper added on each side, outside the trim box; printers ask for 3.
    bleed_mm: Annotated[float, Field(ge=0, le=10)] = 0.0
    ink: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")] = "#1f2a44"
    date: Annotated[str, Field(max_length=80)] = ""  # printed at the top right
    # Characters that no face has: reported, and nothing is written; or left out.
    missing: Literal["hold", "drop"] = "hold"
    pages_max: Annotated[int, Field(ge=1, le=50)] = 8
    sink: str = ""  # where prints are handed over; "": they lie in the output folder
    released: bool = True  # False: a person releases each batch of them first


class Wording(Value):
    """What is printed: plain text, in its parts."""

    greeting: str
    paragraphs: tuple[str, ...]
    closing: str
    date: str = ""

    def every(self) -> str:
        """All of it, in one piece."""
        return "\n".join((self.date, self.greeting, *self.paragraphs, self.closing))

    def each(self, change: Callable[[str], str]) -> Wording:
        """The same with each part changed; a paragraph that ends empty is none."""
        return Wording(
            greeting=change(self.greeting),
            paragraphs=tuple(filter(None, map(change, self.paragraphs))),
            closing=change(self.closing),
            date=change(self.date),
        )


class Typeset(Value):
    """
    What became of a text.

    Attributes:
        pages: As many as it takes.
        sha256: Of the file `PRINT`; "" when none was written.
        missing: Code points that no face has, at most 50.
    """

    pages: int = 0
    size_bytes: int = 0
    sha256: str = ""
    missing: tuple[str, ...] = ()


def warm() -> None:
    """Find and read the usual fonts, once for all that print; starts no thread."""
    for name in ("typst", "pypdfium2", "pikepdf"):
        importlib.import_module(name)
    usual = PrintSettings()
    faces = [face_of(family) for family in (usual.font, *usual.fallback)]
    for face in faces:
        characters(*face)
    _compiler(tuple(path for path, _ in faces))


def warm_compiler() -> None:
    """Print a page and forget it: the compiler has built its tables then."""
    usual = PrintSettings()
    faces = tuple(face_of(family)[0] for family in (usual.font, *usual.fallback))
    wording = Wording(greeting="Dear", paragraphs=("Reader",), closing="Goodbye")
    page_count(_compile(page_of(wording, usual), faces))


def typeset(wording: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """`printed` as the jail calls it: its values as JSON."""
    given = Wording.model_validate(wording)
    made = printed(given, PrintSettings.model_validate(settings))
    return made.model_dump(mode="json")


def printed(wording: Wording, settings: PrintSettings) -> Typeset:
    """
    Write `wording` as a PDF, the file `PRINT` in the scratch folder.

    Nothing is written of a text that has characters no face can draw, or that
    takes more than `pages_max` pages.

    Raises:
        Permanent: FONT_MISSING; TYPESET_FAILED when typst refuses the page.
    """
    families = (settings.font, *settings.fallback)
    faces = [face_of(family) for family in families]
    wording = wording.each(tidy)
    lost = unprintable(wording.every(), [characters(*face) for face in faces])
    if lost and settings.missing != "drop":
        points = sorted({ord(c) for cluster in lost for c in cluster})
        return Typeset(missing=tuple(f"U+{point:04X}" for point in points[:50]))
    if lost:
        wording = wording.each(partial(without, lost))
    pdf = _compile(page_of(wording, settings), tuple(path for path, _ in faces))
    pages = page_count(pdf)
    if pages > settings.pages_max:
        return Typeset(pages=pages)
    if settings.bleed_mm > 0:
        pdf = _with_boxes(pdf, settings.bleed_mm)
    # Plain bytes on disk; the worker makes them durable and names the file.
    Path(os.environ["TMPDIR"], PRINT).write_bytes(pdf)
    digest = hashlib.sha256(pdf).hexdigest()
    return Typeset(pages=pages, size_bytes=len(pdf), sha256=digest)


# -- text ------------------------------------------------------------------------------


def tidy(text: str) -> str:
    """`text` in composed form, without control, direction and lone surrogate marks."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\t", " ")
    text = re.sub("[\u2028\u2029\v\f\x85]", "\n", text)
    kept = "".join(
        c
        for c in unicodedata.normalize("NFC", text)
        if c == "\n"
        or (c not in INVISIBLE and unicodedata.category(c) not in ("Cc", "Cs"))
    )
    return kept.strip()


def clusters(text: str) -> Iterator[str]:
    """What a font must draw in one piece: a character and the marks upon it."""
    held = ""
    for char in text:
        if held and unicodedata.category(char) in ("Mn", "Me", "Mc"):
            held += char
            continue
        if held:
            yield held
        held = char
    if held:
        yield held


def unprintable(text: str, maps: Sequence[frozenset[int]]) -> set[str]:
    """The clusters of `text` that no single face can draw whole."""
    return {
        cluster
        for cluster in set(clusters(text))
        if cluster != "\n"
        and not any(all(ord(c) in known for c in cluster) for known in maps)
    }


def without(lost: Collection[str], text: str) -> str:
    """`text` less these clusters."""
    kept = "".join(each for each in clusters(text) if each not in lost)
    return re.sub(" {2,}", " ", kept).strip()


# -- pages -----------------------------------------------------------------------------


def page_of(wording: Wording, settings: PrintSettings) -> dict[str, Any]:
    """The `data` of `PAGE`."""
    width_mm, height_mm = PAPERS_MM[settings.paper]
    return {
        **settings.model_dump(include={"size_pt", "margin_mm", "bleed_mm", "ink"}),
        **wording.model_dump(),
        "fonts": (settings.font, *settings.fallback),
        "width_mm": width_mm,
        "height_mm": height_mm,
    }


@lru_cache(maxsize=8)
def _compiler(paths: tuple[str, ...]) -> Any:
    # Shared by all that this process prints: 3 ms a document instead of 40.
    import typst

    return typst.Compiler(PAGE, font_paths=loaded(paths))


def _compile(page: Mapping[str, Any], paths: tuple[str, ...]) -> bytes:
    import typst

    data = json.dumps(page, sort_keys=True)
    try:
        pdf, warnings = _compiler(paths).compile_with_warnings(
            PAGE, format="pdf", sys_inputs={"data": data}
        )
    except typst.TypstError as error:
        # The diagnostic may quote the reply; its first words never do.
        raise Permanent(
            "typst refused the page",
            code="TYPESET_FAILED",
            hint="check paper, size_pt, margin_mm and ink in [stage.output]",
        ) from error
    if any("unknown font family" in warning.message for warning in warnings):
        raise Permanent(
            "typst cannot read one of the configured fonts",
            code="FONT_MISSING",
            hint="name other faces in [stage.output]",
        )
    return bytes(pdf)


def page_count(pdf: bytes) -> int:
    """How many pages a PDF has, by a parser that has not written it."""
    # A second parser: a file that PDFium cannot open must not reach a printer.
    import pypdfium2

    document = pypdfium2.PdfDocument(pdf)
    try:
        return len(document)
    finally:
        document.close()


def _with_boxes(pdf: bytes, bleed_mm: float) -> bytes:
    """Mark where the sheet is cut: TrimBox inside, BleedBox as the media box."""
    import io

    import pikepdf

    edge = bleed_mm * POINTS_PER_MM
    out = io.BytesIO()
    with pikepdf.open(io.BytesIO(pdf)) as document:
        for page in document.pages:
            left, bottom, right, top = (float(side) for side in page.mediabox)
            trim = [left + edge, bottom + edge, right - edge, top - edge]
            page.obj.TrimBox = pikepdf.Array([round(side, 3) for side in trim])
            page.obj.BleedBox = page.obj.MediaBox
        document.save(out, deterministic_id=True)
    return out.getvalue()
