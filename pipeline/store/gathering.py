"""
When writes of many tasks are committed together: at once, or with those that come soon.

Every transaction costs the worker and the database a few round trips, whatever it
carries.  Where most of a worker's items wait for a commit there is nothing to wait for.
Where a thousand wait for vendors and a few dozen come back in a second, each in a
transaction of its own, a worker spends half of its processor on transactions.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio

GATHER_S = 0.05  # between the begins of two commits, while few of many have come
FEW = 16  # fewer than one in so many


class Gathering:
    """
    The pace of one group-commit writer.

    Args:
        in_hand: How many items its worker has.
    """

    def __init__(self, in_hand: Callable[[], int] = lambda: 0) -> None:
        self._in_hand = in_hand
        self._until = 0.0

    def pause_s(self, gathered: int) -> float:
        """How long to wait for more; 0: commit now, which is noted as done."""
        now = anyio.current_time()
        if now < self._until and gathered < self._in_hand() // FEW:
            return self._until - now
        self._until = now + GATHER_S
        return 0.0
