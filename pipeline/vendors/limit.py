"""
One limit, as this process knows and uses it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import anyio

from pipeline.store.limits import FRESH_S, LimitAsk, LimitNews
from pipeline.vendors.pacing import LimitSpec, StoreClock
from pipeline.vendors.permits import Permit

if TYPE_CHECKING:
    from pipeline.vendors.lines import Line

LEARNING = 0.1  # the share of the last call in what is known of how long calls take
HEAVIER, LIGHTER = 0.2, 0.05  # the same of what they weigh
SHARE_MAX = 2.0  # calls may take more than they said
AHEAD_MAX = 0.5  # of the calls under way: where they are short


class Limit:
    """
    One limit, as this process knows and uses it.

    Attributes:
        booked: Calls under way, and permits in hand.
        ahead: Calls that were let in early, and wait for room.
        units: So many calls may be booked: none before the store was asked, which
            knows of pauses; infinite without a concurrency.  While an exchange is
            under way, no more than it tells of: what is above that may be another
            worker's already.
        full: Of its concurrency we were given less than we wanted, the last time.
        waiting, waiting_units: In this process, without a permit.
        begun, owed, pause_s: Yet to be told.
    """

    def __init__(self, key: str, spec: LimitSpec, rank: int | None) -> None:
        self.key = key
        self.spec = spec
        self.rank = rank
        self.lines: list[Line] = []
        self.booked = 0
        self.ahead = 0
        self.units = 0.0
        self.full = False
        self.waiting = 0
        self.waiting_units = 0.0
        self.begun = self.owed = self.pause_s = 0.0
        self.every_s = spec.every_s
        self.per_s = spec.per_s
        self.burst = spec.burst
        self.cap = spec.concurrency
        self.others = 0.0
        self.workers = 0
        self.paused_until = -math.inf
        self.next_at = -math.inf  # the instant of the next permit
        self.took_s = 0.0  # a call, about
        self._settled = 0  # calls from which that is known
        self._said = self._taken = 0.0  # by one of them, about
        self.untold = False  # that nothing is booked any more, and nobody waits
        self._heard_at = -math.inf
        self._end: float | None = None  # `tat` after our last permits
        self._used = -math.inf  # the last permit that was used
        self.in_hand: list[float] = []  # permits of calls that have not yet begun
        self._dropped: list[float] = []
        self._asked = 0  # of the dropped, by the last exchange

    def __str__(self) -> str:
        left_s = max(0.0, self.paused_until - anyio.current_time())
        pause = f", paused for {left_s:.1f} s" if left_s else ""
        return f"{self.booked} in use, {self.waiting} waiting{pause}"

    @property
    def each_s(self) -> float:
        """Seconds from one call of the fleet to the next, about."""
        return max(self.every_s, self.took_s / self.cap if self.cap else 0.0)

    @property
    def stirs(self) -> bool:
        """Whether there is something to tell."""
        if self.booked or self.ahead or self.waiting or self.untold or self.pause_s:
            return True
        return any(line.away for line in self.lines)  # to hear when there is room

    def ahead_max(self, early_s: float) -> int:
        """So many may come in before there is room: those who begin in `early_s`."""
        if self.cap is None or not self.took_s:
            return 0
        return math.ceil(self.units * min(early_s / self.took_s, AHEAD_MAX))

    def lead_s(self, now: float) -> float:
        """So long nobody who comes now begins, whoever waits already."""
        return max(0.0, self.next_at - now, self.paused_until - now)

    def wait_s(self, now: float, ahead: float) -> float:
        """How long who comes after `ahead` units of this process will wait, about."""
        # What was heard long ago is no reason to send everybody away.  Of each worker
        # as many begin: what stands behind those is not waited for.
        if now - self._heard_at < FRESH_S:
            ahead += min(self.others, (ahead + 1) * self.workers)
        wait = self.lead_s(now) + ahead * self.every_s
        if self.cap is not None and self.lacks_room:
            wait = max(wait, (ahead + self.ahead + 1) * self.took_s / self.cap)
        return wait

    @property
    def lacks_room(self) -> bool:
        """Whether nobody can begin before a call has ended."""
        return self.cap is not None and self.full and self.booked >= self.units

    def ask(self, now: float) -> LimitAsk:
        """What to tell of it, and to ask for."""
        spec = self.spec
        if self.cap is not None:
            self.units = min(self.units, self.booked)
        since = [line.since for line in self.lines if line.count]
        # Or of those who are ready and have no room none would be the first to get it.
        since += [w.since for line in self.lines for _, w in line.ready if not w.gone]
        end, start = self._end, self._given_back()
        if start is not None:
            self._end = None  # what was leased since then may be another worker's
        self._asked = len(self._dropped)
        self.untold = False
        return LimitAsk(
            self.key,
            self.rank,
            None if math.isinf(spec.rate) else spec.rate,
            spec.per_s,
            spec.burst,
            spec.every_s,
            spec.concurrency,
            self.booked,
            self.waiting + self.ahead,
            self.waiting_units,
            now - min(since, default=now),
            self.begun,
            self.owed,
            self.pause_s,
            None if start is None else end,
            start,
        )

    def arrived(self, ask: LimitAsk) -> None:
        """This has arrived."""
        self.begun -= ask.begun
        self.owed -= ask.owed
        self.pause_s = 0.0 if self.pause_s == ask.pause_s else self.pause_s
        del self._dropped[: self._asked]

    def learn(
        self, ask: LimitAsk, news: LimitNews, clock: StoreClock, got: bool
    ) -> None:
        """What the store says to what was asked; `got`: and gave."""
        now = anyio.current_time()
        # Who wants nothing is given nothing, also where all of it is free.
        self.full = news.cap is not None and news.units < ask.booked + ask.waiting
        self.every_s, self.per_s, self.burst = news.every_s, news.per_s, news.burst
        self.cap = news.cap
        self.units = math.inf if news.cap is None else news.units
        self.others, self.workers = news.others, news.workers
        self._heard_at = now
        self.next_at = clock.here(news.tat) - news.every_s * (news.burst - 1)
        # What was told to us meanwhile, and not yet told, counts as well.
        mine = now + self.pause_s if self.pause_s else -math.inf
        self.paused_until = max(now + news.paused_s if news.paused_s else -1, mine)
        if got:
            self._end = news.tat

    def used(self, permit: Permit, units: float, paid: float) -> None:
        """A call began; what it weighs may differ from what its permit was for."""
        self.begun += units
        self.owed += units - paid
        self.in_hand.remove(permit.due)
        self._used = max(self._used, permit.due)

    def left(self) -> None:
        """A call has ended, or a permit was not used."""
        self.booked -= 1
        self.untold = True

    @property
    def share(self) -> float:
        """Of what calls say that they weigh, that they take, mostly."""
        return self._taken / self._said if self._settled else 1.0

    def weight_of(self, said: float) -> float:
        """
        What a call will weigh that says so much.

        While it is under way it may take all of that, so it counts in full; later, in
        the rest of a window, for what calls took until now.
        """
        if said <= 1:
            return said
        under_way = min(1.0, self.took_s / self.per_s)
        return said * (self.share + max(0.0, 1 - self.share) * under_way)

    def took(self, said: float, thought: float, amount: float) -> None:
        """
        A call took so much, more or less than it was `thought` to.

        What comes to light when a call ends is of little use by then: its permit kept
        others waiting, and what is given back all at once fills a window to come.  So
        the next are taken to be like those before them.
        """
        # A window's worth at most, either way: then the vendor's own count begins
        # anew, and what it says of one call may be a lie.
        most = self.spec.rate
        self.owed += min(amount, most) - min(thought, most)
        amount = min(amount, SHARE_MAX * said)
        if not self._settled:
            self._said = self._taken = said  # as if one had taken all of it
        self._settled += 1
        least = HEAVIER if amount > self.share * said else LIGHTER
        part = max(least, 1 / (self._settled + 1))
        # Of both by itself: heavy calls count for more than light ones.
        self._said += part * (said - self._said)
        self._taken += part * (amount - self._taken)

    def learn_took(self, took_s: float) -> None:
        """A call was under way for so long."""
        share = LEARNING if self.took_s else 1.0
        self.took_s += share * (took_s - self.took_s)

    def dropped(self, permit: Permit) -> None:
        """A permit is not used."""
        self._dropped.append(permit.due)
        self.left()

    def drop(self) -> None:
        """It is paused: what was leased of that time is not used."""
        for line in self.lines:
            while line.permits and line.begins(line.permits[0]) < self.paused_until:
                line.drop()

    def _given_back(self) -> float | None:
        """From when on nothing is used that was leased last; None: all of it is."""
        leased = [line.permits[-1].due for line in self.lines if line.permits]
        kept = max(self._used, *self.in_hand, *leased, -math.inf)
        return min((due for due in self._dropped if due > kept), default=None)
