"""
What a sink is: where effects go, and what it says of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from pipeline.calls import Moment
from pipeline.outbox import SinkFacts
from pipeline.store.effects import EffectRow


class Parcel(NamedTuple):
    """An effect with its body, as it was planned: the same each time it is sent."""

    effect: EffectRow
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Confirmed:
    """It is done; `answer` is what the receiver said, such as its own id."""

    answer: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refused:
    """The receiver said no, for ever, and has done nothing."""

    why: str


@dataclass(frozen=True, slots=True)
class NotSent:
    """It certainly did not happen: it may be sent again, after `after_s` at least."""

    why: str
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may have happened: the request was under way when the answer was lost."""

    why: str


@dataclass(frozen=True, slots=True)
class Absent:
    """Asked for, the receiver knows nothing of it: it was not done."""


Outcome = Confirmed | Refused | NotSent | Unknown | Absent


class Sink(Protocol):
    """
    A receiver of effects.

    Attributes:
        together: At most so many effects in one call.
        at_once: At most so many calls under way, of one worker.
        timeout_s: Of a call that has begun; what is not settled then is unknown.
    """

    name: str
    facts: SinkFacts
    together: int
    at_once: int
    timeout_s: float

    async def send(self, parcels: Sequence[Parcel], begin: Moment) -> list[Outcome]:
        """
        Have them done; an outcome for each.

        Args:
            begin: Called, and heard, before anything may happen outside: they are
                `sending` when it returns.  As late as can be, for whose worker dies
                before it was not sent; what it raises ends the call unsent.
        """
        ...

    async def ask(self, parcel: Parcel) -> Outcome:
        """Whether it was done; of class B alone."""
        ...
