"""
How quickly a batch moves, when it will be done, and what limits it now.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, assert_never

from pipeline.errors import LimitWait, WaybillError
from pipeline.outbox import EffectState
from pipeline.store.effects import EffectRow
from pipeline.store.limits import LimitRow
from pipeline.store.outside import RESERVED, RESTING
from pipeline.store.rows import Counts, KeptRow, Pace, StageRow
from pipeline.store.signals import SIGNAL
from pipeline.trouble import TROUBLES
from waybill import terminal
from waybill.compose import App
from waybill.health import START

PATIENCE_S = 2.0  # for a pipeline's folder that is loaded to learn a window
VENDOR = ("THROTTLED", "QUOTA")  # said by whoever was called, and what begins so:
VENDORS = "VENDOR_"
TRIED_MAX = 20  # effects of a sink that are looked through for one that has failed
UNSENT = (EffectState.PLANNED, EffectState.SENDING)
LONG_S = 1.0  # a call that waits for less is on its way
LEAST_S = 5.0  # arbitrary: whoever reads the line is no quicker
YEARS_S = 1e9  # what is further away is late in any case


class By(StrEnum):
    """What limits a batch."""

    WORKER = "worker"
    TROUBLE = "trouble"
    LIMIT = "limit"
    VENDOR = "vendor"
    RETRY = "retry"
    EFFECT = "effect"
    MONEY = "money"
    WINDOW = "window"
    WORK = "work"
    ANSWER = "answer"
    PERSON = "person"


class Brake(NamedTuple):
    """
    One thing that limits it now; `name` is a limit's, or a code.

    Without a stage it is one of calls, `name` a limit's or a vendor's; of effects
    `stage` is their sink.
    """

    by: By
    stage: str = ""
    name: str = ""
    items: int = 0
    until: datetime | None = None


async def brakes(
    app: App,
    batch_id: int | None,
    counts: Counts,
    stages: Sequence[StageRow],
    workers: int,
) -> list[Brake]:
    """What limits a batch, or everything, the gravest first."""
    found = []
    if counts.live and not workers:
        found.append(Brake(By.WORKER, items=counts.live))
    limited = await app.store.limited(batch_id)
    found += [Brake(By.LIMIT, *row) for row in limited]
    if batch_id is None:
        found += _vendors_limits(await app.store.limits())
    found += await _outside(app, batch_id, counts)
    found += [_of_waiting(row) for row in await app.store.waiting(batch_id)]
    if workers:
        windows = await _windows(app, stages, workers)
        full = [
            Brake(By.WINDOW, row.stage, str(windows[row.stage]), row.ready)
            for row in stages
            if row.ready and row.running >= windows.get(row.stage, row.running + 1)
        ]
        found += full
        if not full and not limited:
            busy = max(stages, key=lambda row: row.running, default=None)
            if busy is not None and busy.running:
                found.append(Brake(By.WORK, busy.stage, items=busy.running))
    if counts.held:
        found.append(Brake(By.PERSON, items=counts.held))
    found.sort(key=lambda brake: brake.by not in (By.WORKER, By.TROUBLE))
    return found


def still(brakes: Sequence[Brake]) -> int:
    """How many items go on only when somebody answers, or pays."""
    return sum(b.items for b in brakes if b.by in (By.ANSWER, By.MONEY))


def done_in(
    counts: Counts, pace: Pace, *, kept: bool = False, stay: int = 0
) -> float | None:
    """
    Seconds until nothing moves any more, at this pace; None: nobody knows.

    Args:
        kept: No worker is up, or trouble keeps them: this pace is a past one.
        stay: So many do not move at any pace.
    """
    if not counts.live:
        return 0.0
    moving = counts.live - stay
    return 60 * moving / pace.left if moving > 0 and pace.left and not kept else None


def when_done(
    counts: Counts,
    pace: Pace,
    due: datetime | None,
    *,
    kept: bool = False,
    stay: int = 0,
) -> str:
    """
    When it will be done, as a sentence; "" when nothing moves, nobody knows, or sooner
    than one looks: what is left then is at work, at a pace of its own.
    """
    left_s = done_in(counts, pace, kept=kept, stay=stay)
    if not counts.live or left_s is None or left_s < LEAST_S:
        return ""
    now = datetime.now(UTC)
    moving = counts.live - stay
    items = "1 item is" if moving == 1 else f"{moving} items are"
    said = f"at this pace {items} done in {terminal.span(left_s)}"
    if due is None:
        return said
    late = "after" if now + timedelta(seconds=min(left_s, YEARS_S)) > due else "before"
    return f"{said}, {late} the deadline, {terminal.clock(due)}"


def sentence(brake: Brake) -> str:
    """What a person reads."""
    items, wait = (
        ("1 item", "waits") if brake.items == 1 else (f"{brake.items} items", "wait")
    )
    match brake.by:
        case By.WORKER:
            return f"no worker: nothing moves, {START}"
        case By.LIMIT:
            return _of_limit(brake)
        case By.TROUBLE:
            kept = f"trouble: {items} {wait} before {brake.stage}, {brake.name}"
            return f"{kept}; no attempt is charged, mended it goes on by itself"
        case By.VENDOR | By.RETRY:
            if not brake.stage:
                return _of_vendor(brake)
            who = "a vendor" if brake.by is By.VENDOR else "tries that failed"
            first = "" if brake.until is None else terminal.goes_on(brake.until)
            goes_on = f"; the first {first}" if first else ""
            return f"{who}: {items} {wait} before {brake.stage}, {brake.name}{goes_on}"
        case By.EFFECT:
            effects = "1 effect" if brake.items == 1 else f"{brake.items} effects"
            first = f"; one {terminal.goes_on(brake.until)}" if brake.until else ""
            said = f"effects: {effects} to {brake.stage} {wait}, {brake.name}{first}"
            return f"{said}; `waybill effects ls --sink {brake.stage}`"
        case By.MONEY:
            why = "a budget is used up"
            if brake.name == RESERVED:
                why = "a budget has no room for their calls"
            return (
                f"money: {items} {wait} before {brake.stage}, {why}; "
                "`waybill budgets ls` says which, `budgets set` gives more"
            )
        case By.WINDOW:
            full = f"{brake.stage} has the {brake.name} that it may have"
            return f"a window: {full}, {items} in line"
        case By.WORK:
            return f"the work itself: {items} in {brake.stage}"
        case By.ANSWER:
            look = "`waybill items ls --code SIGNAL`"
            return (
                f"an answer: {items} {wait} before {brake.stage} for a signal, {look}"
            )
        case By.PERSON:
            return f"a person: {items} held, `waybill review next`"
        case _:
            assert_never(brake.by)


async def _outside(app: App, batch_id: int | None, counts: Counts) -> list[Brake]:
    """Vendors that nobody calls at the moment, and effects that do not get through."""
    counted = await app.store.count_effects(batch_id)
    unsent = Counter[str]()
    for (sink, state), number in counted.items():
        unsent[sink] += number if state in UNSENT else 0
    facts, found = app.services.sinks, []
    away = [b for b in await app.store.breakers() if b.state != "closed"]
    for one in away:
        its = [s for s in unsent if s in facts and facts[s].vendor == one.vendor]
        effects = sum(unsent[sink] for sink in its)
        if counts.live or effects:
            found.append(Brake(By.VENDOR, "", one.vendor, effects, one.until))
            for sink in its:
                del unsent[sink]  # told with it
    for sink, number in unsent.items():
        if number and (row := await _tried(app, batch_id, sink)) is not None:
            code = row.why.partition(":")[0]
            found.append(Brake(By.EFFECT, sink, code, number, row.due_at))
    return found


async def _tried(app: App, batch_id: int | None, sink: str) -> EffectRow | None:
    """One of the newest effects that are sent again, for it did not go well."""
    rows = await app.store.effects(
        batch_id=batch_id, sink=sink, states=(EffectState.PLANNED,), limit=TRIED_MAX
    )
    return next((row for row in rows if row.why and row.due_at is not None), None)


def _of_vendor(brake: Brake) -> str:
    """One that is away, whoever wants to call it."""
    now = datetime.now(UTC)
    soon = "now" if brake.until is None or brake.until <= now else ""
    if brake.until is not None and not soon:
        soon = f"in {terminal.span((brake.until - now).total_seconds())}"
    said = f"a vendor: {brake.name} is away and not called, but for one try {soon}"
    if brake.items:
        effects = (
            "1 effect waits" if brake.items == 1 else f"{brake.items} effects wait"
        )
        said += f"; {effects}"
    return f"{said}; `waybill vendors ls`"


def _vendors_limits(rows: Sequence[LimitRow]) -> list[Brake]:
    """Of each vendor the limit that its calls wait for longest."""
    found: dict[str, LimitRow] = {}
    long_ago = datetime.now(UTC) - timedelta(seconds=LONG_S)
    for row in rows:
        limits = row.rate is not None or row.concurrency is not None or row.paused_until
        if row.oldest_at is None or row.oldest_at > long_ago or not limits:
            continue  # it is on its way in
        of, _, rest = row.key.partition("/")
        vendor = rest.partition("/")[0]
        before = found.get(vendor)
        if of == "vendor" and (before is None or _wait_s(before) < _wait_s(row)):
            found[vendor] = row
    return [Brake(By.LIMIT, "", row.key, row.waiting) for row in found.values()]


def _wait_s(row: LimitRow) -> float:
    return YEARS_S if row.paused_until or row.clears_s is None else row.clears_s


def _of_limit(brake: Brake) -> str:
    one = brake.items == 1
    look = "`waybill limits ls`"
    if not brake.stage:
        calls = "1 call waits" if one else f"{brake.items} calls wait"
        return f"a limit: {calls} for {brake.name}, {look}"
    items = "1 item" if one else f"{brake.items} items"
    wait = "waits" if one else "wait"
    if brake.name == LimitWait.code:
        return f"a limit: {items} before {brake.stage} {wait} for its turn, {look}"
    return f"a limit: {items} in {brake.stage} {wait} for [limit.{brake.name}]"


def _of_waiting(row: KeptRow) -> Brake:
    if row.name in TROUBLES:
        return Brake(By.TROUBLE, *row)
    if row.name in RESTING:
        return Brake(By.MONEY, *row)
    if row.name == SIGNAL:
        return Brake(By.ANSWER, row.stage, row.name, row.items)
    if row.name == LimitWait.code:
        return Brake(By.LIMIT, *row)
    vendor = row.name in VENDOR or row.name.startswith(VENDORS)
    return Brake(By.VENDOR if vendor else By.RETRY, *row)


async def _windows(
    app: App, stages: Sequence[StageRow], workers: int
) -> dict[str, int]:
    """How many items each stage with a line may have, in all workers."""
    found = {}
    lines = await app.store.in_line([row.stage for row in stages if row.ready])
    for stage, number in lines.items():
        try:
            pipeline = await app.catalogue.get(number, app.store, PATIENCE_S)
        except WaybillError:
            continue  # its items fail, and say so
        if stage in pipeline.stages:
            found[stage] = workers * pipeline.stages[stage].stage.window
    return found
