"""
The state of a document on its way: the channels the built-in stages share.

A pipeline that needs more fields subclasses `Document` in its own `state.py`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from pipeline.stage import merge


class Page(BaseModel):
    """One normalised page: an upright image in the artifact store."""

    number: int  # from 1
    artifact: str  # sha256 of an image tesseract can read as it is
    width: int  # pixels
    height: int
    dpi: int  # as found or assumed


class PageText(BaseModel):
    """What was read from one page."""

    number: int
    status: Literal["ok", "empty", "unreadable"]
    text: str = ""
    words: int = 0
    confidence: float = 0.0  # 0-100, mean over words, weighted by their length
    ink: float = 0.0  # share of dark pixels, 0-1: blank is known by ink, not text


class Span(BaseModel):
    """A place in `Document.text` and why it matters: [start, end) characters."""

    start: int
    end: int
    category: str
    rule: str


class Verdict(BaseModel):
    """The machine's opinion of a text.  A person's ruling is a decision."""

    action: Literal["allow", "hold", "block"]
    categories: list[str] = Field(default_factory=list)
    spans: list[Span] = Field(default_factory=list)
    personal: list[Span] = Field(default_factory=list)  # personal data found


class Reply(BaseModel):
    """The answer that will be printed."""

    greeting: str
    paragraphs: list[str]
    closing: str
    writer: str  # "offline-template" or the model's name, plainly


class Printed(BaseModel):
    """The manifest row of a finished document."""

    artifact: str  # sha256 of the PDF
    file: str  # name under the batch's output folder
    pages: int
    size_bytes: int


class Document(BaseModel):
    """State of one document; every field is a channel."""

    source: str  # sha256 of the raw bytes
    media_type: str = ""
    pages: list[Page] = Field(default_factory=list)
    read: list[PageText] = Field(default_factory=list)
    text: str = ""  # pages in order, form feed between them
    confidence: float = 0.0
    verdict: Verdict | None = None
    reply: Reply | None = None
    printed: Printed | None = None
    facts: Annotated[dict[str, Any], merge] = Field(default_factory=dict)
