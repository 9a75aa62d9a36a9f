"""
Receivers of effects in a history, of each class: what they did is in their own books.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import trio

from pipeline.calls import Moment
from pipeline.effects.sink import Absent, Confirmed, NotSent, Outcome, Parcel, Refused
from pipeline.effects.sink import Unknown as Unheard
from pipeline.outbox import SinkClass, SinkFacts


class Receiver:
    """
    A sink that fails by a seed.

    Attributes:
        came: How often each key reached it and was accepted.
        did: How often it did what the key says: more than once is a promise broken.
        bodies: What came with each key.
    """

    def __init__(self, name: str, of: SinkClass, rng: random.Random) -> None:
        self.name = name
        self.facts = SinkFacts(of)
        self.together = 1
        self.at_once = 4
        self.timeout_s = 3.0
        self.came: Counter[str] = Counter()
        self.did: Counter[str] = Counter()
        self.bodies: dict[str, set[str]] = {}
        self.faults_on = True
        self._rng = rng

    async def send(self, parcels: Sequence[Parcel], begin: Moment) -> list[Outcome]:
        """Do it, or not, and say so, or not."""
        await trio.sleep(self._rng.uniform(0, 0.5))  # its limits let it in
        await begin()
        return [await self._one(parcel) for parcel in parcels]

    async def _one(self, parcel: Parcel) -> Outcome:
        key = parcel.effect.key
        drawn = self._rng.random() if self.faults_on else 1.0
        await trio.sleep(self._rng.uniform(0, 0.5))
        if drawn < 0.08:
            return NotSent("no connection", 0.5)
        if drawn < 0.1 and not self.did[key]:
            return Refused("no")
        self.came[key] += 1
        self.bodies.setdefault(key, set()).add(str(parcel.payload))
        if self.facts.sink_class is not SinkClass.A or not self.did[key]:
            self.did[key] += 1
        if drawn < 0.15:
            await trio.sleep_forever()
        await trio.sleep(self._rng.uniform(0, 0.5))
        return Unheard("the answer was lost") if drawn < 0.2 else Confirmed()

    async def ask(self, parcel: Parcel) -> Outcome:
        """Whether it was done."""
        await trio.sleep(self._rng.uniform(0, 0.5))
        return Confirmed() if self.did[parcel.effect.key] else Absent()
