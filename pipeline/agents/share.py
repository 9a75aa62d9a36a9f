"""
A conversation's share of what its item, and all that is made of it, may take.

It holds what its next ask and the last one may take, as long as it goes on; so whoever
has begun can give one last answer, however many take from the same purse meanwhile.
Where nothing is bounded nothing is drawn.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from pipeline.agents.meter import Meter
from pipeline.messages import Beside
from pipeline.purse import NOTHING, Amounts, Draw, Drawn
from pipeline.stage import Context

NONE_BESIDE = Beside()


class Share:
    """
    Of one conversation; every draw is a step.

    Args:
        name: Of the conversation.
        longest: The most tokens of an answer.

    Attributes:
        lacks: The keys of `[budget]` that did not give what was wanted last.
    """

    def __init__(self, ctx: Context, name: str, meter: Meter, longest: int) -> None:
        self.lacks: tuple[str, ...] = ()
        self._ctx = ctx
        self._name = name
        self._meter = meter
        self._longest = longest
        self._held = NOTHING
        self._taken = NOTHING  # since the last draw
        self._beside = NOTHING  # of this ask, what a draw has counted

    async def ask(
        self, number: int, size: int, *, last: bool, beside: Beside = NONE_BESIDE
    ) -> int:
        """
        Take for an ask of so many bytes, and keep room for the last one.

        Args:
            beside: What this ask has taken for answers that were none: it is counted
                before it is asked once more.

        Returns:
            How many asks there is room for: 0, 1 where this is the last, or 2.
        """
        most = self._ctx.most
        self._beside = NOTHING
        if most.asks is None and most.tokens is None:
            return 2
        this, after = self._meter.at_most(size, self._longest)
        least = Amounts(asks=1, tokens=this)
        wants = least if last else Amounts(asks=2, tokens=this + after)
        step = f"purse-{number}"
        room = (await self._draw(step, wants, least)).asks
        for again in count(1):
            known = self._ctx.remembered(f"{self._name}/{step}-again-{again}")
            spoilt = Amounts(asks=beside.asks, tokens=beside.tokens)
            if known is not None:
                spoilt = Amounts(*known["note"])
            elif beside.answered or spoilt == self._beside:
                return room
            self._taken = self._taken.plus(spoilt.less(self._beside))
            self._beside = spoilt
            name = f"{step}-again-{again}"
            room = (await self._draw(name, wants, least, note=spoilt)).asks
        raise AssertionError("it counts without end")

    def took(self, tokens: int, beside: Beside = NONE_BESIDE) -> None:
        """An ask was answered; `beside`: what it has taken in all, besides."""
        spoilt = Amounts(asks=beside.asks, tokens=beside.tokens).less(self._beside)
        self._taken = self._taken.plus(spoilt).plus(Amounts(asks=1, tokens=tokens))

    async def calls(self, number: int, many: int) -> int:
        """How many of so many calls of an answer may be made."""
        if self._ctx.most.calls is not None:
            left = self._left()
            wants = left.plus(Amounts(calls=many))
            many = (await self._draw(f"purse-{number}-calls", wants, left)).calls
        self._taken = self._taken.plus(Amounts(calls=many))
        return many

    async def fault(self, number: int) -> bool:
        """Whether an answer that does not fit is forgiven once more."""
        if self._ctx.most.faults is not None:
            left = self._left()
            wants = left.plus(Amounts(faults=1))
            held = await self._draw(f"purse-{number}-fault", wants, left)
            if not held.faults:
                return False
        self._taken = self._taken.plus(Amounts(faults=1))
        return True

    async def end(self, note: Any) -> None:
        """Give back what it holds, and keep what came of the conversation."""
        step = f"{self._name}/ended"
        if self._ctx.most.bounded:
            given = Draw(self._ctx.most, self._name, self._taken, note=note)
            await self._ctx.draw(step, given)
        else:
            await self._ctx.step(step, kept, note)

    def _left(self) -> Amounts:
        """What it goes on holding."""
        return self._held.less(self._taken)

    async def _draw(
        self, step: str, wants: Amounts, least: Amounts, note: Any = None
    ) -> Amounts:
        draw = Draw(self._ctx.most, self._name, self._taken, wants, least, note)
        drawn: Drawn = await self._ctx.draw(f"{self._name}/{step}", draw)
        self._held, self._taken = drawn.held, NOTHING
        if drawn.lacks:
            self.lacks = tuple(drawn.lacks)
        return drawn.held


async def kept(what: Any) -> Any:
    """What is only to be on record."""
    return what
