"""
Turns: who goes next when all places are taken.

Like a sofa with `size` seats and a crowd from several families: a seat that falls
free goes to the family with the fewest members sitting, and within it to whoever
came first.  So a book of 900 pages takes every seat while it is alone, and one of
them when a postcard comes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

import anyio


class Turns:
    """
    Places for `size` calls at once, shared fairly between their owners.

    An owner is whatever the calls of one document have in common; None is nobody's,
    and each such call counts alone.
    """

    def __init__(self, size: int) -> None:
        assert size >= 1
        self.size = size
        self._running: Counter[Hashable] = Counter()
        self._waiting: list[_Call] = []  # in the order of their coming

    def __repr__(self) -> str:
        running, waiting = self._running.total(), len(self._waiting)
        return f"<Turns {running} of {self.size} running, {waiting} waiting>"

    @asynccontextmanager
    async def turn(self, owner: Hashable = None) -> AsyncIterator[None]:
        """Wait for a place, and hold it for the length of the block."""
        call = _Call(owner)
        # Whoever waits is served before a place counts as free, so nobody who
        # comes later can slip in.
        if self._running.total() < self.size:
            self._seat(call)
        else:
            self._waiting.append(call)
        try:
            await call.seated.wait()
            yield
        finally:
            if call.seated.is_set():
                self._leave(call)  # also when it was cancelled as its turn came
            else:
                self._waiting.remove(call)

    def _seat(self, call: _Call) -> None:
        self._running[call.owner] += 1
        call.seated.set()

    def _leave(self, call: _Call) -> None:
        self._running[call.owner] -= 1
        if not self._running[call.owner]:
            del self._running[call.owner]
        if self._waiting:
            # `min` keeps the first of equals: first come, first served.
            after = min(self._waiting, key=lambda other: self._running[other.owner])
            self._waiting.remove(after)
            self._seat(after)


class _Call:
    """One call, from its coming to its leaving."""

    __slots__ = ("owner", "seated")

    def __init__(self, owner: Hashable) -> None:
        self.owner = self if owner is None else owner
        self.seated = anyio.Event()
