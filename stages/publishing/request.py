"""
What the jailed side of `searchable` is asked, and what it answers.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.stage import Settings, Value
from stages.formats.images import DECODED_PIXELS_MAX

# What a call leaves in its scratch folder.
PDF_FILE, RECORD_FILE = "document.pdf", "document.json"
LAYOUT_FILES = {"hocr": "document.hocr", "alto": "document.xml"}


class SearchableSettings(Settings):
    """Keys of `[stage.searchable]`."""

    # Files with the places of words in forms that other programs read.
    layouts: tuple[Literal["hocr", "alto"], ...] = ()
    # PDFs made of pictures and text are PDF/A-2b.  `ghostscript` makes PDFs that
    # came as such PDF/A too: their pages are written anew, and may grow.
    pdfa: Literal["pictures", "ghostscript"] = "pictures"
    # Faces that text is set in, each for what those before it lack; what is not
    # installed is passed over, but for the first.
    fonts: tuple[str, ...] = Field(
        default=(
            "DejaVu Sans Mono",
            "DejaVu Sans",
            "Klee One",
            "Noto Sans CJK SC",
            "Noto Sans Arabic",
            "Noto Sans Devanagari",
            "Noto Sans Thai",
        ),
        min_length=1,
    )
    size_pt: Annotated[float, Field(ge=4, le=24)] = 9.0
    max_decoded_pixels: int = Field(default=DECODED_PIXELS_MAX, ge=1_000_000)


class Sheet(Value):
    """
    One page, as it was read.

    Attributes:
        source: "ocr", "layer", "text", "person"; "" where nothing could be read.
        layout: Path of its `Layout` as JSON; "" where there is none.
    """

    number: int
    status: str
    code: str = ""
    source: str = ""
    reader: str = ""
    language: str = ""
    confidence: float = 0.0
    doubtful: int = 0
    layout: str = ""


class Request(Value):
    """
    A document to write.

    Attributes:
        path: Its bytes, under any name.
        text: Path of its text: UTF-8, form feed between pages.
        first: Of its pages in the file, from 1.
    """

    item: int
    source: str
    name: str
    path: str
    media_type: str
    text: str
    confidence: float
    sheets: tuple[Sheet, ...]
    first: int = 1
    settings: SearchableSettings = SearchableSettings()
    passwords: tuple[str, ...] = Field(default=(), repr=False)


class Made(Value):
    """
    What was written.

    Attributes:
        untouched: The PDF that came is the one that goes: it has nothing to add.
        pdfa: "2b" where it is PDF/A; "" where that is not known.
        crops: Cuttings that the record links to: file name -> artifact.
    """

    untouched: bool
    pdfa: str = ""
    crops: dict[str, str] = Field(default_factory=dict)
