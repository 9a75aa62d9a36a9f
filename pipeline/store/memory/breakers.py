"""
Breakers of vendors in memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from pipeline.model import WorkerId
from pipeline.store.memory.tables import MemoryTables
from pipeline.store.outside import (
    CALM_S,
    REPEATS_FLOOR,
    REPEATS_FLOOR_PER_S,
    REPEATS_MAX,
    BreakerNews,
    BreakerRow,
    BreakerState,
    Learnt,
)


class MemoryBreakers(MemoryTables):
    """A dictionary of breakers; see the port for every contract."""

    def __init__(self) -> None:
        super().__init__()
        self._breakers: dict[str, _Breaker] = {}

    async def breakers(self) -> list[BreakerRow]:
        return [self._breaker_row(vendor) for vendor in sorted(self._breakers)]

    async def tell_breakers(self, news: Sequence[BreakerNews]) -> Learnt:
        granted = {}
        for one in news:
            row = self._breakers.setdefault(one.vendor, _Breaker(self.now()))
            have = min(REPEATS_MAX, row.have(self.now()) + one.earned)
            count = max(0, min(one.wanted, math.floor(have)))
            row.repeats, row.repeats_at = have - count, self.now()
            if count:
                granted[one.vendor] = count
            if one.turn == row.turn:
                row.move(one, self.now())
        return Learnt(await self.breakers(), granted)

    async def probe(
        self, worker: WorkerId, vendor: str, *, for_s: float
    ) -> BreakerRow | None:
        row = self._breakers.get(vendor)
        if row is None or row.state == "closed" or self._until_free_s(row) > 0:
            return None
        row.state, row.prober = "half-open", worker
        row.turn += 1
        row.until = self.now() + for_s
        return self._breaker_row(vendor)

    def _until_free_s(self, row: _Breaker) -> float:
        gone = row.state == "half-open" and row.prober not in self._workers
        if row.state == "closed" or gone:
            return 0.0
        return max(0.0, row.until - self.now())

    def _breaker_row(self, vendor: str) -> BreakerRow:
        row = self._breakers[vendor]
        closed_for_s = None
        if row.state == "closed" and row.closed_at is not None:
            closed_for_s = self.now() - row.closed_at
        return BreakerRow(
            vendor,
            row.state,
            row.turn,
            row.failures,
            None if row.opened_at is None else self._at(row.opened_at),
            None if row.state == "closed" else self._at(row.until),
            self._until_free_s(row),
            closed_for_s,
            row.have(self.now()),
        )


@dataclass(slots=True)
class _Breaker:
    """A vendor's row in `breakers`."""

    repeats_at: float
    state: BreakerState = "closed"
    turn: int = 0
    failures: int = 0
    opened: int = 0
    opened_at: float | None = None
    until: float = 0.0
    prober: WorkerId | None = None
    closed_at: float | None = None
    repeats: float = REPEATS_FLOOR

    def have(self, now: float) -> float:
        """How many calls may be repeated."""
        by_time = REPEATS_FLOOR_PER_S * (now - self.repeats_at)
        return self.repeats + min(max(0.0, REPEATS_FLOOR - self.repeats), by_time)

    def move(self, news: BreakerNews, now: float) -> None:
        """Make the move of news of this turn."""
        match news.move:
            case "open":
                if self.state == "closed":
                    self.opened_at = now
                    calm = self.closed_at is None or self.closed_at < now - CALM_S
                    self.opened = 0 if calm else self.opened
                stay_s = news.open_s * 2.0 ** min(self.opened, 30)
                self.until = now + min(news.max_s, stay_s)
                self.opened += 1
                self.failures = news.failures
            case "free":
                self.until = now
            case "close":
                self.closed_at = now
            case "":
                return
            case _:
                assert_never(news.move)
        self.state = "closed" if news.move == "close" else "open"
        self.prober = None
        self.turn += 1
