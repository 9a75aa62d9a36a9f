"""
Errors, and what each of them does to the item.

An error's class answers one question: what happens to the item?  The worker
reads `disposition` and nothing else decides.  `code` is a stable word that
people script against; `hint` says what to do next.  Messages never carry the
text of a document.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import ClassVar


class Disposition(StrEnum):
    """What happens to an item when its stage raises."""

    RETRY = "retry"  # charged attempt, again after a jittered delay
    WAIT = "wait"  # throttled or away: again later, no attempt charged
    REST = "rest"  # out of line until the store finds that it can go on: no attempt
    ASIDE = "aside"  # our own trouble: again when it is mended, nobody's attempt
    HOLD = "hold"  # a person must look
    REJECT = "reject"  # a fact about the document: final, not our failure
    FAIL = "fail"  # dead letter with its code; `waybill items retry` revives it
    ABANDON = "abandon"  # this worker lost the item: write nothing more


CODE_CHARS_MAX = 100


def code_of(word: object) -> str:
    """A code as it can be stored and scripted against: a short word, or UNNAMED."""
    if isinstance(word, str) and len(word) <= CODE_CHARS_MAX and word.isprintable():
        return word
    return "UNNAMED"


class WaybillError(Exception):
    """
    Base of every error of ours.

    Args:
        message: One sentence, without document text or secrets.
        code: A stable word; the class's own when not given.
        hint: What to do next, for a person.
        retry_after_s: With WAIT or RETRY: not sooner than this.
    """

    disposition: Disposition = Disposition.FAIL
    alone: bool = False  # the next try runs alone in a worker
    again: bool = False  # held, and approved: the stage runs once more
    code: str = "INTERNAL"
    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        hint: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.retry_after_s = retry_after_s
        if code is not None:
            self.code = code


# -- what a stage raises ----------------------------------------------------------


class Transient(WaybillError):
    """Something that may well work next time: charged, retried with jitter."""

    disposition = Disposition.RETRY
    code = "TRANSIENT"


class StageTimeout(Transient):
    """The stage ran longer than its `timeout_s`."""

    code = "STAGE_TIMEOUT"


class StageStuck(StageTimeout):
    """It did not end either when it was cancelled; its next try runs alone."""

    alone = True

    @classmethod
    def of(cls, timeout_s: float, grace_s: float) -> StageStuck:
        """After its time, and `grace_s` more to clean up."""
        return cls(
            f"the stage ran longer than {timeout_s:g} s, and did not end within "
            f"{grace_s:g} s of its cancellation",
            hint="shield nothing from cancellation that may wait without end",
        )


class LoopBlocked(Transient):
    """
    The stage held up the loop, and everything else in its worker with it.

    Its next try runs alone in a worker process.
    """

    code = "LOOP_BLOCKED"
    alone = True

    @classmethod
    def of(cls, blocked_s: float, at: str) -> LoopBlocked:
        """After `blocked_s` seconds, `at` these frames, without their values."""
        return cls(
            f"the stage held up the loop for {blocked_s:g} s at {at or 'a call in C'}",
            hint="await what waits, and run what computes by `ctx.jailed`",
        )


class LoopCrowded(WaybillError):
    """Like `LoopBlocked`, too soon to be charged: others have done so as well."""

    disposition = Disposition.WAIT
    code = "LOOP_BLOCKED"
    alone = True

    @classmethod
    def of(cls, for_s: float) -> LoopCrowded:
        """After `for_s` seconds; it is tried alone, soon."""
        said = f"the stage held up the loop for {for_s:.1f} s, and is tried alone"
        return cls(said, retry_after_s=0.1)


class MemoryOutgrown(Transient):
    """The stage, alone in its worker, took more memory than a worker may have."""

    code = "WORKER_MEMORY"
    alone = True

    @classmethod
    def of(cls, memory_bytes: int) -> MemoryOutgrown:
        """More than `memory_bytes`."""
        return cls(
            f"with nothing else in hand its worker outgrew {memory_bytes >> 20} MiB",
            hint="keep less at once, or run it by `ctx.jailed`; "
            "WAYBILL_WORKER_MEMORY_BYTES is the bound",
        )


class DescriptorsLeaked(Transient):
    """The stage, alone in its worker, opened what it did not close."""

    code = "DESCRIPTORS_LEAKED"
    alone = True

    @classmethod
    def of(cls, limit: int) -> DescriptorsLeaked:
        """Most of a process' `limit`."""
        return cls(
            f"with nothing else in hand it left most of {limit} descriptors open",
            hint="close files and connections: open them by `with`",
        )


class DescriptorsCrowded(WaybillError):
    """Like `DescriptorsLeaked`, in company: uncharged, it is tried alone."""

    disposition = Disposition.WAIT
    code = "DESCRIPTORS_LEAKED"
    alone = True

    @classmethod
    def of(cls, left: int) -> DescriptorsCrowded:
        """Of all stages it left most open; it is tried alone, soon."""
        said = f"the stage left {left} descriptors open, and is tried alone"
        return cls(said, retry_after_s=0.1)


class Throttled(WaybillError):
    """An outside service asked us to slow down: wait, no attempt charged."""

    disposition = Disposition.WAIT
    code = "THROTTLED"
    exit_code = 10


class VendorAway(Throttled):
    """
    A vendor is not called, by what we know of it: nobody's try has failed.

    VENDOR_OPEN: it failed several times in a row.  RETRY_BUDGET: so much fails that
    this call is not repeated now.
    """

    code = "VENDOR_OPEN"


class BudgetUsedUp(WaybillError):
    """
    No budget pays for the next call: the item rests until there is room again.

    Whatever it has finished stays.  A stage whose pipeline says `when_used_up =
    "degrade"` may catch this and ask for something cheaper.
    """

    disposition = Disposition.REST
    code = "BUDGET_USED_UP"
    exit_code = 10


class BudgetStops(BudgetUsedUp):
    """The same, where the pipeline says `when_used_up = "stop"`."""

    disposition = Disposition.FAIL


class CallsLimit(WaybillError):
    """The item called more often than its pipeline allows: a loop is broken."""

    disposition = Disposition.FAIL
    code = "CALLS_LIMIT"


class LimitWait(Throttled):
    """A limit of ours is busy for longer than an item may wait in a worker."""

    code = "LIMIT_WAIT"

    @classmethod
    def of(cls, key: str, wait_s: float, back_s: float) -> LimitWait:
        """For about `wait_s` seconds; who was sent away looks again after `back_s`."""
        return cls(
            f"the limit {key} lets nobody begin for about {wait_s:.0f} s",
            hint="`waybill limits ls` shows who waits",
            retry_after_s=back_s,
        )


class NeedsReview(WaybillError):
    """Raised where a stage cannot return `Hold`; the item is held."""

    disposition = Disposition.HOLD
    code = "NEEDS_REVIEW"


class PartMissing(NeedsReview):
    """A part that its stage cannot do without is not done; it looks anew."""

    code = "PART_MISSING"
    again = True


class Unacceptable(WaybillError):
    """The document itself is not acceptable; no retry will change that."""

    disposition = Disposition.REJECT
    code = "UNACCEPTABLE"


class Permanent(WaybillError):
    """No retry will help: a dead letter with a code."""

    disposition = Disposition.FAIL
    code = "PERMANENT"


class DeadlinePassed(WaybillError):
    """
    The item's deadline is over: nothing of it starts any more.

    Attributes:
        in_line: Why, of one that was over before its stage.
    """

    disposition = Disposition.FAIL
    code = "DEADLINE_PASSED"
    in_line = "the item's deadline was over before this stage"
    exit_code = 6


class SignalTimeout(WaybillError):
    """A stage asked the world outside, and no answer came in its time."""

    disposition = Disposition.FAIL
    code = "SIGNAL_TIMEOUT"


# -- what the engine raises ---------------------------------------------------------


class Trouble(WaybillError):
    """
    Our own trouble: a disk, descriptors, memory.  No item is to blame.

    `pipeline/trouble.py` says which errors of the operating system it is.

    Attributes:
        where: What it is trouble with: a folder, or this machine.
        folder: Whether `where` is a folder, which can be tried.
    """

    disposition = Disposition.ASIDE
    code = "TROUBLE"
    exit_code = 3

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        hint: str = "",
        where: str = "",
        folder: bool = False,
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.where = where
        self.folder = folder


class Unproven(WaybillError):
    """A stage met what would be our trouble, and nothing of ours is in trouble."""

    disposition = Disposition.ASIDE
    code = "TROUBLE"


class LeaseLost(WaybillError):
    """
    This worker was replaced: stop, and write nothing more.

    Raised by every store method that writes for a worker.  Its items have not
    failed; they are, or soon will be, worked elsewhere.
    """

    disposition = Disposition.ABANDON
    code = "LEASE_LOST"


class StoreUnavailable(WaybillError):
    """
    The database did not answer.

    `in_doubt` is true when the failure came while committing, so the
    transaction may stand; the caller must look before it writes again.
    """

    disposition = Disposition.ABANDON
    code = "DATABASE_UNAVAILABLE"
    exit_code = 3

    def __init__(self, message: str, *, in_doubt: bool = False, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.in_doubt = in_doubt


class Refused(WaybillError):
    """The database refused these rows (a constraint, a bad value): our mistake."""

    code = "REFUSED"


class Conflict(WaybillError):
    """Somebody else did it first; the message names who and when."""

    code = "CONFLICT"
    exit_code = 7


class NotFound(WaybillError):
    """No such item, hold, batch or tenant."""

    code = "NOT_FOUND"
    exit_code = 9


class Usage(WaybillError):
    """
    The call or the configuration is wrong; the hint says how to mend it.

    Attributes:
        beside: Other things that are wrong with it; see `pipeline.faults`.
    """

    code = "USAGE"
    exit_code = 2
    beside: Sequence[Usage] = ()


class Integrity(WaybillError):
    """The database contradicts itself (the conservation law, a checksum)."""

    code = "INTEGRITY"
    exit_code = 8
