"""An asyncio loop whose clock jumps to the next timer when nothing is ready."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any


class _Jumping(selectors.DefaultSelector):
    """Never sleeps: what would have been a wait is added to the clock."""

    elapsed_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        events = super().select(0)
        if not events:
            self.elapsed_s += timeout
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """asyncio in virtual time, as `trio.testing.MockClock` does for trio."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        # A clock that stood still between two reads would let a timer that is due
        # "now" miss its instant by a rounding error, for ever.
        self._jumping.elapsed_s += 1e-9
        return self._jumping.elapsed_s
