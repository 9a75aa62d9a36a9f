"""
Limits of this process (memory, files), which a stage may set for all.

They are put back.  Python tells of its own calls, so that one which somebody sets from
outside stays as it is.  C code that calls the kernel itself is not seen.  What is
lower for good has the process replaced, and until then fails nobody but who did it; so
has what is lower for a minute, whoever did that: its successor begins as this one did.
"""

from __future__ import annotations

import math
import resource
import sys
import time
from contextlib import suppress
from typing import Any

import structlog

from pipeline.errors import Unproven
from pipeline.model import ItemId
from pipeline.run.holding import HOLDING, Holding

log = structlog.get_logger()

LIMITS = (
    *(resource.RLIMIT_AS, resource.RLIMIT_DATA, resource.RLIMIT_STACK),
    *(resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE),
    *(resource.RLIMIT_CPU, resource.RLIMIT_NPROC),
)
EVENTS = frozenset({"resource.setrlimit", "resource.prlimit"})
# It is told before it is done: a thread may take so long in between.
SET_S = 0.5
# So long they may be lower than at first: by somebody outside, who may raise them
# again; by somebody in here, who lowers them as often as they are put back.
LOWER_S, LOWERED_S = 60.0, 5.0

Limits = list[tuple[int, int]]  # soft and hard, of each of `LIMITS`


class Rlimits:
    """The limits of this process, as they were before anybody in it set one."""

    def __init__(self) -> None:
        self.touched = False  # somebody was about to
        self.lowered: Holding | None = None  # who did, for good
        self._were: Limits = []
        self._by: Holding | None = None
        self._heard_at = 0.0
        self._depth = sys.getrecursionlimit()
        self._first = limits()
        self._mended = False  # since the last look
        self._lower_since: float | None = None

    def __repr__(self) -> str:
        return f"<Rlimits touched={self.touched} {limits()}>"

    def listen(self) -> None:
        """From now on, hear who sets one."""
        if not LISTENING:
            sys.addaudithook(_heard)  # for as long as the process lives
        LISTENING[:] = [self]

    def note(self) -> None:
        """Somebody in this process, in whatever thread, is about to set one."""
        self._heard_at = time.monotonic()
        if not self.touched:
            self._were, self._by = limits(), HOLDING.get()
            self.touched = True

    def mend_depth(self) -> None:
        """With fewer calls in each other than it began with, the loop would end."""
        if sys.getrecursionlimit() < self._depth:
            sys.setrecursionlimit(self._depth)
            log.warning("recursion_limit_mended")

    def put_back(self) -> bool:
        """Put back what was set; False where the process may not any more."""
        names = {} if self._by is None else self._by.names()
        settled = time.monotonic() - self._heard_at > SET_S
        found = limits()
        kept = [
            _put_back(what, now, were)
            for what, now, were in zip(LIMITS, found, self._were, strict=True)
            if now != were
        ]
        self._mended = self._mended or _lower(found, self._were)
        if False in kept:
            self.lowered = self.lowered or self._by
            self._were = limits()  # as far as it may
            log.warning("limits_lowered", **names)
        elif kept:
            log.warning("limits_mended", **names)
        self.touched = not settled
        return False not in kept

    def lower_for_long(self) -> bool:
        """
        Whether each look, for a while, found one lower than at first.

        Or put back once more since the look before: a thread lowers it.
        """
        now = time.monotonic()
        mended, self._mended = self._mended, False
        if not mended and not _lower(limits(), self._first):
            self._lower_since = None
            return False
        if self._lower_since is None:
            self._lower_since = now
        return now - self._lower_since > (LOWERED_S if mended else LOWER_S)


LISTENING: list[Rlimits] = []


def limits() -> Limits:
    """The soft and the hard limit of each of `LIMITS`."""
    return [resource.getrlimit(what) for what in LIMITS]


def crippled(item: ItemId) -> Unproven | None:
    """Another item has lowered them for good: what this one meets is not its doing."""
    for by in [each.lowered for each in LISTENING]:
        if by is not None and by.holder.item != item:
            said = f"item {by.holder.item} lowered the limits of its worker"
            return Unproven(said, code="LIMITS_LOWERED", hint="it is tried again")
    return None


def _put_back(what: int, now: tuple[int, int], were: tuple[int, int]) -> bool:
    try:
        resource.setrlimit(what, were)
    except (OSError, ValueError):  # the hard one is lower, for good
        for soft in (now[1], were[0]):
            with suppress(OSError, ValueError):
                resource.setrlimit(what, (soft, now[1]))
        return False
    return True


def _lower(some: Limits, others: Limits) -> bool:
    sizes = zip(map(_size, some), map(_size, others), strict=True)
    return any(one < other for one, other in sizes)


def _size(limit: tuple[int, int]) -> float:
    return math.inf if limit[0] == resource.RLIM_INFINITY else limit[0]


def _heard(
    event: str,
    _: tuple[Any, ...],
    events: frozenset[str] = EVENTS,
    listening: list[Rlimits] = LISTENING,
) -> None:
    # Told also while the process ends, when the names of this module are gone.
    if event in events:
        for each in listening:
            each.note()
    elif event == "sys.addaudithook":
        # Nobody could take it out again, and it is asked for all that anybody does.
        holding = HOLDING.get()
        log.warning(
            "audit_hook_refused", **({} if holding is None else holding.names())
        )
        raise RuntimeError("no audit hooks in a worker")  # Python keeps that to itself
