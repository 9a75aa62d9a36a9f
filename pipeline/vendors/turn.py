"""
Leave to begin a call: given a little early, and taken at its moment.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import anyio

from pipeline.vendors.lines import Line
from pipeline.vendors.permits import Permit, Waiter

Stand = Callable[[Line, Waiter], Awaitable[Permit]]


class Turn:
    """
    One call's permit of all its limits; without a line there is nothing to obey.

    Args:
        stand: In line, until there is a permit.
    """

    __slots__ = (
        *("_began", "_early_s", "_line", "_number", "_patience_s", "_permit"),
        *("_stand", "_units"),
    )

    def __init__(
        self,
        line: Line | None = None,
        stand: Stand | None = None,
        units: tuple[float, ...] = (),
    ) -> None:
        self._line = line
        self._stand = stand
        self._units = units
        self._permit: Permit | None = None
        self._number = 0
        self._patience_s = math.inf
        self._early_s = 0.0
        self._began: float | None = None

    async def come(self, waiter: Waiter) -> None:
        """Wait in line; who wants its permit not early begins at once."""
        assert self._line is not None
        assert self._stand is not None
        self._number = waiter.order[1]
        self._patience_s, self._early_s = waiter.patience_s, waiter.early_s
        self._permit = await self._stand(self._line, waiter)
        if not waiter.early_s:
            self._begin()

    @property
    def paced(self) -> bool:
        """Whether there is a moment to wait for."""
        return self._line is not None and self._line.paced and self._began is None

    async def due(self) -> None:
        """
        Until the call may begin.

        Who is too late has missed it, and waits for the next permit before all others:
        of those whom the same thing kept, many would begin in one moment.  So does
        whose limit has been paused meanwhile: the vendor has said when to come again.

        Raises:
            LimitWait: that would take longer than its patience; it has not begun.
        """
        line = self._line
        while line is not None and self._permit is not None and self._began is None:
            permit, now = self._permit, anyio.current_time()
            begins = line.begins(permit)
            if now < begins:
                await anyio.sleep_until(begins)
            if line.may_begin(permit):
                self._begin()
                return
            self._permit = None
            line.missed(permit)
            # As early as before: or those behind would have theirs too late.
            order = (-math.inf, self._number)
            await self.come(
                Waiter(order, self._units, self._patience_s, now, self._early_s)
            )

    def over(self) -> None:
        """The call has ended, or did not begin."""
        if self._line is None or self._permit is None:
            return
        if self._began is None:
            self._line.missed(self._permit)
        else:
            self._line.ended(anyio.current_time() - self._began)

    def _begin(self) -> None:
        assert self._line is not None
        assert self._permit is not None
        self._began = anyio.current_time()
        self._line.used(self._permit, self._units)
