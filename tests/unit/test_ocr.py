"""OCR reads each page once, keeps their order, and never guesses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from pipeline.errors import Transient
from pipeline.stage import Advance, Hold, Reject
from stages.document import Document, Page, PageText
from stages.ocr import OcrSettings, ocr
from stages.page_text import parsed, status


class FakeArtifacts:
    def path(self, name: str) -> Path:
        return Path("/artifacts") / name


class FakeContext:
    """Answers child calls from `pages` by artifact name; remembers what ran."""

    def __init__(
        self,
        pages: dict[str, dict[str, Any] | Exception],
        *,
        recorded: dict[str, PageText] | None = None,
        takes_s: dict[str, float] | None = None,
        left_s: float = 1000.0,
        **settings: Any,
    ) -> None:
        self.settings = OcrSettings(**settings)
        self.artifacts = FakeArtifacts()
        self.ran: list[str] = []
        self.timeouts: list[float] = []
        self.at_once = self.at_once_max = 0
        self.recorded = recorded or {}
        self._pages = pages
        self._takes_s = takes_s or {}
        self._left_s = left_s

    def left_s(self) -> float:
        return self._left_s

    async def step(
        self, name: str, fn: Callable[..., Awaitable[Any]], *args: Any
    ) -> Any:
        if name not in self.recorded:
            self.ran.append(name)
            self.recorded[name] = await fn(*args)
        return self.recorded[name]

    async def child(self, fn: Callable[..., Any], /, **kwargs: Any) -> Any:
        assert fn.__name__ == "read_page"
        self.timeouts.append(kwargs["page_timeout_s"])
        name = Path(kwargs["path"]).name
        self.at_once += 1
        self.at_once_max = max(self.at_once, self.at_once_max)
        await anyio.sleep(self._takes_s.get(name, 1.0))
        self.at_once -= 1
        answer = self._pages[name]
        if isinstance(answer, Exception):
            raise answer
        return answer


def read(text: str, status: str = "ok", confidence: float = 90.0) -> dict[str, Any]:
    words = len(text.split())
    return {"status": status, "text": text, "words": words, "confidence": confidence}


def letter(*artifacts: str) -> Document:
    pages = [
        Page(number=number, artifact=artifact, width=1, height=1, dpi=300)
        for number, artifact in enumerate(artifacts, 1)
    ]
    return Document(source="s", pages=pages)


EMPTY = read("", "empty", 0.0)


async def test_ocr_resumes_after_the_last_recorded_page() -> None:
    """A crash repeats at most one page: recorded pages are never read again."""
    one = PageText(number=1, status="ok", text="one", words=1, confidence=80)
    ctx = FakeContext({"b": read("two words")}, recorded={"page-1": one})

    outcome = await ocr(letter("a", "b"), ctx)

    assert isinstance(outcome, Advance)
    assert outcome.updates["text"] == "one\ftwo words"
    assert outcome.updates["confidence"] == 86.7  # weighted by words
    assert ctx.ran == ["page-2"]


async def test_pages_stay_in_order() -> None:
    """Pages that finish in another order still make the text in page order."""
    ctx = FakeContext(
        {name: read(name) for name in "abcd"},
        takes_s={"a": 9.0, "b": 1.0, "c": 5.0},
        parallel_pages=3,
    )

    outcome = await ocr(letter(*"abcd"), ctx)

    assert isinstance(outcome, Advance)
    assert outcome.updates["text"] == "a\fb\fc\fd"
    assert [page.number for page in outcome.updates["read"]] == [1, 2, 3, 4]


async def test_few_pages_of_a_document_are_read_at_once() -> None:
    """A document of 40 pages holds no more than `parallel_pages` children."""
    ctx = FakeContext({"a": read("word")}, parallel_pages=2)

    await ocr(letter(*["a"] * 40), ctx)

    assert ctx.at_once_max == 2


async def test_a_blank_document_is_rejected() -> None:
    """Without ink on any page the document ends as BLANK."""
    ctx = FakeContext({"a": EMPTY})

    outcome = await ocr(letter("a", "a"), ctx)

    assert isinstance(outcome, Reject)
    assert outcome.code == "BLANK"


async def test_a_blank_back_page_is_no_obstacle() -> None:
    """An empty page between others is an empty page of the text."""
    ctx = FakeContext({"a": read("front"), "b": EMPTY, "c": read("end")})

    outcome = await ocr(letter("a", "b", "c"), ctx)

    assert isinstance(outcome, Advance)
    assert outcome.updates["text"] == "front\f\fend"
    assert outcome.updates["confidence"] == 90.0


async def test_an_unreadable_page_is_held_and_never_guessed() -> None:
    """One unreadable page holds the document; its guess is not in the text."""
    ctx = FakeContext({"a": read("sure"), "b": read("x~ q", "unreadable", 31.0)})

    outcome = await ocr(letter("a", "b"), ctx)

    assert isinstance(outcome, Hold)
    assert outcome.code == "OCR_UNREADABLE"
    assert outcome.needs == ("text",)
    assert outcome.updates["text"] == "sure\f"
    assert "page 2 of 2" in outcome.why
    [_, second] = outcome.evidence["pages"]
    assert (second["status"], second["confidence"]) == ("unreadable", 31.0)
    assert "x~ q" not in str(outcome.evidence)


async def test_a_failed_page_repeats_alone() -> None:
    """Its error is raised as it is; what was read meanwhile is kept."""
    pages: dict[str, dict[str, Any] | Exception] = {
        "a": read("one"),
        "b": Transient("too slow", code="OCR_TIMEOUT"),
        "c": read("three"),
    }
    ctx = FakeContext(pages, takes_s={"a": 5.0, "b": 1.0})

    with pytest.raises(Transient) as caught:
        await ocr(letter("a", "b", "c"), ctx)

    assert caught.value.code == "OCR_TIMEOUT"
    assert list(ctx.recorded) == ["page-1"]
    assert "page-3" not in ctx.ran
    pages["b"] = read("two")
    ctx.ran.clear()
    outcome = await ocr(letter("a", "b", "c"), ctx)
    assert isinstance(outcome, Advance)
    assert outcome.updates["text"] == "one\ftwo\fthree"
    assert ctx.ran == ["page-2", "page-3"]


async def test_a_page_gets_no_more_time_than_is_left() -> None:
    """tesseract is told to end before the stage's own time does."""
    ctx = FakeContext({"a": read("word")}, left_s=30.0, page_timeout_s=120.0)

    await ocr(letter("a"), ctx)

    assert ctx.timeouts == [30.0]


HEADER = "level\tpage\tblock\tpar\tline\tword\tleft\ttop\twidth\theight\tconf\ttext"


def table(*words: tuple[int, int, int, float, str]) -> str:
    """tesseract's TSV of words: block, paragraph, line, confidence, text."""
    rows = [HEADER, "1\t1\t0\t0\t0\t0\t0\t0\t1000\t1000\t-1\t"]
    for block, par, line, confidence, text in words:
        place = f"5\t1\t{block}\t{par}\t{line}\t1\t10\t10\t100\t20"
        rows.append(f"{place}\t{confidence}\t{text}")
    return "\n".join(rows)


def test_text_keeps_lines_and_paragraphs() -> None:
    """Lines end in a newline, paragraphs and blocks in a blank line."""
    found = parsed(
        table(
            (1, 1, 1, 90, "Dear"),
            (1, 1, 1, 90, "friend,"),
            (1, 1, 2, 90, "thank"),
            (1, 2, 1, 90, "you."),
            (2, 1, 1, 90, "Bye"),
            (2, 1, 1, -1, "ruled-line"),
            (2, 1, 1, 95, "  "),
        )
    )

    assert found.text == "Dear friend,\nthank\n\nyou.\n\nBye"
    assert found.words == 5


def test_confidence_is_weighted_by_length() -> None:
    """A long word counts for more than a short one; a doubted one covers nothing."""
    found = parsed(table((1, 1, 1, 100, "x"), (1, 1, 1, 20, "xxx")))

    assert found.confidence == 40.0
    assert found.boxes == [(10, 10, 110, 30)]


@pytest.mark.parametrize(
    ("words", "ink", "covered", "expected"),
    [
        ((), 0.0001, 0.0, "empty"),
        ((), 0.01, 0.0, "unreadable"),  # a picture, a scrawl
        ((95.0,), 0.0001, 0.0, "ok"),  # a page number
        ((95.0,), 0.05, 0.1, "unreadable"),  # a letterhead above handwriting
        ((95.0,), 0.05, 0.8, "ok"),
        ((40.0,), 0.05, 0.8, "unreadable"),
    ],
)
def test_blank_is_known_by_ink_and_reading_by_what_it_covers(
    words: tuple[float, ...], ink: float, covered: float, expected: str
) -> None:
    """No text is blank only without ink; confident words must cover the ink."""
    found = parsed(table(*((1, 1, 1, confidence, "word") for confidence in words)))

    assert status(found, ink, covered, hold_below=60.0) == expected
