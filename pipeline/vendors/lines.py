"""
The lines in which calls of one process wait.

A line is of those that need the same limits.  All of them are taken together, so that
who waits for one has nothing of another.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Mapping, Sequence

import anyio

from pipeline.store.limits import LineAsk
from pipeline.vendors.away import Away
from pipeline.vendors.limit import Limit
from pipeline.vendors.pacing import Pacer, StoreClock, margin_s, pacer
from pipeline.vendors.patience import Patience
from pipeline.vendors.permits import Permit, Waiter
from pipeline.vendors.uses import Use

CALLS_MAX = 200  # of a line, that an exchange asks for
CATCH_UP = 0.8  # of the usual distance: permits that are late keep it at least
LATE = 0.9  # of the margin: the rest of it is for the way to the vendor
LATE_MAX_S = 0.2  # where the margin is long, the way may be so as well


class Line:
    """
    Calls that need the same limits, by deadline, and the permits there are for them.

    Attributes:
        count: Those who wait.
        since: When the first of them came, or later.
        shut: There were fewer permits than calls, the last time: asking again before
            it is time brings nothing.
        turns: Calls that were let in and are not over, and those who wait.
        away: Items that were sent away.
        patience: How long who stands here will wait.
        ready: Who was let in early, and waits for room alone.
    """

    def __init__(self, limits: Sequence[Limit], clock: StoreClock) -> None:
        self.limits = tuple(limits)
        self._clock = clock
        self.permits: deque[Permit] = deque()
        self.count = self.turns = 0
        self.since = 0.0
        self.least_s = math.inf  # of the patience of those who came since it was empty
        self.oldest = 0.0  # none of them came before
        self._moved_at = 0.0  # when the last of them was let in, or the first came
        self.bell = anyio.Event()
        self.shut = False
        self.away = Away()
        self.patience = Patience(self)
        # A heap, in it some that are gone; no two have the same order.
        self._waiters: list[tuple[tuple[float, int], Waiter]] = []
        self.ready: list[tuple[tuple[float, int], Waiter]] = []  # a heap as well
        self._said: tuple[int, ...] | None = None  # by each of them; None: by some
        self._paced: tuple[float, int] = (0.0, 0)
        self._pacer: Pacer | None = None
        for limit in limits:
            limit.lines.append(self)

    @property
    def paced(self) -> bool:
        """Whether one of its limits is."""
        return any(limit.every_s > 0 for limit in self.limits)

    @property
    def short(self) -> bool:
        """Whether somebody waits without a permit."""
        return self.count > len(self.permits)

    @property
    def idle(self) -> bool:
        """Whether nobody stands in it, has a turn of it, or comes back."""
        return not (self.turns or self.permits or self.away)

    @property
    def late_s(self) -> float:
        """
        So long after its instant a permit may still be used.

        It is a part of the margin: the rest is for the way to the vendor.
        """
        margins = [margin_s(lim.per_s) for lim in self.limits if lim.every_s > 0]
        return min((min(LATE * m, LATE_MAX_S) for m in margins), default=math.inf)

    def may_begin(self, permit: Permit) -> bool:
        """Whether a call that has this permit in hand may use it now."""
        now = anyio.current_time()
        paused = any(limit.paused_until > now for limit in self.limits)
        return now - self.begins(permit) <= self.late_s and not paused

    def begins(self, permit: Permit) -> float:
        """
        From when a permit may be used.

        What is known of the store's clock may change while it is in hand: were its
        instant kept as it was first taken for, those of several workers would meet.
        """
        return self._clock.here(permit.due)

    def weights_of(self, said: Sequence[int]) -> tuple[float, ...]:
        """What a call will weigh by each of its limits, of which this is said."""
        pairs = zip(self.limits, said, strict=True)
        return tuple(limit.weight_of(each) for limit, each in pairs)

    def thought_of(self, said: Sequence[int]) -> tuple[float, ...]:
        """What a call is thought to take of each of its limits, when it has ended."""
        pairs = zip(self.limits, said, strict=True)
        return tuple(each * limit.share for limit, each in pairs)

    def units_of(self, weights: Sequence[float]) -> tuple[float, ...]:
        """What a call of these weights takes of each of its limits."""
        pairs = zip(self.limits, weights, strict=True)
        return tuple(limit.spec.units(weight) for limit, weight in pairs)

    def push(self, waiter: Waiter) -> None:
        """One more."""
        if not self.count:
            self.shut = False  # what was said to those who have left is long ago
            self.since = waiter.since
            self._moved_at = anyio.current_time()
            self.least_s, self.oldest = math.inf, waiter.since
            self._said = waiter.said
        self.count += 1
        self.least_s = min(self.least_s, waiter.patience_s)
        self.oldest = min(self.oldest, waiter.since)
        if self._said != waiter.said:
            self._said = None
        waiter.units = self.units_of(self.weights_of(waiter.said))
        heapq.heappush(self._waiters, (waiter.order, waiter))
        for limit, units in zip(self.limits, waiter.units, strict=True):
            limit.waiting += 1
            limit.waiting_units += units

    def pop(self) -> Waiter:
        """The first in line is in line no more."""
        first = self._first()
        heapq.heappop(self._waiters)
        self._leaves(first)
        self._moved_at = anyio.current_time()
        self.since = max(self.since, self._first().since) if self.count else 0.0
        return first

    def call(self, permit: Permit) -> None:
        """The first in line has this permit."""
        self._called(self.pop(), permit)

    def _free(self, waiter: Waiter) -> Permit:
        """Leave where nothing is paced."""
        return Permit(-math.inf, self.units_of(self.weights_of(waiter.said)))

    def _called(self, waiter: Waiter, permit: Permit) -> None:
        for limit in self.limits:
            limit.in_hand.append(permit.due)
        waiter.permit = permit
        waiter.called.set()

    @property
    def early_s(self) -> float:
        """So long before its instant the first in line wants its permit."""
        return self._first().early_s

    def remove(self, waiter: Waiter) -> None:
        """It gave up, or is sent away."""
        waiter.gone = True
        self._leaves(waiter)
        if len(self._waiters) > 2 * self.count + 100:
            self._waiters = [one for one in self._waiters if not one[1].gone]
            heapq.heapify(self._waiters)

    def _first(self) -> Waiter:
        while self._waiters[0][1].gone:
            heapq.heappop(self._waiters)
        return self._waiters[0][1]

    def _leaves(self, waiter: Waiter) -> None:
        self.count -= 1
        for limit, units in zip(self.limits, waiter.units, strict=True):
            limit.waiting -= 1
            limit.waiting_units -= units
            limit.untold = True

    def ask(self, places: Sequence[int]) -> LineAsk:
        """For whom permits are wanted; `places` are those of its limits."""
        have = len(self.permits)
        if self._said is not None:
            units = self.units_of(self.weights_of(self._said))
            calls = [units] * max(0, min(self.count - have, CALLS_MAX))
            return LineAsk(tuple(places), calls)
        first = heapq.nsmallest(
            have + CALLS_MAX, (one for one in self._waiters if not one[1].gone)
        )
        # By what is known now of what calls take, and not when they came.
        said = [waiter.said for _, waiter in first[have:]]
        each = [self.units_of(self.weights_of(one)) for one in said]
        return LineAsk(tuple(places), each)

    def give(self, asked: LineAsk, dues: Sequence[float]) -> None:
        """Permits have come for the first of those for whom they were asked."""
        self.shut = len(dues) < len(asked.calls)
        for due, units in zip(dues, asked.calls, strict=False):
            self.permits.append(Permit(due, tuple(units)))
        for limit in self.limits:
            limit.booked += len(dues)
        if dues:
            self.bell.set()

    @property
    def order(self) -> tuple[float, int]:
        """Of the first in it, among all that wait."""
        return self._first().order

    def has_room(self, now: float, kept: Mapping[Limit, int] | None = None) -> bool:
        """Whether one more may be under way, beside the `kept` of each limit."""
        kept = kept or {}
        return all(
            lim.booked + kept.get(lim, 0) < lim.units and lim.paused_until <= now
            for lim in self.limits
        )

    def let_in(self, now: float, kept: Mapping[Limit, int]) -> bool:
        """Let the first in that needs no moment; False: there is no room."""
        first = self._first()
        if first.in_room or not first.early_s:
            if not self.has_room(now, kept):
                return False
            self.book()
            self.call(self._free(first))
            return True
        if not all(
            lim.booked + lim.ahead + kept.get(lim, 0)
            < lim.units + lim.ahead_max(self.early_s)
            and lim.paused_until <= now
            for lim in self.limits
        ):
            return False
        for limit in self.limits:
            limit.ahead += 1
        waiter = self.pop()
        waiter.ahead = True
        waiter.called.set()
        return True

    def book(self) -> None:
        """One more is under way, or about to be."""
        for limit in self.limits:
            limit.booked += 1

    @property
    def ready_order(self) -> tuple[float, int]:
        """Of the first that is ready to begin."""
        return self.ready[0][0]

    def call_ready(self) -> None:
        """Room is the first's that is ready, if it is still there."""
        _, waiter = heapq.heappop(self.ready)
        if not waiter.gone:
            self._moved_at = anyio.current_time()
            self.book()
            self._called(waiter, self._free(waiter))

    def stand_ready(self, waiter: Waiter) -> None:
        """It was let in, and has nothing to do any more but to begin."""
        heapq.heappush(self.ready, (waiter.order, waiter))

    def turn_back(self, now: float) -> None:
        """Those who are ready where there is a pause, or a moment to wait for, now."""
        if self.ready and (
            self.paced or any(lim.paused_until > now for lim in self.limits)
        ):
            for _, waiter in self.ready:
                waiter.called.set()
            self.ready.clear()

    def no_more_ahead(self) -> None:
        """One that was let in has begun, or will not."""
        for limit in self.limits:
            limit.ahead -= 1
            limit.untold = True

    def used(self, permit: Permit, units: Sequence[float]) -> None:
        """A call begins by this permit."""
        self.away.begun()
        for limit, taken, paid in zip(self.limits, units, permit.units, strict=True):
            limit.used(permit, taken, paid)

    def took(self, use: Use, thought: Sequence[float], amount: float) -> None:
        """A call that was thought to take so much took so much of one of its limits."""
        for limit, each in zip(self.limits, thought, strict=True):
            if limit.key == use.key:
                limit.took(use.weight, each, amount)

    def missed(self, permit: Permit) -> None:
        """A call had this permit, and did not begin: the next keeps no distance."""
        self._pacer = None
        for limit in self.limits:
            limit.in_hand.remove(permit.due)
            limit.dropped(permit)

    def ended(self, took_s: float) -> None:
        """A call is over."""
        for limit in self.limits:
            limit.left()
            limit.learn_took(took_s)

    def drop(self) -> None:
        """The next permit is not used."""
        permit = self.permits.popleft()
        for limit in self.limits:
            limit.dropped(permit)

    def drop_all(self) -> None:
        """No permit is used."""
        while self.permits:
            self.drop()

    def stood_s(self, now: float) -> float:
        """So long there are some who wait, and none of them could begin."""
        return now - self._moved_at if self.short or self.ready else 0.0

    def in_order(self) -> list[Waiter]:
        """Those who stand in it."""
        there = sorted(one for one in self._waiters if not one[1].gone)
        return [waiter for _, waiter in there]

    async def distance(self) -> None:
        """Keep late permits apart."""
        every_s, burst = max((lim.every_s, lim.burst) for lim in self.limits)
        if self._pacer is None or self._paced != (every_s, burst):
            self._paced = (every_s, burst)
            self._pacer = pacer(burst, every_s * CATCH_UP)
        await self._pacer.acquire()
