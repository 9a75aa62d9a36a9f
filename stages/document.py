"""
The state of a document on its way: the channels the built-in stages share.

A pipeline that needs more fields subclasses `Document` in its own `state.py`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from pipeline.stage import merge

PRINTED = "printed"  # the product of a finished document: its print-ready PDF


class PageStatus(StrEnum):
    """How the reading of one page ended.  Every page has exactly one."""

    OK = "OK"
    EMPTY = "EMPTY"  # no ink: a blank page
    UNREADABLE = "UNREADABLE"  # ink that no reader could make text of
    TIMEOUT = "TIMEOUT"
    KILLED_MEMORY = "KILLED_MEMORY"
    SKIPPED_LIMIT = "SKIPPED_LIMIT"  # not tried: too many pages before it failed
    ERROR = "ERROR"  # `code` says which


class Crop(BaseModel):
    """A cutting of a page that a person should look at."""

    page: int
    box: tuple[int, int, int, int]  # left, top, right, bottom; pixels of the page
    artifact: str  # sha256 of a PNG
    readings: list[str] = Field(default_factory=list)  # what each reader made of it


class PageText(BaseModel):
    """What was read from one page."""

    number: int
    status: PageStatus
    code: str = ""  # why, of any status but OK and EMPTY; "" where nobody knows
    text: str = ""
    words: int = 0
    confidence: float = 0.0  # 0-100, calibrated: see stages/reading/judging.py
    ink: float = 0.0  # share of dark pixels, 0-1: blank is known by ink, not text
    covered: float = 0.0  # share of the ink inside words, 0-1
    source: Literal["", "ocr", "layer", "text", "person"] = ""
    engine: str = ""
    language: str = ""  # it was read as, in tesseract's names
    noticed: str = ""  # the language it seems to be in, where that is another
    hidden: int = 0  # characters that nobody sees on the page; never in `text`
    doubtful: int = 0  # words that are marked so in the layout
    layout: str = ""  # artifact: JSON of `stages.layout.Layout`, where there is one
    picture: str = ""  # artifact of a small picture, where a person must look
    crops: list[Crop] = Field(default_factory=list)


class Span(BaseModel):
    """A place in `Document.text` and why it matters: [start, end) characters."""

    start: int
    end: int
    category: str
    rule: str


class Vote(BaseModel):
    """
    A second opinion on a text: it may raise a verdict, and lowers none.

    Attributes:
        by: Who was asked, as `[stage.moderation] second` names it.
        says: Whether a person must read the text; `away`: there is no vote.
        categories: What for.
        why: A model's own sentence, which may repeat the text: evidence, no reason.
        model: The one that really answered.
        code: Why there is no vote.
        alarm: There is no vote, and what was said instead asks for a person.
    """

    by: str
    says: Literal["hold", "pass", "away"]
    categories: list[str] = Field(default_factory=list)
    why: str = ""
    model: str = ""
    code: str = ""
    alarm: bool = False


class Verdict(BaseModel):
    """The machine's opinion of a text.  A person's ruling is a decision."""

    action: Literal["allow", "hold", "block"]
    categories: list[str] = Field(default_factory=list)
    spans: list[Span] = Field(default_factory=list)
    personal: list[Span] = Field(default_factory=list)  # personal data found
    votes: list[Vote] = Field(default_factory=list)  # of second opinions
    grave: bool = False  # a person alone lets it pass, and answers it
    care: list[str] = Field(default_factory=list)  # notes for whoever answers it


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
    # Of a part of a larger PDF: its pages, from 1; last_page 0 means to the end.
    first_page: int = 1
    last_page: int = 0
    media_type: str = ""
    page_count: int = 0
    read: list[PageText] = Field(default_factory=list)
    # Page number -> what a person typed, of pages that no machine could read.
    typed: Annotated[dict[str, str], merge] = Field(default_factory=dict)
    text: str = ""  # pages in order, form feed between them
    confidence: float = 0.0
    verdict: Verdict | None = None
    # A person's: who may answer what is grave, and of what passed and should have
    # been held, the category that it belongs to.
    answer_by: Literal["", "machine", "person"] = ""
    missed: str = ""
    reply: Reply | None = None
    printed: Printed | None = None
    # Product -> its file, beneath the batch's output folder.
    files: Annotated[dict[str, str], merge] = Field(default_factory=dict)
    facts: Annotated[dict[str, Any], merge] = Field(default_factory=dict)
