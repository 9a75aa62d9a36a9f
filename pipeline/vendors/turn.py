"""
Leave to begin a call: given a little early, and taken at its moment.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from pipeline.vendors.lines import Line
from pipeline.vendors.permits import Permit, Waiter
from pipeline.vendors.room import let_in
from pipeline.vendors.uses import Use

Stand = Callable[[Line, Waiter], Awaitable[Permit | None]]


class Turn:
    """
    One call's permit of all its limits; without a line there is nothing to obey.

    Args:
        stand: In line, until there is a permit, or leave to come in without one.
    """

    __slots__ = ("_ahead", "_began", "_line", "_permit", "_stand", "_stood", "_thought")

    def __init__(
        self,
        line: Line | None = None,
        stand: Stand | None = None,
    ) -> None:
        self._line = line
        self._stand = stand
        self._thought: tuple[float, ...] = ()
        self._permit: Permit | None = None
        self._ahead = False
        self._stood: Waiter | None = None  # as it stood in line the last time
        self._began: float | None = None

    async def come(self, waiter: Waiter) -> None:
        """Wait in line; who wants its permit not early begins at once."""
        assert self._line is not None
        assert self._stand is not None
        self._stood = waiter
        self._permit = await self._stand(self._line, waiter)
        self._ahead = waiter.ahead
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
        while line is not None and self._began is None:
            if self._ahead:
                await self._room(line)
                continue
            if self._permit is None:
                return
            permit, now = self._permit, anyio.current_time()
            begins = line.begins(permit)
            if now < begins:
                await anyio.sleep_until(begins)
            if line.may_begin(permit):
                self._begin()
                return
            self._permit = None
            line.missed(permit)
            await self._again()

    def took(self, use: Use, amount: float) -> None:
        """The call took so much of a limit, more or less than it had said."""
        if self._line is not None:
            self._line.took(use, self._thought, amount)

    def over(self) -> None:
        """The call has ended, or did not begin."""
        if self._line is not None and self._ahead:
            self._ahead = False
            self._line.no_more_ahead()
        if self._line is None or self._permit is None:
            return
        if self._began is None:
            self._line.missed(self._permit)
        else:
            self._line.ended(anyio.current_time() - self._began)

    async def _room(self, line: Line) -> None:
        """Until a call that was let in early has room, or is not to begin now."""
        assert self._stood is not None
        waiter = self._stood.anew()
        line.stand_ready(waiter)
        let_in(line.limits)
        if not waiter.called.is_set():
            try:
                await waiter.called.wait()
            except BaseException:
                waiter.gone = True
                if waiter.permit is not None:
                    line.missed(waiter.permit)
                raise
        self._ahead = False
        line.no_more_ahead()
        if waiter.error is not None:
            raise waiter.error
        if waiter.permit is None:
            await self._again()
            return
        self._permit = waiter.permit
        self._begin()

    async def _again(self) -> None:
        """In line before all others."""
        # As early as before: or those behind would have theirs too late.
        assert self._stood is not None
        await self.come(self._stood.anew(before_all=True))

    def _begin(self) -> None:
        assert self._line is not None
        assert self._permit is not None
        assert self._stood is not None
        self._began = anyio.current_time()
        self._thought = self._line.thought_of(self._stood.said)
        weights = self._line.weights_of(self._stood.said)
        self._line.used(self._permit, self._line.units_of(weights))
