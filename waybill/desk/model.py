"""
The desk's model: what a reviewer is shown of a hold, and what a decision becomes.

Data only: how it is drawn is `waybill/desk/terminal.py`'s affair.  Everything in
a view came out of a document and may be of any shape; whoever draws it escapes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from pipeline.errors import Integrity, NotFound, Permanent, Usage, WaybillError
from pipeline.holds.parking import whole
from pipeline.holds.ruling import LISTED_BY, ruling
from pipeline.loading import IMPORT_S
from pipeline.model import State
from pipeline.names import number_in
from pipeline.state import clean_text, inline_or_ref
from pipeline.store.refusals import no_such_role, not_theirs
from pipeline.store.rows import HoldRow
from waybill.compose import App
from waybill.desk.evidence import Line, Span, lines, places, spans
from waybill.desk.pieces import Piece, pieces, rows_of
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
        evidence: Why the stage stopped, as lines a person reads.
        text: The text in question; "" when there is none.
        marked: The places in `text` that caused the hold, in order, apart.
        pieces: The files there are to look at, the pages in question first.
        asks: What an edit names: a channel, or a page of one; "" when approval
            needs nothing.
        outlook: What each decision would make of the item, by verb; {} when decided.
    """

    hold: HoldRow
    evidence: list[Line]
    text: str
    marked: list[Span]
    pieces: list[Piece]
    asks: str
    outlook: dict[str, Outlook]


class Outlook(NamedTuple):
    """
    What a decision would make of an item.

    Attributes:
        then: Where it would be: a stage, or an end, in words.
        changes: Of its state, beside what the reviewer gives.
        unknown: Why `changes` cannot be told; "" when they are.
    """

    then: str
    changes: list[Change]
    unknown: str = ""


class Consequence(NamedTuple):
    """
    What a decision has led to so far; `file` is its PDF, if any.

    Where the item is held once more, `next_hold` is that hold, with its code.
    """

    hold: str
    item: int
    verb: str
    author: str
    decided_at: datetime
    state: str
    stage: str
    file: str | None
    at: datetime
    next_hold: str | None = None
    next_code: str = ""


# -- what is shown ------------------------------------------------------------------


async def find(app: App, text: str) -> HoldRow:
    """The hold that `text` names (see `row_of`), with what stands in artifacts."""
    return await whole(await row_of(app, text), app.artifacts)


async def row_of(app: App, text: str) -> HoldRow:
    """
    `h7` is a hold, `12` the newest hold of item 12.

    Raises:
        Usage: it is neither.
        NotFound: there is none.
    """
    number = number_in(text.removeprefix("h"))
    if number is None:
        raise Usage(f"{text!r} is neither a hold (h7) nor an item number (12)")
    ask = app.store.hold if text.startswith("h") else app.store.hold_of
    return await ask(number)


async def claim_next(app: App, tenant: str = "", role: str = "") -> HoldRow:
    """
    Claim the most urgent hold of a role's line that nobody else has.

    Raises:
        Conflict: ROLE_NEEDED, the reviewer has it not; NotFound: NOTHING_HELD.
    """
    if role and role not in app.settings.roles:
        raise no_such_role(role)
    hold = await app.store.claim_next(
        app.settings.reviewer, lease_s=LEASE_S, tenant=tenant or None, role=role
    )
    if hold is None:
        raise NotFound("nothing is held, or others are at it", code="NOTHING_HELD")
    try:
        return await whole(hold, app.artifacts)
    except Integrity:
        await app.store.release_hold(hold.id, app.settings.reviewer)
        raise


def may_rule(app: App, hold: HoldRow) -> bool:
    """Whether this process's reviewer has the hold's role, where it has one."""
    return hold.role in ("", *app.settings.roles)


async def claim(app: App, hold: HoldRow) -> HoldRow:
    """Take `hold` for this reviewer; Conflict: another's, decided, ROLE_NEEDED."""
    if not may_rule(app, hold):
        raise not_theirs(hold)
    who = app.settings.reviewer
    return await app.store.claim_hold(hold.id, who, lease_s=LEASE_S)


async def view(app: App, hold: HoldRow) -> View:
    """What a reviewer is shown of `hold`."""
    evidence = hold.shown.get("evidence") or {}
    state = hold.shown.get("state") or {}
    text = str(hold.proposal.get("text") or state.get("text") or "")
    verdict = hold.proposal.get("verdict")
    found = pieces(app, hold)
    if isinstance(evidence, dict):
        # The verdict's places are marked in the text.
        pages = rows_of(evidence.get("pages"))
        evidence = {k: v for k, v in evidence.items() if k != "verdict"}
        evidence = with_what_is_asked(hold, evidence)
    else:
        pages = []
    return View(
        hold,
        lines(evidence, {piece.artifact: piece.name for piece in found}),
        text,
        spans(text, places(verdict.get("spans") if isinstance(verdict, dict) else [])),
        found,
        _asks(hold, pages),
        {} if hold.decision else await outlook(app, hold),
    )


def with_what_is_asked(hold: HoldRow, evidence: dict[str, Any]) -> dict[str, Any]:
    """Evidence, but of names that are in no doubt their number, and what lists them."""
    key, way = LISTED_BY.get(hold.code, ("", ""))
    names = evidence.get(key)
    if not isinstance(names, str) or not names:
        return evidence
    count = len(names.split(", "))
    said = f"{count} not in doubt: `waybill review {way.format(hold.id)}` lists them"
    return {**evidence, key: said}


def _asks(hold: HoldRow, pages: Sequence[dict[str, Any]]) -> str:
    """Of a channel that has a text for each page, the first page."""
    if hold.needs and hold.needs[0] == "typed" and pages:
        return f"typed.{pages[0].get('number', 1)}"
    return hold.needs[0] if hold.needs else ""


async def outlook(app: App, hold: HoldRow) -> dict[str, Outlook]:
    """What approving an open hold, or editing where something is needed, and
    rejecting it would make of its item."""
    if hold.again:
        then = f"goes through {hold.stage} again" + ", with it" * bool(hold.needs)
    else:
        then = f"goes on to {hold.next_stage}" if hold.next_stage else "is done"
    unknown, found = "", list[Change]()
    try:
        # As if nothing were needed: what the machine proposes beside that.
        _, found = await becomes(app, hold._replace(needs=[]), {})
    except WaybillError as error:  # its pipeline cannot be read any more, for one
        unknown = error.message
    given = {name.partition(".")[0] for name in hold.needs}
    found = [change for change in found if change.channel not in given]
    return {
        "edit" if hold.needs else "approve": Outlook(then, found, unknown),
        "reject": Outlook("ends, rejected", []),
    }


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
        Conflict: decided before, another's lease, or another digest; ROLE_NEEDED.
    """
    if not may_rule(app, hold):
        raise not_theirs(hold)
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
    named = [str(p.facts.get("file", "")) for p in await app.store.products(row.id)]
    made = [out / name for name in named if name.endswith(".pdf")]
    held = await app.store.hold_of(row.id) if row.state is State.HELD else None
    return Consequence(
        hold=f"h{hold.id}",
        item=row.id,
        verb=hold.decision.verb,
        author=hold.decision.author,
        decided_at=hold.decision.decided_at.astimezone(UTC),
        state=row.state.value,
        stage=row.stage,
        file=str(made[0]) if made else None,
        at=datetime.now(UTC),
        next_hold=held and f"h{held.id}",
        next_code=held.code if held else "",
    )
