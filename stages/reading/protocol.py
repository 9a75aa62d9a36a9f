"""
What is asked of a reader of pages, and what it answers: values that cross the
pipe of the jail as JSON, made once on one side and checked once on the other.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from pipeline.stage import Settings, Value
from stages.formats.images import DECODED_PIXELS_MAX
from stages.layout import Box, Layout, Turn
from stages.reading.layer.fonts import KNOWN_MAX
from stages.reading.words import Word

# See `stages.reading.layer.fonts.Known`; bounded, for a jailed process fills it in.
KnownFonts = Annotated[
    dict[Annotated[str, StringConstraints(max_length=16)], bool],
    Field(max_length=KNOWN_MAX),
]


class ReaderSettings(Settings):
    """How a page is read: those keys of `[stage.ocr]` that its reader needs."""

    # The first reader: `auto` is tesserocr where it is installed, else pytesseract.
    engine: Literal["auto", "pytesseract", "tesserocr"] = "auto"
    lang: str = Field(default="eng", pattern=r"^(auto|[A-Za-z_/]+(\+[A-Za-z_/]+)*)$")
    # tesseract's page segmentation mode, of a person who knows the pages and the order
    # they are read in.  Without it 3, and columns and rows are told by white space.
    psm: int | None = Field(default=None, ge=1, le=13)
    preprocess: Literal["soft", "off"] = "soft"
    # Text layers of PDFs: used where they say what is seen, and a line of each font is
    # read as it says; used without that; ignored.
    layer: Literal["check", "trust", "off"] = "check"
    dpi: int = Field(default=300, ge=72, le=600)  # at which PDF pages are rendered
    # A3 at 300 dpi is 17 million; larger pages are made smaller, not refused.
    max_pixels: int = Field(default=20_000_000, ge=1_000_000)
    max_decoded_pixels: int = Field(default=DECODED_PIXELS_MAX, ge=1_000_000)
    # Calibrated confidence of a page (stages/reading/judging.py): below the first it is
    # read again by the second reader, below the other nobody could read it.
    doubt_below: float = Field(default=92.0, ge=0, le=100)
    hold_below: float = Field(default=75.0, ge=0, le=100)
    # A page that the second reader is not sure of is believed when it has this share
    # of its words in common with the first reading; handwriting has a third at most.
    agree_above: float = Field(default=0.5, ge=0, le=1)
    # Every word that the readers read differently is in doubt, not numbers alone.
    strict: bool = False


class Cutting(Value):
    """A line in doubt, cut out of its page; its number among the layout's."""

    line: int
    box: Box
    readings: tuple[str, ...]  # what the first, and the second, made of it
    png: str  # base64


class PageRequest(Value):
    """
    One page to read.

    Attributes:
        path: The document's bytes, under any name.
        index: Of the page, from 0.
        passwords: Tried in turn on a PDF that asks for one.
        once: The second reader looks at what the first makes too little of.
        first: For the second reader, the words of the first on the picture it read.
        turned: Degrees clockwise by which that had been turned.
        numbers_alone: The first is certain of the rest: see `second.numbers`.
        fonts: What other pages of the document told of its fonts.
    """

    path: str
    media_type: str
    index: int = Field(ge=0)
    reader: ReaderSettings = ReaderSettings()
    passwords: tuple[str, ...] = Field(default=(), repr=False)
    once: bool = False
    first: tuple[Word, ...] = ()
    turned: Turn = 0
    numbers_alone: bool = False
    fonts: KnownFonts = Field(default_factory=dict)


class PageReading(Value):
    """
    One reader's reading of a page.

    Attributes:
        code: Why it is UNREADABLE, where that is known.
        confidence: Calibrated, 0-100: see `stages.reading.judging.judge`.
        ink: Share of dark pixels, 0-1.
        covered: Share of the ink in believed words, 0-1.
        hidden: Characters that nobody sees on the page; not in `text`.
        doubtful: Another should read it too.
        noticed: The language it seems to be in, where it was read as another.
        numbers: Something on it looks like an amount, a date, a number or a code.
        picture: JPEG, base64; of a page in doubt.
        crops: Lines with words in doubt, the worst first.
        fonts: Those of the request, and what this page told of the document's.
        layout: Its words with their places, where it has any.
    """

    status: Literal["OK", "EMPTY", "UNREADABLE"]
    code: str = ""
    text: str
    words: int
    confidence: float
    ink: float = 0.0
    covered: float = 0.0
    source: Literal["ocr", "layer", "text"] = "ocr"
    engine: str = ""
    hidden: int = 0
    doubtful: bool = False
    noticed: str = ""
    numbers: bool = False
    picture: str = ""
    crops: tuple[Cutting, ...] = ()
    fonts: KnownFonts = Field(default_factory=dict)
    layout: Layout | None = None
