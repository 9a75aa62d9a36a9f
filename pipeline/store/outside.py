"""
The store's port for the world outside: what is asked of it around calls of vendors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, NamedTuple, Protocol

from pipeline.model import WorkerId

# -- breakers ----------------------------------------------------------------------

BreakerState = Literal["closed", "open", "half-open"]
# open: from closed, or after a failed probe; free: the probe told nothing.
BreakerMove = Literal["", "open", "close", "free"]

# A breaker that opens again this soon stays open for longer than the last time.
CALM_S = 60.0
# Repeats of failed calls that a vendor has in store: it grows by a share of first
# tries to the most, by time to the floor, so that a quiet service may repeat a call.
REPEATS_MAX = 500.0
REPEATS_FLOOR = 10.0
REPEATS_FLOOR_PER_S = 1.0


class BreakerRow(NamedTuple):
    """
    One vendor's breaker.

    Attributes:
        turn: Counts its moves: who names the turn it knows moves it once.
        failures: In a row, those for which it opened the last time.
        until: Open: when a probe may begin; half-open: when another one may.
        left_s: Until then; 0 when somebody may try now.
        closed_for_s: How long it has been closed again; None: it never was open.
        repeats: How many calls may be repeated now.
    """

    vendor: str
    state: BreakerState
    turn: int
    failures: int
    opened_at: datetime | None
    until: datetime | None
    left_s: float
    closed_for_s: float | None
    repeats: float

    @property
    def probing(self) -> bool:
        """Whether one call tries at this moment whether the vendor is back."""
        return self.state == "half-open" and self.left_s > 0


class BreakerNews(NamedTuple):
    """
    What a process has seen of one vendor since it last told.

    Attributes:
        move: What it makes of the breaker, as long as that is at `turn`.
        open_s, max_s: It stays open for this at first, doubling to at most that.
        earned: Repeats that its calls earned, or gave back.
        wanted: Repeats that it would make now.
    """

    vendor: str
    turn: int = 0
    move: BreakerMove = ""
    failures: int = 0
    open_s: float = 1.0
    max_s: float = 1.0
    earned: float = 0.0
    wanted: int = 0


class Learnt(NamedTuple):
    """All breakers, and by vendor how many of the wanted repeats are granted."""

    rows: list[BreakerRow]
    granted: Mapping[str, int]


class BreakerStore(Protocol):
    """What is known of vendors that fail, by all processes together."""

    async def breakers(self) -> list[BreakerRow]:
        """Every vendor's breaker, by name; of those that were ever told of."""
        ...

    async def tell_breakers(self, news: Sequence[BreakerNews]) -> Learnt:
        """Tell what was seen, at most one news a vendor; learn what others told."""
        ...

    async def probe(
        self, worker: WorkerId, vendor: str, *, for_s: float
    ) -> BreakerRow | None:
        """
        Take the one probe of an open breaker, for at most `for_s` seconds.

        Returns None when it is another's, or it is not yet time for one.  The probe
        of a worker that is gone is free at once.
        """
        ...
