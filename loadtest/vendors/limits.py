"""
What a vendor allows: sliding windows of requests and tokens, calls at once.

A window holds what was let in during its last seconds, so that no stretch of that
length, wherever it begins, holds more than is allowed.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import NamedTuple

from loadtest.vendors.settings import Limit, Rate

Headers = tuple[tuple[str, str], ...]


class Window:
    """So much in any `per_s` seconds."""

    def __init__(self, rate: Rate) -> None:
        self.most, self._per_s = rate
        self._taken: deque[tuple[float, int]] = deque()
        self.used = 0

    def wait_s(self, amount: int, now: float) -> float:
        """Seconds until `amount` more is allowed; 0: it is."""
        while self._taken and self._taken[0][0] <= now - self._per_s:
            self.used -= self._taken.popleft()[1]
        free = self.most - self.used
        if amount <= free:
            return 0.0
        for at, held in self._taken:
            free += held
            if amount <= free:
                return at + self._per_s - now
        return self._per_s  # more than is ever allowed at once

    def take(self, amount: int, now: float) -> None:
        """It was let in."""
        self._taken.append((now, amount))
        self.used += amount

    def clear_s(self, now: float) -> float:
        """Seconds until nothing of it is used."""
        return max(0.0, self._taken[-1][0] + self._per_s - now) if self._taken else 0.0


class Remaining(NamedTuple):
    """What a vendor says of a window: what it is of, and its figures."""

    of: str
    most: int
    left: int
    clear_s: float


class Counted:
    """What one caller, or all of them, have used of a `Limit`."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.requests = limit.requests and Window(limit.requests)
        self.tokens = limit.tokens and Window(limit.tokens)
        self.under_way = 0

    def wait_s(self, tokens: int, now: float) -> float:
        """Seconds until a call may be let in; 0: now."""
        waits = [0.0]
        if self.requests:
            waits.append(self.requests.wait_s(1, now))
        if self.tokens:
            waits.append(self.tokens.wait_s(tokens, now))
        most = self.limit.concurrency
        if most is not None and self.under_way >= most:
            waits.append(1.0)
        return max(waits)

    def take(self, tokens: int, now: float) -> None:
        """A call is let in."""
        if self.requests:
            self.requests.take(1, now)
        if self.tokens:
            self.tokens.take(tokens, now)

    def remaining(self, now: float) -> Iterator[Remaining]:
        """Its windows."""
        for of, window in (("requests", self.requests), ("tokens", self.tokens)):
            if window:
                left = max(0, window.most - window.used)
                yield Remaining(of, window.most, left, window.clear_s(now))


def slow_down(limit: Limit, wait_s: float) -> Headers:
    """The header that says when to come again."""
    match limit.retry_after:
        case "seconds":
            return (("retry-after", str(math.ceil(wait_s))),)
        case "date":
            # A date has whole seconds: a second early would be a second refusal.
            until = datetime.now(UTC) + timedelta(seconds=wait_s + 1)
            return (("retry-after", format_datetime(until, usegmt=True)),)
        case "ms":
            return (("retry-after-ms", str(math.ceil(wait_s * 1000))),)
        case _:
            return ()


def openai_headers(remaining: list[Remaining]) -> Headers:
    """`x-ratelimit-*`, resets as a duration."""
    found = []
    for of, most, left, clear_s in remaining:
        found += [
            (f"x-ratelimit-limit-{of}", str(most)),
            (f"x-ratelimit-remaining-{of}", str(left)),
            (f"x-ratelimit-reset-{of}", _duration(clear_s)),
        ]
    return tuple(found)


def anthropic_headers(remaining: list[Remaining]) -> Headers:
    """`anthropic-ratelimit-*`, resets as a time."""
    found = []
    for of, most, left, clear_s in remaining:
        reset = datetime.now(UTC) + timedelta(seconds=clear_s)
        found += [
            (f"anthropic-ratelimit-{of}-limit", str(most)),
            (f"anthropic-ratelimit-{of}-remaining", str(left)),
            (f"anthropic-ratelimit-{of}-reset", f"{reset:%Y-%m-%dT%H:%M:%SZ}"),
        ]
    return tuple(found)


def _duration(seconds: float) -> str:
    """`6m0s`, `1.5s`, `12ms`: as OpenAI writes them."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{minutes:.0f}m{rest:.0f}s" if minutes else f"{rest:.3g}s"
