"""How far a document is, as people are told."""

from __future__ import annotations

import json
from typing import Any

from pipeline.model import Checkpoint
from pipeline.store.port import WorkRow
from tests.unit.engine import MemoryArtifacts
from waybill.desk.pages import Pages, bar, pages_of, work_line


def page(number: int, status: str = "OK", **more: Any) -> Checkpoint:
    """The step of one page."""
    said = {"number": number, "status": status, "text": "never shown", **more}
    name = f"page-{number}"
    return Checkpoint(number, "ocr", name, json.dumps(said), None, None, 1.0)


async def told(state: dict[str, Any], *history: Checkpoint) -> Pages | None:
    return await pages_of(state, history, MemoryArtifacts())


async def test_pages_recorded_are_pages_done() -> None:
    """Of the pages that the state knows; no text leaves with them."""
    found = await told({"page_count": 120}, page(1), page(2, confidence=91.5))

    assert found is not None
    assert (found.done, found.total, found.doubtful) == (2, 120, False)
    assert found.read[1] == {
        "number": 2,
        "status": "OK",
        "code": "",
        "confidence": 91.5,
        "source": "",
    }


async def test_other_steps_are_no_pages() -> None:
    """A step of another name, and a stage, say nothing of pages."""
    other = page(1)._replace(step="page-one")
    stage = page(2)._replace(step=None)
    spawn = page(3)._replace(step="spawn:page-3")

    assert await told({}, other, stage, spawn) is None


async def test_what_the_stage_says_at_last_stands() -> None:
    """A page that was given up has no step, but it was dealt with."""
    last = [
        {"number": 1, "status": "OK"},
        {"number": 2, "status": "TIMEOUT", "code": "JAIL_TIMEOUT"},
    ]

    found = await told({"page_count": 2, "read": last}, page(1))

    assert found is not None
    assert (found.done, found.total, found.doubtful) == (2, 2, True)
    assert found.read[1]["code"] == "JAIL_TIMEOUT"


async def test_a_blank_page_is_no_doubt() -> None:
    """There was nothing to read, and it was read."""
    found = await told({"facts": {"pages": 2}}, page(1, "EMPTY"))

    assert found is not None
    assert (found.done, found.total, found.doubtful) == (1, 2, False)


async def test_a_page_too_long_for_a_row_counts() -> None:
    """Its record is an artifact."""
    artifacts = MemoryArtifacts()
    name = await artifacts.put(b'{"number": 1, "status": "UNREADABLE"}')
    stored = page(1)._replace(update=None, ref=name)

    found = await pages_of({}, [stored], artifacts)

    assert found is not None
    assert (found.done, found.total, found.doubtful) == (1, 1, True)


async def test_states_of_other_kinds_have_no_pages() -> None:
    """A pipeline's own state may use the same words for something else."""
    assert await told({"facts": "none", "page_count": "many", "read": None}) is None


def test_the_bar_is_as_full_as_the_work() -> None:
    """Empty, half, full; and never longer than it is."""
    bars = [bar(done, 10, 10) for done in (0, 5, 10, 99)]

    full = [sum(s.end - s.start for s in b.spans if s.style == "green") for b in bars]

    assert [len(b.plain) for b in bars] == [10] * 4
    assert full == [0, 5, 10, 10]
    assert len(bar(3, 0, 10).plain) == 10  # of a length that nobody knows


def test_a_documents_line_is_short_and_shows_what_hides() -> None:
    """Names are other people's: they are cut, and cannot turn the screen round."""
    _, text = work_line(WorkRow(1, "contract\u202e.pdf" + "x" * 100, "ocr", 61, 120))

    assert text.plain.startswith("contract\\u202e.pdf")
    assert text.plain.endswith("…  ocr  61/120 pages")
    assert len(text.plain) < 80
