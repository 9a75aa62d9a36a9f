"""
What is asked of a reader of pages, and what it answers: values that cross the
pipe of the jail as JSON, made once on one side and checked once on the other.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from pipeline.stage import Settings, Value
from stages.formats.images import DECODED_PIXELS_MAX
from stages.layout import Box, Layout
from stages.reading.layer.fonts import KNOWN_MAX

# See `stages.reading.layer.fonts.Known`; bounded, for a jailed process fills it in.
KnownFonts = Annotated[
    dict[Annotated[str, StringConstraints(max_length=16)], bool],
    Field(max_length=KNOWN_MAX),
]


class ReaderSettings(Settings):
    """How a page is read: those keys of `[stage.ocr]` that its reader needs."""

    engine: Literal["pytesseract", "tesserocr"] = "pytesseract"
    lang: str = Field(default="eng", pattern=r"^(auto|[A-Za-z_/]+(\+[A-Za-z_/]+)*)$")
    # tesseract's page segmentation: one column of text of variable sizes.  It keeps
    # the prices of a receipt in their lines, where 3 reads columns apart.
    psm: int = Field(default=4, ge=1, le=13)
    preprocess: Literal["soft", "off"] = "soft"
    layer: Literal["check", "off"] = "check"  # text layers of PDFs: used, or ignored
    dpi: int = Field(default=300, ge=72, le=600)  # at which PDF pages are rendered
    # A4 at 600 dpi is 35 million; larger pages are made smaller, not refused.
    max_pixels: int = Field(default=40_000_000, ge=1_000_000)
    max_decoded_pixels: int = Field(default=DECODED_PIXELS_MAX, ge=1_000_000)
    # Calibrated confidence of a page (stages/reading/judging.py): below the first it is
    # read again by the second reader, below the other nobody could read it.
    doubt_below: float = Field(default=92.0, ge=0, le=100)
    hold_below: float = Field(default=75.0, ge=0, le=100)
    # A dense page takes 5 s on one core; noise can keep tesseract for hours.
    page_timeout_s: float = Field(default=120.0, gt=0)


class Line(Value):
    """A line as a reader found it; `confidence` is its words' mean, 0-100."""

    box: Box
    text: str
    confidence: float


class Cutting(Value):
    """A line in dispute, cut out of its page."""

    box: Box
    readings: tuple[str, ...]  # what each reader made of it
    png: str  # base64


class PageRequest(Value):
    """
    One page to read.

    Attributes:
        path: The document's bytes, under any name.
        index: Of the page, from 0.
        passwords: Tried in turn on a PDF that asks for one.
        first: For the second reader, the lines of the first reading.
        fonts: What other pages of the document told of its fonts.
    """

    path: str
    media_type: str
    index: int = Field(ge=0)
    reader: ReaderSettings = ReaderSettings()
    passwords: tuple[str, ...] = Field(default=(), repr=False)
    first: tuple[Line, ...] = ()
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
        doubtful: Another should read it too; only then the rest is given.
        picture: JPEG, base64.
        crops: Where it differs from the first reading, or doubts itself.
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
    picture: str = ""
    lines: tuple[Line, ...] = ()
    crops: tuple[Cutting, ...] = ()
    fonts: KnownFonts = Field(default_factory=dict)
    layout: Layout | None = None
