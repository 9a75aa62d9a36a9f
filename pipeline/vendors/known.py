"""
What a process knows of one vendor's breaker, and has not told the others yet.

Nothing is awaited here; breakers.py tells and learns.
"""

from __future__ import annotations

import math
import random

import anyio
import structlog

from pipeline.errors import VendorAway
from pipeline.store.outside import (
    REPEATS_FLOOR,
    BreakerMove,
    BreakerNews,
    BreakerRow,
    BreakerState,
)
from pipeline.vendors.declared import VendorSpec
from pipeline.vendors.ramp import Ramp

log = structlog.get_logger()

PROBE_MORE_S = 30.0  # a probe may wait this long for its limits before it calls
# Refused items of one process come back in line at this rate, whatever they wait for:
# each of them costs a claim, and an outage must not cost more than work does.
BACK_PER_S = 100.0


class Known:
    """
    One vendor, as this process sees it.

    Attributes:
        read_at: When it was asked how it stands, on anyio's clock.
        turn: Of the breaker's row, as last read.
        until: When somebody may probe, on anyio's clock.
        repeats: That may be made, as last read.
        probing: One of ours asks for the probe.
        move: To be told, with what the calls earned and who would repeat one.
    """

    def __init__(self, spec: VendorSpec) -> None:
        self.name = spec.name
        self.share = spec.retry_share
        self.timeout_s = spec.timeout_s
        self.probe_s = spec.timeout_s + spec.connect_s + PROBE_MORE_S
        self.state: BreakerState = "closed"
        self.read_at = -math.inf
        self.turn = 0
        self.until = -math.inf
        self.repeats = REPEATS_FLOOR
        self.ramp = Ramp()
        self.probing = False
        self.move: BreakerMove = ""
        self.earned = 0.0
        self.asks: list[Ask] = []
        self._policy = spec.breaker
        self._in_a_row = 0
        self._failures = 0
        self._back_at = -math.inf

    @property
    def has_news(self) -> bool:
        """Whether there is something to tell."""
        return bool(self.move or self.earned or self.asks)

    def news(self) -> BreakerNews:
        """What to tell; what was earned is taken."""
        earned, self.earned = self.earned, 0.0
        return BreakerNews(
            self.name,
            self.turn,
            self.move,
            self._failures,
            self._policy.open_s,
            self._policy.max_s,
            earned,
            len(self.asks),
        )

    def learn(self, row: BreakerRow) -> None:
        """What the database says, unless it was before what we know."""
        if row.turn < self.turn:
            return
        self.repeats = row.repeats
        if row.turn > self.turn:
            if self.move or row.state != self.state:
                log.info(
                    "breaker_moved",
                    vendor=self.name,
                    state=row.state,
                    for_s=round(row.left_s, 1),
                )
            self.turn = row.turn
            self.move = ""
            self._in_a_row = 0
        elif self.move:
            return  # ours is yet to be told
        now = anyio.current_time()
        if row.state == "closed":
            self._back_at = -math.inf
        self.state = row.state
        self.until = now + row.left_s
        away_s = row.closed_for_s
        self.ramp.since = -math.inf if away_s is None else now - away_s
        self.ramp.let_in(everyone=self.state != "closed")

    def may_be_asked(self) -> bool:
        """Whether calls may begin, or a probe."""
        return self.state == "closed" or (
            not self.probing and not self.move and self.until <= anyio.current_time()
        )

    def alive(self, turn: int) -> None:
        """A call of this turn was answered."""
        if turn == self.turn:
            self._in_a_row = 0

    def failed(self, turn: int) -> None:
        """A call was not; after some in a row nobody calls the vendor."""
        if turn != self.turn or self.state != "closed":
            return
        self._in_a_row += 1
        if self._in_a_row >= self._policy.after:
            self.propose("open", failures=self._in_a_row)

    def propose(self, move: BreakerMove, *, failures: int) -> None:
        """Have a move told; an opening is one for this process at once."""
        self.move = move
        self._failures = failures
        if move == "open":
            self.state = "open"
            self.until = anyio.current_time() + self._policy.open_s

    def open(self) -> VendorAway:
        """What whoever may not call is told."""
        left_s = self.until - anyio.current_time()
        # While a probe is under way nobody knows for how long.
        known = self.state == "open" and left_s > 0
        return VendorAway(
            f"the vendor {self.name} failed several times in a row; calls are paused",
            hint="nothing to do: one call at a time tries whether it is back",
            retry_after_s=self._back_s(left_s if known else random.uniform(0.5, 1.5)),
        )

    def used_up(self) -> VendorAway:
        """What whoever may not repeat a call is told."""
        return VendorAway(
            f"too many calls of the vendor {self.name} failed to repeat this one now",
            code="RETRY_BUDGET",
            hint="nothing to do: it is repeated when others are answered",
            retry_after_s=self._back_s(random.uniform(1, 5)),
        )

    def _back_s(self, after_s: float) -> float:
        """Not before that, and not with all the others."""
        now = anyio.current_time()
        self._back_at = max(self._back_at + 1 / BACK_PER_S, now + after_s)
        return self._back_at - now


class Ask:
    """Somebody who would repeat a call, and waits to be told whether."""

    __slots__ = ("decided", "granted")

    def __init__(self) -> None:
        self.decided = anyio.Event()
        self.granted = False
