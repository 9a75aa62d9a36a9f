"""
The pages of a document: how many were read, and what became of each.

Pages are steps called `page-<n>`; how many there are stands in the state.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from pipeline.model import Checkpoint
from pipeline.stage import Artifacts
from pipeline.state import update_of

STEP = "page-"
WELL = ("OK", "EMPTY")  # a blank page is read, too


class Pages(NamedTuple):
    """The pages of one document."""

    done: int
    total: int
    read: list[dict[str, Any]]  # number, status, code, confidence, source: no text

    @property
    def doubtful(self) -> bool:
        """Whether a page did not end well."""
        return any(page["status"] not in WELL for page in self.read)


async def pages_of(
    state: dict[str, Any], history: Sequence[Checkpoint], artifacts: Artifacts
) -> Pages | None:
    """Of an item with this state and history; None when it has no pages."""
    found: dict[int, dict[str, Any]] = {}
    for c in history:
        number = (c.step or "").removeprefix(STEP)
        if c.step == f"{STEP}{number}" and number.isdecimal():
            page = json.loads(await update_of(c, artifacts))
            found[int(number)] = _line(int(number), page)
    for page in state.get("read") or []:
        # The stage's last word: it may have read a page again, or given it up.
        if isinstance(page, dict) and isinstance(page.get("number"), int):
            found[page["number"]] = _line(page["number"], page)
    facts = state.get("facts")
    probed = facts.get("pages") if isinstance(facts, dict) else None
    total = state.get("page_count") or probed
    total = total if isinstance(total, int) else 0
    if not found and not total:
        return None
    read = [found[number] for number in sorted(found)]
    return Pages(len(read), max(total, len(read)), read)


def _line(number: int, page: Any) -> dict[str, Any]:
    page = page if isinstance(page, dict) else {}
    return {
        "number": number,
        "status": str(page.get("status", "")),
        "code": str(page.get("code", "")),
        "confidence": page.get("confidence", 0.0),
        "source": str(page.get("source", "")),
    }
