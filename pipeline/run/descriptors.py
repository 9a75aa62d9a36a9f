"""
Descriptors: a stage that opens and never closes, found before none are left.

A worker that has used most of its limit is replaced.  Its successor counts, turn by
turn, whose stages leave more open than there were; whoever left most is tried alone,
uncharged, and alone it is charged by name.  What a thread opens is counted alone only.
"""

from __future__ import annotations

import os
import resource
from typing import Protocol

import anyio

from pipeline.errors import DescriptorsCrowded, DescriptorsLeaked, WaybillError
from pipeline.model import ItemId
from pipeline.run.slate import Holder

FULL = 0.8  # of the limit
# More than a worker opens for itself: below, the limit is too low, and a new process
# would have as few.
OWN = 100
COUNT_FOR_S = 60.0  # after a process that ran short


class Try(Protocol):
    """What is known of a try of a stage: a `Holding` of the watchdog."""

    holder: Holder
    end: WaybillError | None
    over: bool


class Descriptors:
    """
    The descriptors of this process.

    Args:
        counting: Whether the process before this one ran short of them.
    """

    def __init__(self, *, counting: bool) -> None:
        self._base = used()
        self._until = anyio.current_time() + COUNT_FOR_S if counting else 0.0
        self._left: dict[ItemId, int] = {}
        self._seen: dict[ItemId, Try] = {}

    def __repr__(self) -> str:
        return f"<Descriptors used={used()} base={self._base}>"

    def before(self, holding: Try) -> int:
        """What `after` wants to know, of a turn that begins; 0: it is not counted."""
        if holding.holder.alone or self._is_counting():
            return _count()
        return 0

    def _is_counting(self) -> bool:
        # Asked at each turn: a process that need not count does not look at the clock.
        return self._until > 0 and anyio.current_time() < self._until

    def after(self, holding: Try, before: int) -> None:
        """A turn is over that began with `before`."""
        left = _count() - before
        if left:
            item = holding.holder.item
            self._left[item] = self._left.get(item, 0) + left
            self._seen[item] = holding

    def full(self, alone: Try | None) -> int:
        """
        How many are open when the process is to be replaced, else 0.

        Whoever is to blame hears of it: `alone`, or who left most.
        """
        open_now, limit = used(), _limit()
        if open_now <= limit * FULL or open_now - self._base <= OWN:
            return 0
        if alone is not None:
            alone.end = alone.end or DescriptorsLeaked.of(limit)
        elif self._left:
            most = max(self._left, key=self._left.__getitem__)
            left, holding = self._left[most], self._seen[most]
            if left > OWN / 2 and not holding.over:
                holding.end = holding.end or DescriptorsCrowded.of(left)
        return open_now


def used() -> int:
    """At least so many are open: the next one's number.  A few microseconds."""
    try:
        lowest = os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return _limit()
    os.close(lowest)
    return lowest


def _count() -> int:
    """Exactly so many are open; what is closed leaves holes that others fill."""
    try:
        return len(os.listdir("/dev/fd")) - 1  # its own
    except OSError:
        return _limit()


def _limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
