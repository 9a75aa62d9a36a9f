"""
Circuit breakers: nobody calls a vendor that failed several times in a row.
"""

from __future__ import annotations

import math
from typing import Literal

import anyio

from pipeline.errors import Throttled

BreakerState = Literal["closed", "open", "half-open"]


class Breaker:
    """
    Closed: all may call.  Open: nobody.  Half-open: one probe, whose end decides.

    Every call holds a ticket, the number of the state it began in, so that the
    late failures of one outage cannot open the breaker a second time.
    """

    def __init__(self, after: int, open_s: float, max_s: float) -> None:
        self._after = after
        self._open_s = open_s
        self._max_s = max_s
        self._ticket = 0
        self._in_a_row = 0
        self._opened = 0  # times in a row, without a success between
        self._until = -math.inf
        self._probing = False
        self.state: BreakerState = "closed"

    def admit(self) -> int:
        """
        A ticket for one call.

        Raises:
            Throttled: VENDOR_OPEN, with the time until a probe may try.
        """
        if self.state == "open" and anyio.current_time() >= self._until:
            self._move("half-open")
        if self.state == "open" or self._probing:
            raise Throttled(
                "the vendor failed several times in a row; calls are paused",
                code="VENDOR_OPEN",
                hint="nothing to do: one call at a time tries whether it is back",
                retry_after_s=self.left_s() or 1.0,  # probing: ask again soon
            )
        self._probing = self.state == "half-open"
        return self._ticket

    def succeeded(self, ticket: int) -> None:
        """The vendor is alive."""
        if ticket != self._ticket:
            return
        self._in_a_row = 0
        if self.state == "half-open":
            self._opened = 0
            self._move("closed")

    def failed(self, ticket: int) -> None:
        """The vendor did not serve the call."""
        if ticket != self._ticket:
            return
        self._in_a_row += 1
        if self.state == "half-open" or self._in_a_row >= self._after:
            stay_s = min(self._open_s * 2.0 ** min(self._opened, 30), self._max_s)
            self._until = anyio.current_time() + stay_s
            self._opened += 1
            self._move("open")

    def forget(self, ticket: int) -> None:
        """The call ended without telling anything: the next one may probe."""
        if ticket == self._ticket:
            self._probing = False

    def left_s(self) -> float:
        """Seconds until a probe may try; 0 when not open."""
        if self.state != "open":
            return 0.0
        return max(0.0, self._until - anyio.current_time())

    def _move(self, state: BreakerState) -> None:
        self.state = state
        self._ticket += 1
        self._in_a_row = 0
        self._probing = False
