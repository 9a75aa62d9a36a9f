"""The pages of a document, as people see them."""

from __future__ import annotations

import json
from typing import Any

from pipeline.doubles import MemoryArtifacts
from pipeline.model import Checkpoint
from waybill.desk.pages import Pages, pages_of


def page(number: int, status: str = "OK", **more: Any) -> Checkpoint:
    """The step of one page."""
    said = {"number": number, "status": status, "text": "never shown", **more}
    name = f"page-{number}"
    return Checkpoint(number, "ocr", name, json.dumps(said), None, None, 1.0)


async def found_in(state: dict[str, Any], *history: Checkpoint) -> Pages | None:
    return await pages_of(state, history, MemoryArtifacts())


async def test_pages_recorded_are_pages_done() -> None:
    """Of the pages that the state knows; no text leaves with them."""
    found = await found_in({"page_count": 120}, page(1), page(2, confidence=91.5))

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

    assert await found_in({}, other, stage, spawn) is None


async def test_what_the_stage_says_at_last_stands() -> None:
    """A page that was given up has no step, but it was dealt with."""
    last = [
        {"number": 1, "status": "OK"},
        {"number": 2, "status": "TIMEOUT", "code": "JAIL_TIMEOUT"},
    ]

    found = await found_in({"page_count": 2, "read": last}, page(1))

    assert found is not None
    assert (found.done, found.total, found.doubtful) == (2, 2, True)
    assert found.read[1]["code"] == "JAIL_TIMEOUT"


async def test_a_blank_page_is_no_doubt() -> None:
    """There was nothing to read, and it was read."""
    found = await found_in({"facts": {"pages": 2}}, page(1, "EMPTY"))

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
    assert await found_in({"facts": "none", "page_count": "many", "read": None}) is None
