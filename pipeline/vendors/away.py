"""
Items that a line sent away for longer than they could wait, and who of them comes back
at once because nobody stands there any more.

How long a call waits is a forecast.  The first calls are slow (names are looked up,
connections made), others leave: all who were sent away for minutes would leave the
vendor idle for as long.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import anyio

from pipeline.errors import LimitWait
from pipeline.model import ItemId

AWAY_MAX = 20_000  # items that are known; others come by themselves
# So many come at once as begin in so long.
CALLED_S, CALLED_MAX = 5.0, 500
# Until the next are called, where those who came had to leave again; doubled each time.
CALM_S, CALM_MAX_S = 0.5, 60.0


class _One(NamedTuple):
    """When it looks again by itself, and for how long it can wait then."""

    at: float
    patience_s: float


class Away:
    """The items that one line has sent away."""

    def __init__(self) -> None:
        self._items: dict[ItemId, _One] = {}
        self._called = set[ItemId]()  # the last time
        self._calm_s, self._calm_until = CALM_S, -math.inf

    def __len__(self) -> int:
        return len(self._items)

    def sent(self, item: ItemId | None, wait: LimitWait, patience_s: float) -> None:
        """It stands in the line no more, and comes back later."""
        now = anyio.current_time()
        if item in self._called:
            self._called.clear()
            self._calm_s = min(2 * self._calm_s, CALM_MAX_S)
            self._calm_until = now + self._calm_s
        if item is not None and len(self._items) < AWAY_MAX:
            self._items[item] = _One(now + (wait.retry_after_s or 0.0), patience_s)

    def begun(self) -> None:
        """A call of the line has begun."""
        self._calm_s = CALM_S

    def call_back(self, now: float, wait_s: float, each_s: float) -> list[ItemId]:
        """
        Of an empty line: as many as will wait no longer than they can, as it looks now.

        Args:
            wait_s: The forecast for who comes first.
            each_s: From one call to the next.
        """
        self._items = {i: one for i, one in self._items.items() if one.at > now}
        if now < self._calm_until:
            return []
        found: list[ItemId] = []
        for item, one in self._items.items():
            much_s = CALLED_S + each_s
            if wait_s > min(one.patience_s, much_s) or len(found) >= CALLED_MAX:
                break
            found.append(item)
            wait_s += each_s
        for item in found:
            del self._items[item]
        if found:
            self._called = set(found)
        return found
