"""
How a stage's try ends: what is written of it, and where the item goes.

Nothing here is written or awaited; carry.py does what an `Ending` says.
"""

from __future__ import annotations

import random
from typing import NamedTuple, assert_never

import structlog
from pydantic import BaseModel

from pipeline.bound import BoundStage
from pipeline.errors import (
    Disposition,
    LeaseLost,
    LimitWait,
    Trouble,
    VendorAway,
    WaybillError,
    code_of,
)
from pipeline.holds.parking import park
from pipeline.model import (
    Advance,
    Attempt,
    Claim,
    Done,
    Finish,
    Hold,
    Move,
    Product,
    Reject,
    State,
    ToJoining,
    ToWaiting,
    Wait,
)
from pipeline.outbox import Planned
from pipeline.run.attempt import Cancelled, End, Joining, Raised
from pipeline.run.blame import seconds
from pipeline.run.outcomes import Returned
from pipeline.run.stay import Run
from pipeline.signals import Ask
from pipeline.state import clean_text

log = structlog.get_logger()

MESSAGE_CHARS_MAX = 500
# Aside, items look again this soon: their worker takes none while its trouble stands.
ASIDE_S = (1.0, 4.0)
# A stage that joins in one task and asks in another looks for its children this often.
JOINED_S = 30.0
# What rests is put in line by the store; it looks by itself if nobody did.
REST_S = 6 * 3600.0


class Ending(NamedTuple):
    """
    What a try comes to: all of it is written together, or nothing.

    Attributes:
        move: Where the item goes; None: on to the next stage.
        update: JSON text of the stage's checkpoint; None: there is none.
        state: The item's state in the next stage, when it goes on.
        took_s: How long the checkpointed stage took.
        attempt: The row of a try that failed.
        pause_s: So long the stage's limit rests, for every item.
        products: What the stage made; of a try that did not return, nothing.
        effects: What it planned; nothing where it runs again.
        trouble: Of the machine, which the try met: it was nobody's.
    """

    move: Move | None
    update: str | None = None
    state: BaseModel | None = None
    took_s: float = 0.0
    attempt: Attempt | None = None
    pause_s: float = 0.0
    products: tuple[Product, ...] = ()
    effects: tuple[Planned, ...] = ()
    trouble: Trouble | None = None


def ending(run: Run, bound: BoundStage, end: End, took_s: float) -> Ending:
    """
    What a try that took `took_s` seconds comes to.

    Raises:
        LeaseLost: the item is abandoned, nothing is written.
    """
    made, asks, joins = run.take_products(), tuple(run.asks.values()), run.joins
    run.asks, run.joins = {}, False
    planned = run.take_effects()
    match end:
        case Returned():
            what = _of_outcome(run, bound, end, took_s)
            if planned and what.update is not None:
                what = what._replace(effects=planned)
            return what._replace(products=made) if made else what
        case Joining() if asks:
            return Ending(_listening(run, asks, joins))
        case Joining():
            return Ending(ToJoining(run.stage, run.seq, run.attempt))
        case Raised(Trouble() as trouble):
            return Ending(aside(run, trouble), trouble=trouble)
        case Raised(LimitWait() | VendorAway() as wait):
            # Who waits has called nobody: no failure, and no pause for the others.
            back_s = wait.retry_after_s or 1.0
            return Ending(to_waiting(run, run.attempt, back_s, code_of(wait.code)))
        case Raised():
            return _of_error(run, bound, end)
        case Cancelled():
            why = "cancelled by a person"
            return Ending(Finish(State.CANCELLED, run.stage, "CANCELLED", why))
        case _:
            assert_never(end)


def _listening(run: Run, asks: tuple[Ask, ...], joins: bool) -> ToWaiting:
    """Out of the line until one of its signals is answered, or it has to look."""
    for_s = min(ask.wake_s for ask in asks)
    names = ", ".join(sorted(ask.name for ask in asks))
    why = f"the signal{'s' * (len(asks) > 1)} {names}"[:MESSAGE_CHARS_MAX]
    if joins:
        for_s, why = min(for_s, JOINED_S), f"its children and {why}"
    return ToWaiting(run.stage, run.seq, run.attempt, for_s, why, asks=asks)


def _of_outcome(run: Run, bound: BoundStage, end: Returned, took_s: float) -> Ending:
    outcome = end.outcome
    match outcome:
        case Advance() if bound.next:
            return Ending(None, end.update, end.state, took_s)
        case Advance() | Done():
            done = Finish(State.DONE, bound.name)
            return Ending(done, end.update, took_s=took_s)
        case Hold():
            parked = park(outcome, bound, run.seq, end.shown, end.update, end.lapse)
            return Ending(parked)
        case Reject():
            why = sentence(outcome.why)
            rejected = Finish(State.REJECTED, bound.name, outcome.code, why)
            return Ending(rejected, end.update)
        case Wait():
            why = sentence(outcome.why)
            return Ending(to_waiting(run, run.attempt, outcome.for_s, why))
        case _:
            assert_never(outcome)


def _of_error(run: Run, bound: BoundStage, end: Raised) -> Ending:
    """What an error does to the item: its class says."""
    error = end.error
    what = error.disposition
    code = code_of(error.code)
    said = error_text(error)
    tell = log.error if code == "STAGE_RAISED" else log.info
    tell(
        "stage_failed",
        item=run.item.id,
        stage=bound.name,
        attempt=run.attempt + 1,
        code=code,
        disposition=what.value,
        frames=end.frames.splitlines(),
    )
    charged = what is Disposition.RETRY
    failed = Attempt(bound.name, run.attempt, code, said, charged, end.frames)
    retry = bound.stage.retry
    pause_s = 0.0
    match what:
        case Disposition.ABANDON:
            raise LeaseLost("abandoned")
        case Disposition.RETRY if run.attempt + 1 < retry.attempts:
            cap_s = min(retry.cap_s, retry.base_s * 2**run.attempt)
            wait_s = max(random.uniform(0, cap_s), error.retry_after_s or 0)
            move: Move = to_waiting(
                run, run.attempt + 1, wait_s, code, alone=error.alone
            )
        case Disposition.WAIT | Disposition.ASIDE:
            # The whole limit rests, not the one call that met it.
            pause_s = error.retry_after_s or 0.0
            wait_s = error.retry_after_s or random.uniform(1, 10)
            # After a common pause everybody would call at once: spread out.
            wait_s *= random.uniform(1, 1.2)
            move = to_waiting(run, run.attempt, wait_s, code, alone=error.alone)
        case Disposition.REST:
            move = to_waiting(run, run.attempt, REST_S, code)
        case Disposition.HOLD:
            hold = Hold(code, said)
            move = park(hold, bound, run.seq, end.shown, "{}", again=error.again)
        case Disposition.REJECT:
            move = Finish(State.REJECTED, bound.name, code, said)
        case Disposition.FAIL | Disposition.RETRY:
            move = Finish(State.FAILED, bound.name, code, said)
        case _:
            assert_never(what)
    return Ending(move, attempt=failed, pause_s=pause_s)


def aside(at: Run | Claim, trouble: Trouble) -> ToWaiting:
    """Out of the line for a moment, uncharged: not the item is to blame."""
    return ToWaiting(
        at.stage, at.seq, at.attempt, random.uniform(*ASIDE_S), trouble.code
    )


def to_waiting(
    run: Run, attempt: int, for_s: float, why: str, *, alone: bool = False
) -> ToWaiting:
    """Out of the line for a while."""
    return ToWaiting(run.stage, run.seq, attempt, seconds(for_s), why, alone)


def error_text(error: WaybillError) -> str:
    """An error's message with its hint, as it may be stored."""
    said = error.message if isinstance(error.message, str) else ""
    return sentence(f"{said} ({error.hint})" if error.hint else said)


def sentence(why: str) -> str:
    """What may be stored of a stage's own words."""
    return clean_text(why)[:MESSAGE_CHARS_MAX]
