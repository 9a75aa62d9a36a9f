"""
How long who stands in a line will wait, and who is sent away because it is too long.

It is a forecast: by the instants of permits, by what calls took until now, and by how
long nobody could begin, for calls that hang tell nothing of themselves.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

import anyio

from pipeline.errors import LimitWait
from pipeline.model import ItemId
from pipeline.vendors.permits import Waiter

if TYPE_CHECKING:
    from pipeline.vendors.lines import Line

CLOSER = 0.9  # than calls begin, those come back who were sent away
BACK_MAX_S = 900.0  # whoever is sent away looks again after this …
BACK_CALLS = 30  # … or after so many calls
SLACK = 1.25  # who waits is sent away for this much more than its patience
NEAR = 0.1  # of its patience: who will wait no longer than that stays
LOOK_S = 1.0  # those who stand in a line are looked through so often


class Patience:
    """How long the calls of one line will wait, and who cannot wait so long."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._promised = -math.inf  # until then those come back who were sent away
        self._looked_at = -math.inf

    def forecast_s(self, now: float) -> float:
        """How long who comes now will wait, about."""
        # Permits in hand are counted in the limits' next instants.
        permits = len(self._line.permits)
        waits = (
            lim.wait_s(now, max(0.0, lim.waiting_units - permits))
            for lim in self._line.limits
        )
        return max(self._stalled_s(now), *waits)

    def _stalled_s(self, now: float) -> float:
        """So long somebody waits for calls that do not end: as long again, perhaps."""
        lack = any(limit.lacks_room for limit in self._line.limits)
        return self._line.stood_s(now) if lack else 0.0

    def too_long(self, forecast_s: float, patience_s: float) -> LimitWait:
        """Come back when there is room in line: one after the other."""
        now = anyio.current_time()
        begins = max(now + forecast_s, self._promised)
        each_s = self._each_s
        most_s = max(BACK_MAX_S, BACK_CALLS * each_s)
        # A little early and a little closer, or the line would run empty: some are
        # taken up late, and whoever finds it full again goes behind all others.
        self._promised = min(begins + CLOSER * each_s, now + most_s)
        back_s = max(begins - now - patience_s / 2, 1.0)
        if back_s > most_s - each_s:
            back_s = most_s * random.uniform(0.5, 1)
        longest = max(
            self._line.limits, key=lambda lim: lim.wait_s(now, lim.waiting_units)
        )
        return LimitWait.of(longest.key, forecast_s, back_s)

    def send_away(self, *, at_once: bool = False) -> None:
        """Those whom it takes too long, as it looks now; looked at now and then."""
        line, now = self._line, anyio.current_time()
        if not (line.count or line.ready):
            return
        if now < self._looked_at + LOOK_S and not at_once:
            return
        self._looked_at = now
        # Thousands may stand there: they are looked through where somebody may go.
        most_s = SLACK * line.least_s
        if line.count and max(self.forecast_s(now), now - line.oldest) > most_s:
            for waiter, wait_s in list(self._impatient(now)):
                waiter.error = self.too_long(wait_s, waiter.patience_s)
                line.remove(waiter)
                waiter.called.set()
        stalled_s = self._stalled_s(now)
        for _, waiter in line.ready:
            if stalled_s > SLACK * waiter.patience_s and not waiter.gone:
                waiter.error = self.too_long(stalled_s, waiter.patience_s)
                waiter.gone = True
                waiter.called.set()

    def _impatient(self, now: float) -> Iterator[tuple[Waiter, float]]:
        """
        Those who wait for much longer than they can: it seems so now, or has come so.

        How long each will, with those before it gone who are sent away as well: of
        all who stand here now, most will not be here any more when it comes back.
        """
        line = self._line
        stalled_s = self._stalled_s(now)
        ahead = [0.0] * len(line.limits)
        there = line.in_order()
        line.oldest = min((waiter.since for waiter in there), default=now)
        for waiter in there[len(line.permits) :]:
            wait_s = max(
                lim.wait_s(now, units)
                for lim, units in zip(line.limits, ahead, strict=True)
            )
            most_s = SLACK * waiter.patience_s
            # Whoever comes later and is more urgent goes before it, again and again.
            overdue = now - waiter.since > most_s and wait_s > NEAR * waiter.patience_s
            if max(wait_s, stalled_s) > most_s or overdue:
                yield waiter, max(wait_s, stalled_s)
            else:
                ahead = [a + u for a, u in zip(ahead, waiter.units, strict=True)]

    def call_back(self, now: float) -> list[ItemId]:
        """Those who come back at once, though they were sent away for longer."""
        line = self._line
        if line.count or line.permits:
            return []
        return line.away.call_back(now, self.forecast_s(now), self._each_s)

    @property
    def _each_s(self) -> float:
        """Seconds from one call of this worker to the next, about."""
        return max(lim.each_s * (lim.workers + 1) for lim in self._line.limits)
