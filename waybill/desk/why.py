"""
Why an item is where it is: what it waits for, what failed, what one can do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, assert_never

from pipeline.bound import BoundStage
from pipeline.errors import DeadlinePassed, LimitWait, VendorAway, WaybillError
from pipeline.folder import Pipeline
from pipeline.loading import IMPORT_S
from pipeline.model import State
from pipeline.store.limits import LimitRow
from pipeline.store.outside import RESTING
from pipeline.store.rows import AttemptRow, ItemRow, TroubleRow, WaitsRow
from pipeline.store.signals import SIGNAL, SignalRow
from pipeline.store.strikes import ALONE, SUSPECT
from pipeline.threads import in_thread
from pipeline.trouble import TROUBLES
from waybill import terminal
from waybill.compose import App
from waybill.health import NOBODY, paused, troubles

AWAY = (VendorAway.code, "RETRY_BUDGET")  # nobody calls it, or nobody calls again
PAUSED_MAX = 3  # limits that are named
LIVE = (State.READY, State.RUNNING, State.WAITING, State.HELD)


class Reasons(NamedTuple):
    """Everything that `items why` looks at, of one item."""

    row: ItemRow
    waits: WaitsRow
    ahead: int  # of its tenant's items in its line
    workers: int  # that are up
    hold: int | None
    children: Mapping[str, int]  # that it waits for, by state
    failures: Sequence[AttemptRow]  # newest first
    pipeline: Pipeline | None  # None: its folder cannot be read any more
    troubles: Sequence[TroubleRow]  # ours: that workers tell of, or is seen here
    troubled: int  # of the workers that are up
    signals: Sequence[SignalRow] = ()  # that it waits for
    away: Sequence[str] = ()  # vendors that nobody calls now
    paused: Sequence[LimitRow] = ()  # limits

    @property
    def stage(self) -> BoundStage | None:
        """The stage it stands at, with its policies."""
        return self.pipeline.stages.get(self.row.stage) if self.pipeline else None


async def reasons(app: App, item: int) -> Reasons:
    """Look at everything; raises NotFound."""
    store = app.store
    row = await store.item(item)
    held = row.state is State.HELD
    try:
        pipeline = await app.catalogue.get(row.pipeline_id, store, IMPORT_S)
    except WaybillError:
        pipeline = None  # items of it fail, and say so
    up = [session for session in await store.sessions() if session.left_s > 0]
    return Reasons(
        row,
        await store.waits(item),
        await store.ahead(item) if row.state is State.READY else 0,
        len(up),
        (await store.hold_of(item)).id if held else None,
        await store.children(item) if row.joining else {},
        await store.failures(item),
        pipeline,
        await in_thread(troubles, app.settings, up),
        sum(bool(session.troubles) for session in up),
        [s for s in await store.signals(item) if s.open] if row.code == SIGNAL else [],
        [b.vendor for b in await store.breakers() if b.state != "closed"]
        if row.why in AWAY
        else [],
        [one for one in await store.limits() if one.paused_until]
        if row.why == LimitWait.code
        else [],
    )


def explain(why: Reasons) -> str:
    """One paragraph, and where the last try failed, a frame a line."""
    late = why.row.deadline_at < datetime.now(UTC) and why.row.state in LIVE
    text = _place(why) + (" Its deadline is over." if late else "")
    return "\n".join([text, *_failed(why)])


def _place(why: Reasons) -> str:
    row = why.row
    where = f"Item {row.id} is {row.state.value}"
    match row.state:
        case State.READY:
            return f"{where} for {row.stage}: {_in_line(why)}"
        case State.RUNNING:
            since = f"since {terminal.ago(row.since)}"
            return f"{where}: stage {row.stage}, {since}.{_paced(why)}"
        case State.WAITING if row.joining:
            still = sum(n for state, n in why.children.items() if state in LIVE)
            return (
                f"{where} before {row.stage}: it waits for {still} of its "
                f"{_count(sum(why.children.values()), 'child', 'children')}. "
                f"Look: `waybill items ls --parent {row.id}`."
            )
        case State.WAITING if why.signals:
            return f"{where} before {row.stage}: {_asked(why)}{_nobody(why)}"
        case State.WAITING:
            tries = _count(row.attempt, "attempt is", "attempts are") + " charged"
            if why.stage:
                tries += f", of {why.stage.stage.retry.attempts}"
            return (
                f"{where} before {row.stage} because of {row.why or 'its own wish'}; "
                f"{_goes_on(row)}; {tries}."
                f"{_rests(why)}{_told_by_vendors(why)}{_put_aside(why)}{_nobody(why)}"
            )
        case State.HELD:
            return (
                f"{where} at {row.stage} for a person: {_said(row)} "
                f"Look: `waybill review show h{why.hold}`."
            )
        case State.DONE:
            return f"{where}, since {terminal.clock(row.since)}."
        case State.REJECTED | State.FAILED | State.CANCELLED:
            return (
                f"{where} at {row.stage}: {_said(row)} {_in_time(row)}"
                f"`waybill items retry {row.id}` puts it back in line; with "
                "`--pipeline current` it goes on with the folder as it stands now."
            )
        case _:
            assert_never(row.state)


def _asked(why: Reasons) -> str:
    """What it has asked the world outside for, and how to answer."""
    each = (
        f"the signal {s.name} since {terminal.clock(s.asked_at)}, until "
        f"{terminal.clock(min(s.until or why.row.deadline_at, why.row.deadline_at))}"
        for s in why.signals
        if s.asked_at is not None
    )
    first = why.signals[0].name
    return (
        f"it waits for {'; for '.join(each)}. "
        f"Answer: `waybill signal {why.row.id} {first} --json …`."
    )


def _count(number: int, one: str, many: str) -> str:
    """How many there are, in words that fit one, none and several."""
    return f"{number or 'no'} {one if number in (0, 1) else many}"


def _in_time(row: ItemRow) -> str:
    """What comes before a retry where time is over: alone it would fail again."""
    if row.code != DeadlinePassed.code or row.deadline_at > datetime.now(UTC):
        return ""
    return (
        f"First `waybill batches set {row.tenant}/{row.batch} --deadline 5d` gives its "
        "batch more time; then "
    )


def _said(row: ItemRow) -> str:
    """Code and reason as a sentence, whatever the reason ends with."""
    said = f"{row.code}: {row.why.strip()}" if row.why.strip() else row.code
    return said if said.endswith((".", "!", "?", "…")) else f"{said}."


def _goes_on(row: ItemRow) -> str:
    """When a waiting item is next due."""
    if row.why in RESTING:
        more = "`waybill budgets set BUDGET --limit …` gives more"
        return f"it goes on by itself when its budget has room ({more})"
    if row.until is None:
        return "it goes on when a worker takes it"
    return f"it {terminal.goes_on(row.until)}"


def _in_line(why: Reasons) -> str:
    """What a ready item waits for."""
    if why.workers and why.troubled == why.workers:
        return f"every worker is in trouble and takes nothing new: {_wrong(why)}"
    line = _count(
        why.ahead,
        "item of its tenant comes before it",
        "items of its tenant come before it",
    )
    who = (
        _count(why.workers, "worker is up", "workers are up") if why.workers else NOBODY
    )
    return f"{line}, and {who}.{_kept_out(why)}"


def _put_aside(why: Reasons) -> str:
    """Whose trouble a waiting item met: not its own."""
    if why.row.why not in TROUBLES:
        return ""
    if why.troubles:
        return f" That is trouble of ours, no fault of its: {_wrong(why)}"
    return " That was trouble of ours, no fault of its, and nobody tells of it now."


def _nobody(why: Reasons) -> str:
    return "" if why.workers else f" And {NOBODY}."


def _wrong(why: Reasons) -> str:
    """What is wrong, what to do, and where."""
    return "; ".join(f"{row.what} ({row.where})" for row in why.troubles) + "."


def _kept_out(why: Reasons) -> str:
    """What keeps a ready item out of its stage, beside those before it."""
    strikes, beside, _ = why.waits
    if strikes >= SUSPECT:
        company = "alone" if strikes >= ALONE else "beside none but such"
        return (
            f" {strikes} workers ended with it in their hands: it waits for its turn "
            f"to run {company} in one."
        )
    window = why.stage.stage.window * why.workers if why.stage else 0
    if window and beside >= window:
        return (
            f" The stage is full: {_count(beside, 'item is', 'items are')} in it, "
            "its window is "
            f"{why.stage.stage.window if why.stage else 0} a worker."
        )
    return ""


def _paced(why: Reasons) -> str:
    limit = why.waits.limit
    if not limit:
        return ""
    spec = why.pipeline.limits.get(limit) if why.pipeline else None
    pace = f" ({spec.rate:g} in {spec.per_s:g} s)" if spec else ""
    return f" It waits for a permit of [limit.{limit}]{pace}."


def _rests(why: Reasons) -> str:
    """A throttled item's limit rests for all of its stage."""
    last = why.failures[0] if why.failures else None
    limit = why.stage.stage.limit if why.stage else None
    if last is None or last.charged or last.code != why.row.why or limit is None:
        return ""
    if last.code in RESTING:
        return ""  # nobody else waits for its money
    return f" Every item of [limit.{limit}] waits as long as was asked for."


def _told_by_vendors(why: Reasons) -> str:
    """Who of those that it may want to call is not called at all now."""
    said = ""
    if why.away:
        said = f" Away now: {', '.join(why.away)}; look: `waybill vendors ls`."
    if why.paused:
        each = "; ".join(f"{row.key}, {paused(row)}" for row in why.paused[:PAUSED_MAX])
        said += f" Paused now: {each}; look: `waybill limits ls`."
    return said


def _failed(why: Reasons) -> list[str]:
    """The failed tries: how many, the last ones, and where the last was raised."""
    if not why.failures:
        return []
    lines = ["Failed attempts, newest first:"]
    for one in why.failures:
        charged = f"attempt {one.attempt + 1}" if one.charged else "not charged"
        ago = terminal.ago(one.at)
        lines.append(f"- {one.stage}, {charged}, {ago} ago: {one.code} {one.message}")
    at = [1 + n for n, one in enumerate(why.failures) if one.frames][:1]
    for n in at:
        frames = [f"    {frame}" for frame in why.failures[n - 1].frames]
        lines[n + 1 : n + 1] = frames
    return lines
