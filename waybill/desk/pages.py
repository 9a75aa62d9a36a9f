"""
How far a document is: pages read of pages there are, and what became of each.

Pages are steps called `page-<n>`; how many there are stands in the state.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from rich.text import Text

from pipeline.model import Checkpoint
from pipeline.stage import Artifacts
from pipeline.store.port import WorkRow
from waybill import terminal

STEP = "page-"
LONG_PAGES = 3  # shorter documents are done before anybody has read their line
NAME_CHARS_MAX = 40
BAR_CHARS = 24
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
            text = c.update
            if text is None and c.ref is not None:
                text = (await artifacts.get(c.ref)).decode()
            found[int(number)] = _line(int(number), json.loads(text or "{}"))
    for page in state.get("read") or []:
        # The stage's last word: it may have read a page again, or given it up.
        if isinstance(page, dict) and isinstance(page.get("number"), int):
            found[page["number"]] = _line(page["number"], page)
    facts = state.get("facts")
    told = facts.get("pages") if isinstance(facts, dict) else None
    total = state.get("page_count") or told
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


def print_pages(pages: Pages) -> None:
    """A table, a page a line."""
    terminal.out.rule("pages", align="left")
    terminal.print_table(
        ["page", "status", "code", "confidence", "source"],
        ([p["number"], *(p[k] for k in KEYS)] for p in pages.read),
    )


KEYS = ("status", "code", "confidence", "source")


def bar(done: int, total: int, width: int = BAR_CHARS) -> Text:
    """So much of it is done."""
    full = round(width * min(done / max(total, 1), 1.0))
    return Text.assemble(("━" * full, "green"), ("━" * (width - full), "dim"))


def work_line(row: WorkRow) -> tuple[Text, Text]:
    """A long document in work: its bar, and where it is; stages tell pages."""
    name = terminal.visible(row.name)
    if len(name) > NAME_CHARS_MAX:
        name = name[: NAME_CHARS_MAX - 1] + "…"
    told = f"{name}  {terminal.visible(row.stage)}  {row.done}/{row.total} pages"
    return bar(row.done, row.total), Text(told)
