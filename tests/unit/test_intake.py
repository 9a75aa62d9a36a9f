"""Intake makes pages once, in ranges, and refuses what it cannot take."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import Transient, Unacceptable
from pipeline.stage import Advance, Item
from stages.document import Document, Page
from stages.intake import IntakeSettings, PageRange, intake

SOURCE = "5" * 64


class FakeArtifacts:
    """Names files instead of keeping them."""

    def __init__(self) -> None:
        self.kept: list[str] = []

    async def put_file(self, path: Path) -> str:
        self.kept.append(path.name)
        return f"sha-of-{path.name}"

    def path(self, name: str) -> Path:
        return Path("/artifacts") / name


class FakeContext:
    """Answers child calls from `pages`; remembers which steps ran."""

    def __init__(
        self,
        pages: int,
        *,
        recorded: dict[str, PageRange] | None = None,
        passed_through: bool = False,
        skip: int = 0,
        refusal: Unacceptable | None = None,
        **settings: Any,
    ) -> None:
        self.item = Item(1, "t", "b", 1, "letter.pdf", {})
        self.settings = IntakeSettings(**settings)
        self.artifacts = FakeArtifacts()
        self.ran: list[str] = []
        self._pages = pages
        self._recorded = recorded or {}
        self._passed_through = passed_through
        self._skip = skip
        self._refusal = refusal

    async def step(
        self, name: str, fn: Callable[..., Awaitable[Any]], *args: Any
    ) -> Any:
        if name in self._recorded:
            return self._recorded[name]
        self.ran.append(name)
        return await fn(*args)

    async def child(self, fn: Callable[..., Any], /, **kwargs: Any) -> Any:
        if fn.__name__ == "probe":
            if self._refusal is not None:
                raise self._refusal
            return {"media_type": "application/pdf", "pages": self._pages, "note": ""}
        assert fn.__name__ == "normalise"
        assert kwargs["path"] == f"/artifacts/{SOURCE}"
        return [
            {
                "number": number,
                "file": None
                if self._passed_through
                else f"{kwargs['out_dir']}/page-{number}.png",
                "width": 2480,
                "height": 3508,
                "dpi": kwargs["dpi"],
            }
            for number in range(kwargs["first"], kwargs["last"] + 1)
            if number != self._skip
        ]


def page(number: int, artifact: str = "recorded") -> Page:
    return Page(number=number, artifact=artifact, width=1, height=1, dpi=300)


async def test_pages_are_made_in_ranges_and_order() -> None:
    """45 pages are three steps; every page is stored and in order."""
    ctx = FakeContext(45)

    outcome = await intake(Document(source=SOURCE), ctx)

    assert isinstance(outcome, Advance)
    assert ctx.ran == ["pages-1-20", "pages-21-40", "pages-41-45"]
    assert [p.number for p in outcome.updates["pages"]] == list(range(1, 46))
    assert ctx.artifacts.kept == [f"page-{number}.png" for number in range(1, 46)]
    assert outcome.updates["media_type"] == "application/pdf"


async def test_intake_resumes_after_the_last_recorded_range() -> None:
    """A crash repeats at most one range: recorded pages are never made again."""
    done = PageRange(pages=[page(1), page(2)])
    ctx = FakeContext(3, recorded={"pages-1-2": done}, pages_per_step=2)

    outcome = await intake(Document(source=SOURCE), ctx)

    assert ctx.ran == ["pages-3-3"]
    assert ctx.artifacts.kept == ["page-3.png"]
    assert isinstance(outcome, Advance)
    names = [p.artifact for p in outcome.updates["pages"]]
    assert names == ["recorded", "recorded", "sha-of-page-3.png"]


async def test_a_readable_image_is_its_own_page() -> None:
    """What tesseract reads as it lies is not stored a second time."""
    ctx = FakeContext(1, passed_through=True)

    outcome = await intake(Document(source=SOURCE), ctx)

    assert isinstance(outcome, Advance)
    assert [p.artifact for p in outcome.updates["pages"]] == [SOURCE]
    assert ctx.artifacts.kept == []


async def test_a_fault_of_the_document_rejects_it() -> None:
    """The reader's code reaches the worker as it is; no page is made."""
    locked = Unacceptable("the PDF needs a password", code="PDF_ENCRYPTED")
    ctx = FakeContext(1, refusal=locked)

    with pytest.raises(Unacceptable) as caught:
        await intake(Document(source=SOURCE), ctx)

    assert caught.value.code == "PDF_ENCRYPTED"
    assert ctx.ran == []


async def test_a_page_that_vanishes_is_noticed() -> None:
    """A renderer that skips a page silently cannot lose it."""
    ctx = FakeContext(3, skip=2)

    with pytest.raises(Transient) as caught:
        await intake(Document(source=SOURCE), ctx)

    assert caught.value.code == "PAGES_MISSING"
