"""
Whose doing an error is that came out of a stage.

What a stage raises is foreign code as well: it may lie about its class, and its
attributes may be anything, or raise.  It is looked at here, once, and nobody behind
this touches it: what goes on is an error of ours, made anew.  An error that cannot be
read, and one that is the engine's to raise, is a bug of the stage: STAGE_RAISED.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from traceback import walk_tb

from pipeline import errors
from pipeline.errors import Disposition, Transient, Trouble, WaybillError, code_of
from pipeline.run.frames import ENGINE, name_of
from pipeline.run.rlimits import crippled
from pipeline.run.stay import Run, StepRecorder
from pipeline.state import clean_text
from pipeline.threads import in_thread
from pipeline.trouble import (
    FOLDER,
    Place,
    borne_out,
    look_at,
    place_of,
    starved,
    trouble_of,
)

CAUSES_MAX = 10  # of an error, looked through for one of the machine's
MEMBERS_MAX = 10_000  # of a group; arbitrary
TEXT_CHARS_MAX = 4000  # of a message, before it is cut for the store
WAIT_MAX_S = 366 * 86400.0  # the deadline ends a wait; this keeps it a number
# What is told of the machine and the lease is believed when it is found so.
CLAIMS = (Disposition.ABANDON, Disposition.ASIDE)


async def blamed(
    recorder: StepRecorder, run: Run, raised: BaseException
) -> WaybillError:
    """
    What a stage raised, as the error that says who is to blame.

    Raises nothing that `raised` could bring about.
    """
    odd = _Unread()
    # Nothing is awaited within: no cancellation of ours is lost.
    with suppress(BaseException):
        odd.look(raised, recorder)
    if odd.lost is not None:
        return odd.lost
    if odd.trouble is None:
        # A library may tell the want of descriptors in any shape.
        known = starved() or odd.known or crippled(run.item.id)
        return known or _bug(odd.first or raised, odd.why)
    if odd.folder is not None:
        # A stage may look for what it never wrote: only a folder that is not in
        # order is our trouble.
        trouble = await in_thread(look_at, *odd.folder)
        return trouble or odd.known or _bug(odd.first or raised)
    if odd.met_by_us:
        return odd.trouble
    services, at = recorder.services, (run.item.id, run.stage)
    found = borne_out(odd.trouble, services.places) or next(
        iter(await services.look()), None
    )
    if found is not None:
        services.doubts.clear(*at)
        return found
    put_off = None if odd.claimed else services.doubts.put_off(*at, odd.trouble)
    return put_off or odd.known or _bug(odd.first or raised, odd.why)


ENGINES = "it is not a stage's to raise: raise Transient, Permanent or Unacceptable"
UNREAD = "its code, message and hint are texts, and retry_after_s is a number"


class _Unread:
    """What can be learnt of an error; as far as it went, when looking raises."""

    def __init__(self) -> None:
        self.first: BaseException | None = None
        self.known: WaybillError | None = None
        self.lost: WaybillError | None = None
        self.trouble: Trouble | None = None
        self.met_by_us = False  # our own code did, on its behalf
        self.claimed = False  # it says so itself, and not the system
        self.folder: tuple[Place, Path] | None = None
        self.why = ""

    def look(self, raised: BaseException, recorder: StepRecorder) -> None:
        first = self.first = deciding(raised)
        if _is_ours(first):
            self.why = UNREAD
            known = _copy(first)
            self.why = ENGINES
            if known.disposition is Disposition.ABANDON:
                self.lost = _lost(recorder)
            elif not known.alone and known.disposition is not Disposition.ASIDE:
                self.known = known
            if known.disposition not in (*CLAIMS, Disposition.RETRY):
                return  # the stage decided
        places = recorder.services.places
        for one in _causes(first):
            self.claimed = issubclass(type(one), Trouble)
            self.trouble = trouble_of(one, places if one is first else ())
            if self.trouble is None:
                continue
            self.met_by_us = _is_engines(one)
            if self.claimed and not self.met_by_us:
                self.trouble = Trouble("a stage says so")
            if isinstance(one, OSError) and one.errno in FOLDER:
                place = place_of(one, places)
                assert place is not None
                self.folder = place, Path(self.trouble.where)
            return


def members(raised: BaseException) -> Iterator[BaseException]:
    """An error, or those of a group, however it is nested."""
    return islice(_members(raised), MEMBERS_MAX)


def _members(raised: BaseException) -> Iterator[BaseException]:
    left, seen = [raised], set[int]()
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if issubclass(type(one), BaseExceptionGroup):
            # As Python keeps them, whatever a class of the stage's says.
            left.extend(reversed(_EXCEPTIONS(one)))
        else:
            yield one


_EXCEPTIONS = BaseExceptionGroup.exceptions.__get__


def deciding(raised: BaseException) -> BaseException:
    """The error that decides, of several steps that failed together."""
    first = None
    for one in members(raised):
        if _is_ours(one):
            return one
        first = first or one
    return first or raised


def _is_ours(error: BaseException) -> bool:
    return issubclass(type(error), WaybillError)


def _copy(error: BaseException) -> WaybillError:
    """
    An error of ours with what this one says, whatever its class.

    Raises:
        TypeError: it says what is none of it.  And whatever reading it raises.
    """
    assert isinstance(error, WaybillError)
    kind = next(k for k in type(error).__mro__ if vars(errors).get(k.__name__) is k)
    copy: WaybillError = kind.__new__(kind)
    after_s = error.retry_after_s
    WaybillError.__init__(
        copy,
        _text(error.message),
        code=code_of(_text(error.code) or None),
        hint=_text(error.hint),
        retry_after_s=None if after_s is None else seconds(after_s),
    )
    copy.disposition = Disposition(error.disposition)
    copy.alone = bool(error.alone)
    return copy


def _text(value: object) -> str:
    """A text; of anything else nothing is said."""
    return str.__str__(value)[:TEXT_CHARS_MAX] if isinstance(value, str) else ""


def seconds(value: object) -> float:
    """
    A wait as we can keep it, from 0 to `WAIT_MAX_S`.

    Raises:
        TypeError: it is no number.
    """
    if not isinstance(value, (int, float)):
        raise TypeError("no number")
    # Of a class of the stage's: what it is, and not what it says.
    plain = int.__int__(value) if isinstance(value, int) else float.__float__(value)
    # 0.0 first: what is not a number waits for nothing.
    return float(min(max(0.0, plain), WAIT_MAX_S))


def _lost(recorder: StepRecorder) -> WaybillError | None:
    """The lease is gone when it is found so, and not because a stage says it."""
    try:
        recorder.check_lease()
    except errors.LeaseLost as lost:
        return lost
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    at: BaseException | None = error
    for _ in range(CAUSES_MAX):
        if at is None:
            return
        yield at
        at = at.__cause__ or at.__context__


def _is_engines(error: BaseException) -> bool:
    """Whether it was the engine that raised it."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    return bool(frames) and frames[-1].f_code.co_filename.startswith(ENGINE)


def _bug(error: BaseException, hint: str = "") -> Transient:
    said = f"the stage raised {clean_text(name_of(error))}"
    return Transient(said, code="STAGE_RAISED", hint=hint)
