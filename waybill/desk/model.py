"""
The desk's model: what a reviewer is shown of a hold, and what a decision becomes.

Data only: how it is drawn is `waybill/desk/terminal.py`'s affair.  Everything in
a view came out of a document and may be of any shape; whoever draws it escapes it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from pipeline.errors import Integrity, NotFound, Permanent, Usage
from pipeline.holds.parking import whole
from pipeline.holds.ruling import ruling
from pipeline.loading import IMPORT_S
from pipeline.state import clean_text, inline_or_ref
from pipeline.store.rows import HoldRow
from waybill.compose import App
from waybill.desk.state import Change, changes
from waybill.manifest import out_folder

LEASE_S = 900.0  # long enough for a careful read; taken over afterwards
REASON_CHARS_MAX = 2000

Verb = Literal["approve", "reject", "edit"]


@dataclass(frozen=True, slots=True)
class View:
    """
    A hold as it lies on the desk.

    Attributes:
        hold: The row itself; `hold.needs` is what approval must be given.
        evidence: Why the stage stopped, as short lines.
        text: The text in question; "" when there is none.
        marked: The places in `text` that caused the hold, in order, apart.
        pictures: Paths of the pictures, the pages to be looked at first.
        asks: What an edit names: a channel, or a page of one; "" when approval
            needs nothing.
    """

    hold: HoldRow
    evidence: list[str]
    text: str
    marked: list[Span]
    pictures: list[str]
    asks: str


class Span(NamedTuple):
    """A place in a text: characters `start` to before `end`."""

    start: int
    end: int


class Consequence(NamedTuple):
    """What a decision has led to so far; `file` is what was printed, if any."""

    hold: str
    item: int
    verb: str
    author: str
    decided_at: datetime
    state: str
    stage: str
    file: str | None
    at: datetime


# -- what is shown ------------------------------------------------------------------


async def find(app: App, text: str) -> HoldRow:
    """
    `h7` is a hold, `12` the newest hold of item 12.

    Raises:
        Usage: it is neither.
        NotFound: there is none.
    """
    number = text.removeprefix("h")
    if not number.isdigit() or len(number) > 18:
        raise Usage(f"{text!r} is neither a hold (h7) nor an item number (12)")
    ask = app.store.hold if text.startswith("h") else app.store.hold_of
    return await whole(await ask(int(number)), app.artifacts)


async def claim_next(app: App, tenant: str = "") -> HoldRow:
    """Claim the most urgent hold that nobody else has; NotFound: NOTHING_HELD."""
    hold = await app.store.claim_next(
        app.settings.reviewer, lease_s=LEASE_S, tenant=tenant or None
    )
    if hold is None:
        raise NotFound("nothing is held, or others are at it", code="NOTHING_HELD")
    try:
        return await whole(hold, app.artifacts)
    except Integrity:
        await app.store.release_hold(hold.id, app.settings.reviewer)
        raise


def view(app: App, hold: HoldRow) -> View:
    """What a reviewer is shown of `hold`."""
    evidence = hold.shown.get("evidence") or {}
    state = hold.shown.get("state") or {}
    pages = _rows(evidence.get("pages") if isinstance(evidence, dict) else None)
    text = str(hold.proposal.get("text") or state.get("text") or "")
    verdict = hold.proposal.get("verdict") or {}
    names = [
        *(page.get("picture") for page in pages),
        *(c.get("artifact") for page in pages for c in _rows(page.get("crops"))),
        state.get("source"),
    ]
    return View(
        hold,
        _evidence(evidence),
        text,
        spans(text, verdict.get("spans") or []),
        [str(app.artifacts.path(name)) for name in names if name],
        _asks(hold, pages),
    )


def _rows(value: Any) -> list[dict[str, Any]]:
    """The mappings of a list."""
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _asks(hold: HoldRow, pages: Sequence[dict[str, Any]]) -> str:
    """Of a channel that has a text for each page, the first page."""
    if hold.needs and hold.needs[0] == "typed" and pages:
        return f"typed.{pages[0].get('number', 1)}"
    return hold.needs[0] if hold.needs else ""


def spans(text: str, found: Sequence[dict[str, Any]]) -> list[Span]:
    """Places of a verdict, in order; what overlaps is joined to what is left of it."""
    marked: list[Span] = []
    at = 0
    for place in sorted(found, key=lambda s: (s.get("start", 0), s.get("end", 0))):
        start, end = max(at, int(place["start"])), min(int(place["end"]), len(text))
        if start < end:
            marked.append(Span(start, end))
            at = end
    return marked


def _evidence(evidence: Any) -> list[str]:
    """Short lines; without the verdict, whose places are marked in the text."""
    if isinstance(evidence, dict):
        evidence = {k: v for k, v in evidence.items() if k != "verdict"}
    return lines(evidence) if evidence else []


def lines(value: Any, name: str = "") -> list[str]:
    """JSON data as short lines a person can read."""
    head = f"{name}: " if name else ""
    if isinstance(value, dict):
        flat = [f"{k}: {_one(v)}" for k, v in value.items() if not _deep(v)]
        found = [head + "  ".join(flat)] if flat or head else []
        for key, inner in value.items():
            if _deep(inner):
                found += lines(inner, str(key))
        return found
    if isinstance(value, list):
        rows = [line for row in value for line in lines(row)]
        return [*([head.rstrip()] if head else []), *(f"  {row}" for row in rows)]
    return [head + _one(value)]


def _deep(value: Any) -> bool:
    if isinstance(value, list):
        return any(isinstance(v, (dict, list)) for v in value)
    return isinstance(value, dict)


def _one(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return " ".join(text.split())


# -- what is decided ----------------------------------------------------------------


async def becomes(
    app: App, hold: HoldRow, edits: dict[str, Any]
) -> tuple[str, list[Change]]:
    """
    The update that approves `hold` with these values by channel, and what it changes.

    Raises:
        Usage: something is needed that `edits` lacks, or a value does not fit.
    """
    pipeline = await app.catalogue.get(hold.pipeline_id, app.store, IMPORT_S)
    update = ruling(await whole(hold, app.artifacts), pipeline, edits)
    try:
        return update, await changes(app, hold.item_id, update)
    except Permanent as error:  # a typing mistake of the reviewer's, not the item's
        raise Usage(error.message, code=error.code, hint=error.hint) from None


async def decide(
    app: App,
    hold: HoldRow,
    verb: Verb,
    *,
    reason: str = "",
    digest: str = "",
    update: str | None = None,
) -> HoldRow:
    """
    Rule on `hold` as this process's reviewer; returns it with its decision.

    Args:
        digest: Of what was shown; "" takes `hold` as it was just read.
        update: As `becomes` gives it; None for a rejection.

    Raises:
        Conflict: decided before, another's lease, or another digest.
    """
    inline = ref = None
    if update is not None:
        inline, ref = await inline_or_ref(update, app.artifacts)
    return await app.store.decide(
        hold.id,
        verb=verb,
        author=app.settings.reviewer,
        reason=clean_text(reason).strip()[:REASON_CHARS_MAX],
        digest=digest or hold.digest,
        update=inline,
        ref=ref,
    )


async def consequence(app: App, hold: HoldRow) -> Consequence:
    """Where the item of a decided hold is now."""
    assert hold.decision is not None
    row = await app.store.item(hold.item_id)
    out = out_folder(app, hold.tenant, hold.batch)
    printed = sorted(out.glob(f"{row.id:08d}-*.pdf")) if out.exists() else []
    return Consequence(
        hold=f"h{hold.id}",
        item=row.id,
        verb=hold.decision.verb,
        author=hold.decision.author,
        decided_at=hold.decision.decided_at.astimezone(UTC),
        state=row.state.value,
        stage=row.stage,
        file=str(printed[0]) if printed else None,
        at=datetime.now(UTC),
    )
