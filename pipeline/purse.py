"""
The purse of a family: what an item, and all that is made of it, may take of its agents.

    taken + held + wanted <= most        of asks, tokens, calls and faults alike

A conversation holds what its next ask and its last one may take; at each draw it says
what it has taken since, gives back what it holds by the record, and wants what it will
need.  Draws are steps, decided in their transaction, so that each is counted once.
Where one lacks something, what conversations of ended items still hold goes back; they
hold it again when their item is retried.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pydantic import BaseModel


class Amounts(NamedTuple):
    """So much of each."""

    asks: int = 0
    tokens: int = 0
    calls: int = 0
    faults: int = 0

    def plus(self, other: Amounts) -> Amounts:
        """Both."""
        return Amounts(*map(operator.add, self, other))

    def less(self, other: Amounts) -> Amounts:
        """What is left of it, and never less than nothing."""
        return Amounts(*(max(0, a - b) for a, b in zip(self, other, strict=True)))


class Most(NamedTuple):
    """`item_asks`, `item_tokens`, … of a pipeline's `[budget]`; None: unbounded."""

    asks: int | None = None
    tokens: int | None = None
    calls: int | None = None
    faults: int | None = None

    @property
    def bounded(self) -> bool:
        """Whether any of it is."""
        return any(most is not None for most in self)


NOTHING = Amounts()


@dataclass(frozen=True, slots=True)
class Draw:
    """
    What a conversation takes from its family's purse.

    Attributes:
        most: As its pipeline says.
        talk: The conversation's name in its stage; it gives back what that holds.
        taken: Since its last draw.
        wants: What it will hold; of calls as many as there are will do.
        least: Will do as well, where there is not so much.
        note: Kept with the step.
    """

    most: Most
    talk: str
    taken: Amounts = NOTHING
    wants: Amounts = NOTHING
    least: Amounts = NOTHING
    note: Any = None


class Drawn(BaseModel):
    """
    What came of a draw, as it is kept with its step.

    Attributes:
        held: What the conversation holds from now on.
        lacks: The keys of `[budget]` that did not give what was wanted: `item_asks`.
    """

    held: Amounts = NOTHING
    lacks: list[str] = []
    note: Any = None


@dataclass(slots=True)
class Purse:
    """A family's row, while its lock is held."""

    most: Most = field(default_factory=Most)
    taken: Amounts = NOTHING
    held: Amounts = NOTHING
    lacked: str = ""  # by the last draw that lacked something

    def lacks(self, wish: Draw, holds: Amounts) -> bool:
        """Whether a draw of who holds this would lack something."""
        trial = Purse(self.most, self.taken, self.held)
        return bool(trial.draw(wish, holds).lacks)

    def draw(self, wish: Draw, holds: Amounts) -> Drawn:
        """Decide one draw of who holds this, and count it."""
        self.most = wish.most
        self.taken = self.taken.plus(wish.taken)
        self.held = self.held.less(holds)
        given, lacks = self._given(wish.wants)
        if given is None:
            given, _ = self._given(wish.least)
        held = NOTHING if given is None else given
        self.held = self.held.plus(held)
        if lacks:
            self.lacked = lacks[0]
        return Drawn(held=held, lacks=lacks, note=wish.note)

    def _given(self, wants: Amounts) -> tuple[Amounts | None, list[str]]:
        """What it gives of that, None where it gives nothing; and what it lacks."""
        some, lacks, none = [], [], False
        rows = zip(
            Amounts._fields, wants, self.most, self.taken, self.held, strict=True
        )
        for name, want, most, taken, held in rows:
            room = want if most is None else max(0, most - taken - held)
            some.append(min(want, room))
            if want > room:
                lacks.append(f"item_{name}")
                none = none or name != "calls"
        return (None if none else Amounts(*some)), lacks
