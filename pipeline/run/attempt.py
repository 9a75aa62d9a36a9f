"""
One try of a stage within its scope, and the ways in which it can end.

A stage is foreign code: it returns anything, raises anything, hangs, or is
cancelled.  Here every way becomes one value of `End`; what it does to the item is
said in endings.py.
"""

from __future__ import annotations

import math
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import anyio
import structlog
from pydantic import BaseModel

from pipeline.errors import (
    DeadlinePassed,
    Permanent,
    StageTimeout,
    Transient,
    WaybillError,
)
from pipeline.folder import BoundStage
from pipeline.model import Advance, Done, Hold, Outcome, Reject, Wait
from pipeline.run.context import Parked, Run, StageContext, StepRecorder
from pipeline.vendors.limits import Limits

log = structlog.get_logger()


@dataclass(slots=True)
class Returned:
    """
    The stage returned an outcome, and its updates fit.

    `valid` are the updates as their channels' types, `state` is what the item's
    state would be with them.
    """

    outcome: Outcome
    valid: dict[str, Any]
    state: BaseModel


@dataclass(slots=True)
class Joining:
    """The stage waits for the item's children."""


@dataclass(slots=True)
class Raised:
    """The stage raised, took too long, or returned what is no outcome."""

    error: WaybillError


@dataclass(slots=True)
class Cancelled:
    """Somebody cancelled the item."""


End = Returned | Joining | Raised | Cancelled


async def attempt(
    recorder: StepRecorder, run: Run, bound: BoundStage, limits: Limits, began: float
) -> End:
    """
    Try a stage once, beginning at `began` on anyio's clock.

    Cancelling an item goes before all else, and is looked for here alone: its
    stage does not begin, and what a stage did meanwhile does not count.
    """
    if run.cancelled:
        return Cancelled()
    end = await _in_scope(recorder, run, bound, limits, began)
    run.scope = None
    return Cancelled() if run.cancelled else end


async def _in_scope(
    recorder: StepRecorder, run: Run, bound: BoundStage, limits: Limits, began: float
) -> End:
    if run.deadline <= began:
        late = "the item's deadline was over before this stage"
        return Raised(DeadlinePassed(late))
    with anyio.CancelScope(deadline=run.deadline) as run.scope:
        try:
            async with _permit(bound, limits):
                recorder.check_lease()
                # From here: the line for a permit is not the stage's time.
                timeout_at = anyio.current_time() + bound.stage.timeout_s
                run.scope.deadline = min(run.deadline, timeout_at)
                ctx = StageContext(recorder, run, bound, run.scope.deadline)
                outcome = await bound.stage.run(run.state, ctx)
        except Parked:
            return Joining()
        except WaybillError as error:
            return Raised(error)
        except BaseExceptionGroup as group:
            # It may have joined beside other tasks.
            if group.subgroup(Parked) is not None:
                return Joining()
            return Raised(_deciding(group))
        except BaseException as error:
            # A bug is charged, retried and named, never swallowed; and so is a stage
            # that would end the process, or that plays at being cancelled.
            if _is_cancellation(error):
                raise
            log.error("stage_raised", stage=bound.name, error=type(error).__name__)
            return Raised(_bug(error))
        else:
            return _returned(run, outcome)
    if anyio.current_time() >= run.deadline:
        late = "the item's deadline passed while this stage ran"
        return Raised(DeadlinePassed(late))
    slow = f"the stage ran longer than {bound.stage.timeout_s:g} s"
    return Raised(StageTimeout(slow))


def _is_cancellation(error: BaseException) -> bool:
    """Whether a scope of ours, this one or one around it, was cancelled."""
    return (
        isinstance(error, anyio.get_cancelled_exc_class())
        and anyio.current_effective_deadline() == -math.inf
    )


def _permit(bound: BoundStage, limits: Limits) -> AbstractAsyncContextManager[None]:
    if bound.stage.limit is None:
        return nullcontext()
    return limits.hold(bound.stage.limit)


def _returned(run: Run, outcome: Any) -> Returned | Raised:
    """What a stage returned, checked before it is stored: what is stored folds."""
    try:
        outcome = _outcome(outcome, run)
        if isinstance(outcome, Wait):
            return Returned(outcome, {}, run.state)
        valid = run.pipeline.channels.validate(outcome.updates)
        state = run.pipeline.channels.apply(run.state, valid)
        return Returned(outcome, valid, state)
    except WaybillError as error:
        return Raised(error)


def _outcome(returned: Any, run: Run) -> Outcome:
    """What a stage returned, when it is an outcome; a bug has a name."""
    if not isinstance(returned, (Advance, Done, Hold, Reject, Wait)):
        said = f"the stage returned {type(returned).__name__}, which is no outcome"
        raise Permanent(said, code="BAD_OUTCOME")
    if isinstance(returned, Wait) and not isinstance(returned.for_s, (int, float)):
        raise Permanent("the stage waits for what is no time", code="BAD_OUTCOME")
    words = [getattr(returned, name, "") for name in ("code", "why")]
    if not all(isinstance(word, str) for word in words):
        said = f"code and why of {type(returned).__name__} are texts"
        raise Permanent(said, code="BAD_OUTCOME")
    if isinstance(returned, Hold):
        channels = run.pipeline.channels.model.model_fields
        for name in (*returned.needs, *returned.ask):
            if str(name).partition(".")[0] not in channels:  # or a key of one
                said = f"the hold asks for {name!r}, which is no channel"
                hint = f"its channels are {', '.join(channels)}"
                raise Permanent(said, code="BAD_OUTCOME", hint=hint)
    return returned


def _deciding(group: BaseExceptionGroup[BaseException]) -> WaybillError:
    """The error that decides, of several steps that failed together."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            return _deciding(error)
        if isinstance(error, WaybillError):
            return error
    return _bug(group.exceptions[0])


def _bug(error: BaseException) -> Transient:
    return Transient(f"the stage raised {type(error).__name__}", code="STAGE_RAISED")
