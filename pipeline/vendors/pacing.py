"""
What a limit is, in numbers, and how calls keep their distance.

Pacing says how often a call may begin: at most `rate` in any `per_s` seconds, whichever
window you pick.  A capacity says how many may be under way.

aiolimiter paces on asyncio.  It cannot run on trio, where a leaky bucket of ours with
the same meaning stands in, so that forecasts and tests in virtual time obey the same
limits.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import Protocol

import anyio
from aiolimiter import AsyncLimiter

from pipeline.errors import Usage

RETRY_AFTER_MAX_S = 3600.0  # a vendor that asks for a day is asked again after an hour

# Calls arrive a little sooner or later than they were sent, and a vendor may count
# strictly: windows are taken to be longer by this share, at most so many seconds.
MARGIN = 0.018
MARGIN_MAX_S = 0.5

LEAD_MAX_S = 0.1  # permits begin when the answer will be here, at most this late

# A bucket is full this much above its brim: levels are floats, and for a level of
# 1e-17 too much a waiter would wait a time that is no time, again and again.
SLACK = 1e-6


@dataclass(frozen=True, slots=True)
class LimitSpec:
    """
    At most `rate` calls in any `per_s` seconds, `concurrency` of them at once.

    `burst` calls may begin together after a quiet while.  Since no window may
    hold more than `rate`, the pace between bursts is that much slower.  With a burst
    of 1 calls are evenly spaced.  An infinite rate is none: the concurrency alone
    counts.

    Raises:
        Usage: LIMIT_SPEC, for numbers that make no limit.
    """

    rate: float = math.inf
    per_s: float = 1.0
    burst: int = 1
    concurrency: int | None = None

    def __post_init__(self) -> None:
        if not (self.rate > 0 and math.isfinite(self.per_s) and self.per_s > 0):
            raise _bad_spec("rate and per_s must be positive numbers")
        if self.burst < 1 or (self.burst > 1 and self.burst > self.rate):
            raise _bad_spec("burst must be from 1 to rate")
        if self.concurrency is not None and self.concurrency < 1:
            raise _bad_spec("concurrency must be 1 or more")

    @property
    def every_s(self) -> float:
        """Seconds between two calls, bursts aside; 0: they are not paced."""
        return (self.per_s + margin_s(self.per_s)) / (self.rate - self.burst + 1)

    def units(self, weight: float) -> float:
        """
        What a call of this weight takes of the limit.

        So much that calls of this weight, one after the other, never are more than
        `rate` in a window: of a weight of 60 one call in a window of 100.
        """
        if weight <= 1 or math.isinf(self.rate):
            return 1.0
        return self.rate / max(1.0, self.rate // weight)


OPEN = LimitSpec()  # nothing is declared, and it can be paused


def margin_s(per_s: float) -> float:
    """So much later than it should a call may begin, or arrive."""
    return min(MARGIN * per_s, MARGIN_MAX_S)


class StoreClock:
    """
    The store's clock, as the round trips of exchanges tell it.

    Attributes:
        lead_s: So long an answer takes, about.
        ahead_s: So far our clock is ahead, at most.
        doubt_s: It may be less by this; infinite before the first exchange.
    """

    def __init__(self) -> None:
        self.lead_s = 0.0
        self.ahead_s = 0.0
        self.doubt_s = math.inf

    def learn(self, sent: float, store_now: float) -> None:
        """One more exchange: each says within its round trip how far it is ahead."""
        now = anyio.current_time()
        most, least = now - store_now, sent - store_now
        if math.isfinite(self.doubt_s):
            known_most, known_least = self.ahead_s, self.ahead_s - self.doubt_s
            if least <= known_most and known_least <= most:  # or a clock was set
                most, least = min(most, known_most), max(least, known_least)
        self.ahead_s, self.doubt_s = most, most - least
        self.lead_s = min(LEAD_MAX_S, max(1.5 * (now - sent), 0.9 * self.lead_s))

    def here(self, due: float) -> float:
        """An instant of the store's clock on ours, as far as is known by now."""
        return due + self.ahead_s


class Pacer(Protocol):
    """What keeps calls apart."""

    async def acquire(self) -> None:
        """Return when the next call may begin."""
        ...


def pacer(burst: int, every_s: float) -> Pacer:
    """`burst` calls at once, and then one every so many seconds."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:  # trio
        return _LeakyBucket(burst, 1 / every_s)
    return AsyncLimiter(burst, burst * every_s)


class _LeakyBucket:
    """What aiolimiter does, on anyio's clock; one caller at a time."""

    def __init__(self, brim: int, pace: float) -> None:
        self._brim = brim
        self._pace = pace
        self._level = 0.0
        self._at = -math.inf

    async def acquire(self) -> None:
        while True:
            now = anyio.current_time()
            self._level = max(0.0, self._level - (now - self._at) * self._pace)
            self._at = now
            if self._level + 1 <= self._brim + SLACK:
                self._level += 1
                return
            await anyio.sleep((self._level + 1 - self._brim) / self._pace)


def _bad_spec(message: str) -> Usage:
    return Usage(
        message, code="LIMIT_SPEC", hint="mend the [limit.NAME] in pipeline.toml"
    )
