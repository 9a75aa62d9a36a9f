"""
One try of a stage within its scope, and the ways in which it can end.

A stage is foreign code: it returns anything, raises anything, hangs, or is
cancelled.  Here every way becomes one value of `End`; what it does to the item is
said in endings.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from pipeline.bound import BoundStage
from pipeline.calls import WhenUsedUp
from pipeline.cancellation import is_cancellation
from pipeline.errors import (
    BudgetUsedUp,
    DeadlinePassed,
    Disposition,
    LimitWait,
    StageStuck,
    StageTimeout,
    Transient,
    WaybillError,
)
from pipeline.model import Progress
from pipeline.run.blame import blamed, members
from pipeline.run.context import StageContext
from pipeline.run.frames import frames_at, frames_of
from pipeline.run.holding import Holding
from pipeline.run.outcomes import Returned, bad_outcome, returned, shown
from pipeline.run.outside import Permits
from pipeline.run.slate import Holder
from pipeline.run.stay import Abandoned, Parked, Run, StepRecorder, memoised
from pipeline.run.watchdog import Watched, tears_down
from pipeline.vendors.uses import Use

# In line for a permit: so long, or until so many had theirs.  Who would wait longer
# waits in the database.
PATIENCE_S = (60.0, 600.0)
PATIENCE_CALLS = 10
DEGRADED = "degraded"  # the step that says so, and why
STUCK_S = 10.0  # for what a stage shields from its cancellation; arbitrary
UNSHOWN = "the stage raised NeedsReview, but its state cannot be shown to a reviewer"


@dataclass(slots=True)
class Joining:
    """The stage waits: for the item's children, or for signals."""


@dataclass(slots=True)
class Raised:
    """
    The stage raised, took too long, or returned what is no outcome.

    `frames` says where, a line each; "" where nothing was raised.  `shown` is what a
    reviewer sees of an item that it holds, as JSON text.
    """

    error: WaybillError
    frames: str = ""
    shown: str = ""


@dataclass(slots=True)
class Cancelled:
    """Somebody cancelled the item."""


End = Returned | Joining | Raised | Cancelled


async def attempt(
    recorder: StepRecorder,
    run: Run,
    bound: BoundStage,
    limits: Permits,
    began: float,
) -> End:
    """
    Try a stage once, beginning at `began` on anyio's clock.

    Cancelling an item goes before all else, and is looked for here alone: its
    stage does not begin, and what a stage did meanwhile does not count.

    Raises:
        Abandoned: `abandon` was called meanwhile, and has seen to it.
    """
    if run.cancelled:
        return Cancelled()
    run.late_s = 0.0
    run.under_way = set()
    run.in_line = 0
    try:
        end = await _in_scope(recorder, run, bound, limits, began)
    finally:
        run.scope = None
        if run.abandoned:
            raise Abandoned
    return Cancelled() if run.cancelled else end


def use_of(run: Run, limit: str) -> Use:
    """
    A permit of a `[limit.NAME]`: of its pipeline, whichever version.

    Of versions that differ the newest says how often.
    """
    key = f"pipeline/{run.pipeline.name}/{limit}"
    return Use(key, run.pipeline.limits[limit], rank=run.item.pipeline_id)


def abandon(run: Run, bound: BoundStage) -> End:
    """Count as over a try that does not end; whatever it does then is refused."""
    run.abandoned = True
    if run.cancelled:
        return Cancelled()
    if anyio.current_time() - run.late_s >= run.deadline:
        late = "the item's deadline passed while this stage ran, and it did not end"
        return Raised(DeadlinePassed(late))
    return Raised(StageStuck.of(bound.stage.timeout_s, STUCK_S))


async def _in_scope(
    recorder: StepRecorder,
    run: Run,
    bound: BoundStage,
    limits: Permits,
    began: float,
) -> End:
    if run.deadline <= began:
        return Raised(DeadlinePassed(DeadlinePassed.in_line))
    root = run.pipeline.folder.root
    cut = ""  # where it was when its time was up
    last = run.attempt + 1 >= bound.stage.retry.attempts
    holding = Holding(
        Holder(run.item.id, bound.name, run.attempt, last, run.claim.solo)
    )
    limit, timeout_s = bound.stage.limit, bound.stage.timeout_s
    # The line for a permit is not the stage's time.
    until = run.deadline
    if limit is None:
        until = min(until, began + timeout_s)
    with anyio.CancelScope(deadline=until) as run.scope:
        try:
            if limit is None:
                outcome = await _watched(recorder, run, bound, until, holding)
            else:
                async with _in_turn(recorder, run, limit, limits):
                    until = min(run.deadline, anyio.current_time() + timeout_s)
                    run.scope.deadline = until
                    outcome = await _watched(recorder, run, bound, until, holding)
            # Validators and serializers of the state are the author's code as well.
            return returned(outcome, run)
        except BaseException as error:
            # A bug is charged, retried and named, never swallowed; and so is a stage
            # that would end the process, or that plays at being cancelled.
            if is_cancellation(error):
                cut = frames_at(holding.at, root) or frames_of(error, root)
                raise
            return await _ended(recorder, run, error, holding, root)
    if anyio.current_time() >= run.deadline:
        late = "the item's deadline passed while this stage ran"
        return Raised(DeadlinePassed(late), cut)
    slow = f"the stage ran longer than {timeout_s:g} s"
    if holding.stubborn:
        slow += ", and swallowed its cancellation"
        hint = "it catches BaseException: let what ends it pass"
        return Raised(StageTimeout(slow, hint=hint), cut)
    return Raised(StageTimeout(slow), cut)


def _watched(
    recorder: StepRecorder, run: Run, bound: BoundStage, until: float, holding: Holding
) -> Watched:
    recorder.check_lease()
    return Watched(_runs(recorder, run, bound, until), holding)


async def _runs(
    recorder: StepRecorder, run: Run, bound: BoundStage, until: float
) -> Any:
    """Fold the state, where that is yet to be done, and run the stage on it."""
    if run.unfolded is not None:
        # Its validators are the author's code as well.
        run.state = run.pipeline.channels.fold(run.item.input, run.unfolded)
        run.unfolded = None
    less = bound.degraded
    why = ""
    if less is not None and run.deadline - anyio.current_time() < less.when_left_s:
        why = "time"
    elif less is not None and (bound.name, DEGRADED) in run.memo:
        why = "as before"
    if not why:
        try:
            return await _run_with(recorder, run, bound, until, "")
        except (BudgetUsedUp, BaseExceptionGroup) as error:
            short = any(isinstance(one, BudgetUsedUp) for one in members(error))
            policy = run.pipeline.budget.when_used_up
            if less is None or not short or policy is not WhenUsedUp.DEGRADE:
                raise
            why = "money"
    return await _run_with(recorder, run, bound, until, why)


async def _run_with(
    recorder: StepRecorder, run: Run, bound: BoundStage, until: float, why: str
) -> Any:
    """Run the stage; where time or money is short, and that is on record, with less."""
    if why:
        await memoised(recorder, run, (bound.name, DEGRADED), _because, why)
    ctx = StageContext(recorder, run, bound, until, bool(why))
    return await bound.stage.run(run.state, ctx)


async def _because(why: str) -> str:
    return why


async def _ended(
    recorder: StepRecorder,
    run: Run,
    error: BaseException,
    holding: Holding,
    root: Path,
) -> Joining | Raised:
    """How a try ended that raised; alone, or in several steps beside each other."""
    if type(error) is LimitWait:
        return Raised(error)
    kinds = [type(one) for one in members(error)]
    if any(issubclass(kind, Parked) for kind in kinds):
        return Joining()
    if issubclass(type(error), BaseExceptionGroup) and any(
        issubclass(kind, (SystemExit, KeyboardInterrupt)) for kind in kinds
    ):
        tears_down(holding)
    # What the watchdog has found is so, whatever the stage made of it.
    known = holding.end or await blamed(recorder, run, error)
    frames = frames_of(error, root)
    if known.disposition is not Disposition.HOLD:
        return Raised(known, frames)
    if run.unfolded is not None:
        # There is nothing to show to a person yet.
        known = Transient("the state raised NeedsReview", code="STAGE_RAISED")
        return Raised(known, frames)
    seen = ""
    # Its serializers are the author's code as well; nothing is awaited in them.
    with suppress(BaseException):
        seen = shown(None, run)
    if not seen:
        known = holding.end or bad_outcome(UNSHOWN)
    return Raised(known, frames, seen)


@asynccontextmanager
async def _in_turn(
    recorder: StepRecorder, run: Run, limit: str, limits: Permits
) -> AsyncIterator[None]:
    """Hold a permit of a limit; that somebody must wait for one is made known."""
    uses = [use_of(run, limit)]
    waits = limits.queues(uses)
    if waits:
        recorder.note_progress(run, Progress(run.stage, 0, 0, limit))
    least_s, most_s = PATIENCE_S
    ten_s = PATIENCE_CALLS * uses[0].spec.every_s
    patience_s = min(max(least_s, ten_s), most_s)
    async with limits.hold(
        uses, patience_s=patience_s, deadline=run.deadline, item=run.item.id
    ):
        if waits:
            recorder.note_progress(run, Progress(run.stage, 0, 0))
        yield
