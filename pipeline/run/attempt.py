"""
One try of a stage within its scope, and the ways in which it can end.

A stage is foreign code: it returns anything, raises anything, hangs, or is
cancelled.  Here every way becomes one value of `End`; what it does to the item is
said in endings.py.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from pydantic import BaseModel

from pipeline.errors import (
    CODE_CHARS_MAX,
    DeadlinePassed,
    Disposition,
    Permanent,
    StageStuck,
    StageTimeout,
    Transient,
    WaybillError,
    code_of,
)
from pipeline.folder import BoundStage
from pipeline.model import Advance, Done, Hold, Outcome, Progress, Reject, Wait
from pipeline.run.blame import blamed, members
from pipeline.run.context import Abandoned, Parked, Run, StageContext, StepRecorder
from pipeline.run.frames import frames_at, frames_of
from pipeline.run.holding import Holding
from pipeline.run.slate import Holder
from pipeline.run.watchdog import Watched, tears_down
from pipeline.state import encode
from pipeline.vendors.limits import Limits

STUCK_S = 10.0  # for what a stage shields from its cancellation; arbitrary
BENEATH = 4  # levels that an update may stand in: evidence and state of a hold


@dataclass(slots=True)
class Returned:
    """
    The stage returned an outcome, and its updates fit.

    `update` are the updates as JSON text, `state` is what the item's state would be
    with them.
    """

    outcome: Outcome
    update: str
    state: BaseModel


@dataclass(slots=True)
class Joining:
    """The stage waits for the item's children."""


@dataclass(slots=True)
class Raised:
    """
    The stage raised, took too long, or returned what is no outcome.

    `frames` says where, a line each; "" where nothing was raised.
    """

    error: WaybillError
    frames: str = ""


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

    Raises:
        Abandoned: `abandon` was called meanwhile, and has seen to it.
    """
    if run.cancelled:
        return Cancelled()
    run.late_s = 0.0
    try:
        end = await _in_scope(recorder, run, bound, limits, began)
    finally:
        run.scope = None
        if run.abandoned:
            raise Abandoned
    return Cancelled() if run.cancelled else end


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
    recorder: StepRecorder, run: Run, bound: BoundStage, limits: Limits, began: float
) -> End:
    if run.deadline <= began:
        late = "the item's deadline was over before this stage"
        return Raised(DeadlinePassed(late))
    root = run.pipeline.folder.root
    cut = ""  # where it was when its time was up
    last = run.attempt + 1 >= bound.stage.retry.attempts
    holding = Holding(
        Holder(run.item.id, bound.name, run.attempt, last, run.claim.solo)
    )
    with anyio.CancelScope(deadline=run.deadline) as run.scope:
        try:
            async with _permit(recorder, run, bound, limits):
                recorder.check_lease()
                # From here: the line for a permit is not the stage's time.
                timeout_at = anyio.current_time() + bound.stage.timeout_s
                run.scope.deadline = min(run.deadline, timeout_at)
                ctx = StageContext(recorder, run, bound, run.scope.deadline)
                outcome = await Watched(_runs(run, bound, ctx), holding)
            # Validators and serializers of the state are the author's code as well.
            return _returned(run, outcome)
        except BaseException as error:
            # A bug is charged, retried and named, never swallowed; and so is a stage
            # that would end the process, or that plays at being cancelled.
            if _is_cancellation(error):
                cut = frames_at(holding.at, root) or frames_of(error, root)
                raise
            return await _ended(recorder, run, error, holding, root)
    if anyio.current_time() >= run.deadline:
        late = "the item's deadline passed while this stage ran"
        return Raised(DeadlinePassed(late), cut)
    slow = f"the stage ran longer than {bound.stage.timeout_s:g} s"
    if holding.stubborn:
        slow += ", and swallowed its cancellation"
        hint = "it catches BaseException: let what ends it pass"
        return Raised(StageTimeout(slow, hint=hint), cut)
    return Raised(StageTimeout(slow), cut)


async def _runs(run: Run, bound: BoundStage, ctx: StageContext) -> Any:
    """Fold the state, where that is yet to be done, and run the stage on it."""
    if run.unfolded is not None:
        # Its validators are the author's code as well.
        run.state = run.pipeline.channels.fold(run.item.input, run.unfolded)
        run.unfolded = None
    return await bound.stage.run(run.state, ctx)


async def _ended(
    recorder: StepRecorder,
    run: Run,
    error: BaseException,
    holding: Holding,
    root: Path,
) -> Joining | Raised:
    """How a try ended that raised; alone, or in several steps beside each other."""
    kinds = [type(one) for one in members(error)]
    if any(issubclass(kind, Parked) for kind in kinds):
        return Joining()
    if issubclass(type(error), BaseExceptionGroup) and any(
        issubclass(kind, (SystemExit, KeyboardInterrupt)) for kind in kinds
    ):
        tears_down(holding)
    # What the watchdog has found is so, whatever the stage made of it.
    known = holding.end or await blamed(recorder, run, error)
    if run.unfolded is not None and known.disposition is Disposition.HOLD:
        # There is nothing to show to a person yet.
        known = Transient("the state raised NeedsReview", code="STAGE_RAISED")
    return Raised(known, frames_of(error, root))


def _is_cancellation(error: BaseException) -> bool:
    """Whether a scope of ours, this one or one around it, was cancelled."""
    return (
        issubclass(type(error), anyio.get_cancelled_exc_class())
        and anyio.current_effective_deadline() == -math.inf
    )


def _permit(
    recorder: StepRecorder, run: Run, bound: BoundStage, limits: Limits
) -> AbstractAsyncContextManager[None]:
    if bound.stage.limit is None:
        return nullcontext()
    return _in_turn(recorder, run, bound.stage.limit, limits)


@asynccontextmanager
async def _in_turn(
    recorder: StepRecorder, run: Run, limit: str, limits: Limits
) -> AsyncIterator[None]:
    """Hold a permit of a limit; that somebody must wait for one is made known."""
    waits = limits.queues(limit)
    if waits:
        recorder.note_progress(run, Progress(run.stage, 0, 0, limit))
    async with limits.hold(limit):
        if waits:
            recorder.note_progress(run, Progress(run.stage, 0, 0))
        yield


def _returned(run: Run, outcome: Any) -> Returned:
    """
    What a stage returned, checked before it is stored: what is stored folds.

    Raises:
        Permanent: BAD_OUTCOME, naming the channel and never the value.
    """
    outcome = _outcome(outcome, run)
    if isinstance(outcome, Wait):
        return Returned(outcome, "{}", run.state)
    channels = run.pipeline.channels
    try:
        valid = channels.validate(outcome.updates)
        state = channels.apply(run.state, valid)
        if isinstance(outcome, Hold):
            _stored("evidence", outcome.evidence)
        return Returned(outcome, _update(valid), state)
    except Permanent as error:
        raise bad_outcome(error.message, error.hint) from None


def _update(valid: dict[str, Any]) -> str:
    """Updates as JSON text; of several it is said which cannot be stored."""
    try:
        return encode(valid, beneath=BENEATH)
    except Permanent:
        for name, value in valid.items():
            _stored(f"the update of {name!r}", {name: value})
        raise


def _stored(what: str, value: Any) -> None:
    try:
        encode(value, beneath=BENEATH)
    except Permanent as error:
        said = f"{what} cannot be stored: {error.message}"
        raise Permanent(said, code=error.code, hint=error.hint) from None


def _outcome(returned: Any, run: Run) -> Outcome:
    """What a stage returned, when it is an outcome; a bug has a name."""
    if not isinstance(returned, (Advance, Done, Hold, Reject, Wait)):
        raise bad_outcome(
            f"the stage returned {type(returned).__name__[:100]}, which is no outcome",
            "return Advance(…), Done(…), Hold(…), Reject(…) or Wait(…)",
        )
    if isinstance(returned, Wait) and not isinstance(returned.for_s, (int, float)):
        raise bad_outcome("the stage waits for what is no time")
    words = [getattr(returned, name, "") for name in ("code", "why")]
    if not all(isinstance(word, str) for word in words):
        raise bad_outcome(f"code and why of {type(returned).__name__} are texts")
    if words[0] != code_of(words[0]):
        raise bad_outcome(
            f"the code of {type(returned).__name__} is no word of at most "
            f"{CODE_CHARS_MAX} characters"
        )
    if isinstance(returned, Hold):
        for name in (*returned.needs, *returned.ask):
            _asked(name, run)
    return returned


def _asked(name: Any, run: Run) -> None:
    """What a hold asks a person for: a channel, or a key of one that is a mapping."""
    channels = run.pipeline.channels
    channel, dot, key = name.partition(".") if isinstance(name, str) else ("", "", "")
    if channel not in channels.model.model_fields:
        raise bad_outcome(
            f"the hold asks for {name!r}, which is no channel",
            f"its channels are {', '.join(channels.model.model_fields)}",
        )
    if dot and (not key or "," in key or not channels.has_keys(channel)):
        raise bad_outcome(
            f"the hold asks for {name!r}, but {channel!r} has no such keys",
            f"ask for {channel!r} itself, or make it a mapping",
        )


def bad_outcome(why: str, hint: str = "") -> Permanent:
    """A stage returned what cannot be stored, or what nobody could act on."""
    return Permanent(why, code="BAD_OUTCOME", hint=hint)
