"""
How calls of a vendor begin again after it was away: a few, then more.

All that waited would otherwise call at once, and a vendor that has just come back
is away again.
"""

from __future__ import annotations

import math
from collections import deque

import anyio

# So long after a breaker closed, twice as many calls may be under way each second; then
# any number.  Four thousand of one process are all there are.
RAMP_S = 12.0


class Ramp:
    """
    Calls under way of one vendor in this process, and those in line for it.

    Attributes:
        since: When its breaker closed, on anyio's clock; -inf: it never was open.
    """

    def __init__(self) -> None:
        self.since = -math.inf
        self._under_way = 0
        self._line: deque[anyio.Event] = deque()

    def __repr__(self) -> str:
        return f"<Ramp under_way={self._under_way} waiting={len(self._line)}>"

    @property
    def rises(self) -> bool:
        """Whether there is more room from moment to moment: call `let_in` often."""
        return anyio.current_time() - self.since < RAMP_S

    async def enter(self) -> None:
        """Wait until one more call may be under way, first come, first served."""
        if not self._line and self._room():
            self._under_way += 1
            return
        turn = anyio.Event()
        self._line.append(turn)
        try:
            await turn.wait()
        except BaseException:
            if turn.is_set():
                self.leave()
            else:
                self._line.remove(turn)
            raise

    def leave(self) -> None:
        """A call is over."""
        self._under_way -= 1
        self.let_in()

    def let_in(self, *, everyone: bool = False) -> None:
        """Let those in line begin for whom there is room; or all, to be refused."""
        while self._line and (everyone or self._room()):
            self._line.popleft().set()
            self._under_way += 1

    def _room(self) -> bool:
        past_s = anyio.current_time() - self.since
        return not self.rises or self._under_way + 1 <= 2**past_s
