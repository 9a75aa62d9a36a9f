"""Receivers of effects in a test: a sink that is told what to say, and parcels."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import anyio

from pipeline.calls import Moment
from pipeline.effects.sink import Absent, Confirmed, Outcome, Parcel
from pipeline.outbox import EffectState, SinkClass, SinkFacts
from pipeline.store.effects import EffectRow


async def begun() -> None:
    """Nobody has to hear of it."""


class Receiver:
    """
    A sink that remembers what reached it.

    Attributes:
        script: What it says next: an outcome, an error, or seconds to hang.
        line_s: Until its limits let a call in.
        got: Keys, as they came; `bodies` and `asked` likewise.
    """

    def __init__(
        self,
        name: str = "shop",
        sink_class: SinkClass = SinkClass.A,
        *,
        together: int = 1,
        at_once: int = 8,
        timeout_s: float = 30.0,
        took_s: float = 0.1,
        irreversible: bool = False,
        line_s: float = 0.0,
    ) -> None:
        self.name = name
        self.facts = SinkFacts(sink_class, irreversible)
        self.together, self.at_once, self.timeout_s = together, at_once, timeout_s
        self.took_s = took_s
        self.line_s = line_s
        self.script: list[Any] = []
        self.calls: list[list[str]] = []
        self.bodies: dict[str, list[Any]] = {}
        self.asked: list[str] = []
        self.known: set[str] = set()  # what it has really done
        self.under_way = self.most = 0

    @property
    def got(self) -> list[str]:
        return [key for call in self.calls for key in call]

    async def send(self, parcels: Sequence[Parcel], begin: Moment) -> list[Outcome]:
        await anyio.sleep(self.line_s)
        await begin()
        self.calls.append([p.effect.key for p in parcels])
        for p in parcels:
            self.bodies.setdefault(p.effect.key, []).append(p.payload)
        said = self.script.pop(0) if self.script else Confirmed({"id": "1"})
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if isinstance(said, float):
                self.known.update(p.effect.key for p in parcels)
                await anyio.sleep(said)
                said = Confirmed()
            await anyio.sleep(self.took_s)
        finally:
            self.under_way -= 1
        if isinstance(said, BaseException):
            raise said
        outcomes = said if isinstance(said, list) else [said] * len(parcels)
        for p, outcome in zip(parcels, outcomes, strict=False):
            if isinstance(outcome, Confirmed):
                self.known.add(p.effect.key)
        return outcomes

    async def ask(self, parcel: Parcel) -> Outcome:
        await anyio.sleep(self.took_s)
        self.asked.append(parcel.effect.key)
        return Confirmed() if parcel.effect.key in self.known else Absent()


def parcel(number: int = 1, payload: dict[str, Any] | None = None, **more: Any) -> Any:
    """An effect with its body."""
    row = EffectRow(
        id=number,
        item_id=number,
        item_name=f"doc-{number}.png",
        tenant="acme",
        batch="may",
        batch_id=1,
        stage="write",
        name="tell",
        sink="shop",
        key=f"{number:040x}",
        sink_class=SinkClass.A,
        state=EffectState.SENDING,
        payload="{}",
        payload_ref=None,
        artifacts={},
        irreversible=False,
        tries=1,
        worker=None,
        planned_at=datetime(2026, 12, 1, 12, tzinfo=UTC),
        due_at=None,
        sent_at=None,
        ended_at=None,
        answer=None,
        why="",
        released_by=None,
        released_at=None,
    )
    return Parcel(row._replace(**more), payload or {})
