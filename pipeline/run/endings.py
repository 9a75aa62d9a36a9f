"""
How a stage's try ends: an outcome or an error in, a move out.

Nothing here is written or awaited; the session carries the moves out.
"""

from __future__ import annotations

import random
from typing import Any

from pipeline.errors import Disposition, LeaseLost, Permanent, Transient, WaybillError
from pipeline.folder import BoundStage
from pipeline.holds.parking import park
from pipeline.model import (
    Advance,
    Attempt,
    Done,
    Finish,
    Hold,
    Move,
    Outcome,
    Reject,
    State,
    ToWaiting,
    Wait,
)
from pipeline.run.context import Run
from pipeline.state import clean_text

MESSAGE_CHARS_MAX = 500
WAIT_MAX_S = 366 * 86400.0  # the deadline ends a wait; this keeps it a number


def checked(outcome: Any) -> Outcome:
    """What a stage returned, when it is an outcome; a bug has a name."""
    if not isinstance(outcome, (Advance, Done, Hold, Reject, Wait)):
        said = f"the stage returned {type(outcome).__name__}, which is no outcome"
        raise Permanent(said, code="BAD_OUTCOME")
    if isinstance(outcome, Wait) and not isinstance(outcome.for_s, (int, float)):
        raise Permanent("the stage waits for what is no time", code="BAD_OUTCOME")
    return outcome


def first(group: BaseExceptionGroup[BaseException]) -> WaybillError:
    """The error that decides, of several steps that failed together."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            return first(error)
        if isinstance(error, WaybillError):
            return error
    name = type(group.exceptions[0]).__name__
    return Transient(f"the stage raised {name}", code="STAGE_RAISED")


def sentence(why: str) -> str:
    """What may be stored of a stage's own words."""
    return clean_text(why)[:MESSAGE_CHARS_MAX]


def message(error: WaybillError) -> str:
    """An error's sentence with its hint."""
    text = f"{error.message} ({error.hint})" if error.hint else error.message
    return sentence(text)


def wait(run: Run, attempt: int, for_s: float, why: str) -> ToWaiting:
    """Out of the line for a while."""
    # 0.0 first: what is not a number waits for nothing.
    for_s = min(max(0.0, for_s), WAIT_MAX_S)
    return ToWaiting(run.stage, run.seq, attempt, for_s, why)


def after_error(
    run: Run, bound: BoundStage, error: WaybillError
) -> tuple[Move, Attempt]:
    """
    What an error does to the item: its class says.

    Raises:
        LeaseLost: the item is abandoned, not moved.
    """
    what = error.disposition
    said = message(error)
    charged = what is Disposition.RETRY
    attempt = Attempt(bound.name, run.attempt, error.code, said, charged)
    retry = bound.stage.retry
    match what:
        case Disposition.ABANDON:
            raise LeaseLost("abandoned")
        case Disposition.RETRY if run.attempt + 1 < retry.attempts:
            cap_s = min(retry.cap_s, retry.base_s * 2**run.attempt)
            wait_s = max(random.uniform(0, cap_s), error.retry_after_s or 0)
            move: Move = wait(run, run.attempt + 1, wait_s, error.code)
        case Disposition.WAIT:
            wait_s = error.retry_after_s or random.uniform(1, 10)
            # After a common pause everybody would call at once: spread out.
            wait_s *= random.uniform(1, 1.2)
            move = wait(run, run.attempt, wait_s, error.code)
        case Disposition.HOLD:
            move = park(Hold(error.code, said), bound, run.seq, run.state, "{}")
        case Disposition.REJECT:
            move = Finish(State.REJECTED, bound.name, error.code, said)
        case Disposition.FAIL | Disposition.RETRY:
            move = Finish(State.FAILED, bound.name, error.code, said)
    return move, attempt
