"""
Limits of the fleet in memory: what `waybill.lease_limits` does in PostgreSQL.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from pipeline.model import ItemId, WorkerId
from pipeline.store.limits import (
    FRESH_S,
    LimitAsk,
    LimitLease,
    LimitNews,
    LimitRow,
    LimitSet,
    LineAsk,
)
from pipeline.store.memory.sessions import MemorySessions

NOTHING = LimitAsk("", -1, None, 1.0, 1, 0.0, None)
UNSET = LimitSet()


class MemoryLimits(MemorySessions):
    """A dictionary of limits; see the port for every contract."""

    def __init__(self) -> None:
        super().__init__()
        self._limits: dict[str, _Limit] = {}

    async def lease_limits(
        self,
        worker: WorkerId,
        asks: Sequence[LimitAsk],
        lines: Sequence[LineAsk],
        *,
        lead_s: float,
        horizon_s: float,
    ) -> LimitLease:
        self._alive(worker)
        now = self.now()
        rows = [self._limits.setdefault(ask.key, _Limit()) for ask in asks]
        units = [
            self._taken_down(worker, row, ask, lead_s, horizon_s)
            for row, ask in zip(rows, asks, strict=True)
        ]
        room = [
            math.inf if row.cap is None else n - ask.booked
            for row, n, ask in zip(rows, units, asks, strict=True)
        ]
        starts: list[list[float]] = [[] for _ in lines]
        shut = [False] * len(lines)
        for turn in zip_longest(*(line.calls for line in lines)):
            for place, weights in enumerate(turn):
                if weights is None or shut[place]:
                    continue
                mine = [(k, rows[k]) for k in lines[place].limits]
                start = max(
                    [now + lead_s]
                    + [row.tat - row.early_s for _, row in mine if row.every > 0]
                )
                shut[place] = start > now + horizon_s or any(
                    row.paused_until > now or room[k] <= 0 for k, row in mine
                )
                if shut[place]:
                    continue
                for (k, row), weight in zip(mine, weights, strict=True):
                    if row.every > 0:
                        row.tat = max(row.tat, start) + weight * row.every
                    room[k] -= 1
                starts[place].append(start - now)
        news = [
            self._telling(worker, ask.key, row, n)
            for ask, row, n in zip(asks, rows, units, strict=True)
        ]
        return LimitLease(now, news, starts)

    def _taken_down(
        self,
        worker: WorkerId,
        row: _Limit,
        ask: LimitAsk,
        lead_s: float,
        horizon_s: float,
    ) -> int:
        """Take down what a worker tells; how many calls it may have under way."""
        now = self.now()
        rank = self._workers[worker].joined_us if ask.rank is None else ask.rank
        if rank >= row.rank:
            before, row.rank = row.declared, rank
            row.declared = ask
            if ask.every_s < before.every_s or _more(
                ask.concurrency, before.concurrency
            ):
                self._look_again()
        row.use(now, ask.begun)
        if ask.back_end is not None and ask.back_end == row.tat:
            assert ask.back_from is not None
            row.tat = min(row.tat, ask.back_from + row.early_s)
        if ask.owed:
            row.tat = max(row.tat, now) + ask.owed * row.every
        apart_s = max(row.per_s, row.every)
        latest = now + row.early_s + 2.1 * apart_s + lead_s + horizon_s
        row.tat = min(row.tat, latest)
        if ask.pause_s > 0 and now + ask.pause_s > row.paused_until:
            row.paused_until, row.paused_by = now + ask.pause_s, "vendor"
        others = self._others(row, worker)
        want, units = ask.booked + ask.waiting, 0
        if row.cap is not None:
            fair = float(want)
            fresh = [o for o in others if o.at > now - FRESH_S]
            hungry = [o for o in fresh if o.ask.waiting and o.ask.booked >= o.units]
            if hungry and want:
                wanted = sum(o.ask.booked + o.ask.waiting for o in fresh)
                fair = row.cap * want / (want + wanted)
                bare = [o.since for o in fresh if o.ask.waiting and not o.units]
                first = now - ask.oldest_s <= min(bare, default=-math.inf)
                fair = math.floor(fair) if bare else math.ceil(fair)
                fair = max(fair, 1) if first else fair
            left = row.cap - sum(o.units for o in others)
            units = max(0, min(want, int(fair), left))
        if want:
            row.leases[worker] = _Lease(max(units, ask.booked), ask, now)
        else:
            row.leases.pop(worker, None)
        return units

    def _others(self, row: _Limit, worker: WorkerId) -> list[_Lease]:
        for gone in row.leases.keys() - self._workers.keys():
            del row.leases[gone]
        return [lease for who, lease in row.leases.items() if who != worker]

    def _telling(
        self, worker: WorkerId, key: str, row: _Limit, units: int
    ) -> LimitNews:
        now = self.now()
        fresh = [o for o in self._others(row, worker) if o.at > now - FRESH_S]
        return LimitNews(
            key,
            row.every,
            row.per_s,
            row.burst,
            row.cap,
            units,
            sum(o.ask.waiting_units for o in fresh),
            len(fresh),
            min(1e9, max(0.0, row.paused_until - now)),
            row.tat,
        )

    async def limits(self) -> list[LimitRow]:
        return [self._limit_row(key, row) for key, row in sorted(self._limits.items())]

    def _limit_row(self, key: str, row: _Limit) -> LimitRow:
        now = self.now()
        self._others(row, WorkerId(int=0))
        fresh = [o for o in row.leases.values() if o.at > now - FRESH_S]
        waiting = sum(o.ask.waiting for o in fresh)
        since = [o.since for o in fresh if o.ask.waiting]
        clears: float | None = 0.0
        if waiting:
            clears = None
            if row.every > 0 and row.paused_until < math.inf:
                lead = max(0.0, row.tat - now, row.paused_until - now)
                clears = lead + row.every * sum(o.ask.waiting_units for o in fresh)
        paused = row.paused_until > now
        declared = row.declared
        return LimitRow(
            key,
            row.set.rate or declared.rate,
            row.per_s,
            row.cap,
            declared.rate,
            declared.per_s,
            declared.concurrency,
            row.set != UNSET,
            row.used_in_last(now),
            sum(o.ask.booked for o in fresh),
            waiting,
            self._at(min(since)) if since else None,
            clears,
            # A pause without end has no date here.
            self._at(min(row.paused_until, now + 1e9)) if paused else None,
            row.paused_by if paused else "",
        )

    async def set_limit(self, key: str, numbers: LimitSet) -> None:
        row = self._limits.setdefault(key, _Limit())
        if numbers.rate is None and numbers.concurrency is not None:
            numbers = row.set._replace(concurrency=numbers.concurrency)
        elif numbers.concurrency is None and numbers.rate is not None:
            numbers = numbers._replace(concurrency=row.set.concurrency)
        row.set = numbers
        self._look_again()

    async def pause_limit(self, key: str, for_s: float | None) -> None:
        row = self._limits.setdefault(key, _Limit())
        row.paused_until = math.inf if for_s is None else self.now() + for_s
        row.paused_by = "owner"

    async def resume_limit(self, key: str) -> bool:
        row = self._limits.get(key)
        if row is None or row.paused_until <= self.now():
            return False
        row.paused_until = -math.inf
        self._look_again()
        return True

    async def call_back(self, items: Sequence[ItemId]) -> None:
        self._look_again(item for item in items if item in self._waiting)

    def _look_again(self, items: Iterable[ItemId] | None = None) -> None:
        """Whoever was sent away: what kept it may be over."""
        now = self.now()
        for item in list(self._waiting if items is None else items):
            place = self._waiting[item]
            if place.why == "LIMIT_WAIT" and place.until > now:
                place.until = now
                heapq.heappush(self._timers, (now, item))


def _more(new: int | None, old: int | None) -> bool:
    """Whether more calls may be under way; None: any number."""
    return old is not None and (new is None or new > old)


@dataclass(slots=True)
class _Lease:
    """A worker's row in `limit_leases`."""

    units: int
    ask: LimitAsk
    at: float

    @property
    def since(self) -> float:
        """When the first of those came who wait."""
        return self.at - self.ask.oldest_s


@dataclass(slots=True)
class _Limit:
    """A row in `limits`."""

    rank: int = -1
    declared: LimitAsk = NOTHING
    set: LimitSet = UNSET
    paused_until: float = -math.inf
    paused_by: str = ""
    tat: float = 0.0
    used: float = 0.0
    used_before: float = 0.0
    used_since: float = -math.inf
    leases: dict[WorkerId, _Lease] = field(default_factory=dict)

    @property
    def every(self) -> float:
        return self.set.every_s or self.declared.every_s

    @property
    def per_s(self) -> float:
        return self.set.per_s or self.declared.per_s

    @property
    def burst(self) -> int:
        return self.declared.burst if self.set.rate is None else 1

    @property
    def cap(self) -> int | None:
        return self.set.concurrency or self.declared.concurrency

    @property
    def early_s(self) -> float:
        """So long before its `tat` a permit may begin."""
        return self.every * (self.burst - 1)

    def use(self, now: float, units: float) -> None:
        """Count what began, by windows of `per_s`."""
        age_s = now - self.used_since
        if age_s >= self.per_s:
            self.used_before = self.used if age_s < 2 * self.per_s else 0.0
            self.used, self.used_since = 0.0, now
        self.used += units

    def used_in_last(self, now: float) -> float:
        """What began in the last `per_s`, about: windows are taken to be even."""
        age = (now - self.used_since) / self.per_s
        if age < 1:
            return self.used + self.used_before * (1 - age)
        return self.used * (2 - age) if age < 2 else 0.0
