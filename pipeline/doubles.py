"""
What stands for the store in a test of a stage: its children, and answers from outside.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pipeline.model import Checkpoint, Kin
from pipeline.state import encode
from pipeline.store.outside import Delivery, SignalRow
from pipeline.store.rows import KinRow

EPOCH = datetime(2026, 12, 1, tzinfo=UTC)
DAY_S = 86400.0


class Outside:
    """The part of a store that a waiting stage asks."""

    def __init__(
        self, stage: str, kin: Sequence[Kin] | None, signals: Mapping[str, Any]
    ) -> None:
        self._stage = stage
        self._kin = kin
        self._answers = {
            name: encode(a) for name, a in signals.items() if a is not None
        }
        self._over = {name for name, a in signals.items() if a is None}

    async def signals(self, item: int, name: str) -> list[SignalRow]:
        text = self._answers.get(name)
        late, came = name in self._over, None if text is None else "testing"
        facts = (self._stage, EPOCH, 0.0, None, 0.0, None, late, came, text, None)
        return [SignalRow(name, *facts, "testing" if came else "", None)]

    async def answer(self, item: int, name: str, answer: Delivery) -> None:
        artifact = answer.payload is None
        assert not artifact, "an answer of more than 8 kB is none for a test"
        self._answers[name] = answer.payload or ""

    async def callback_until(self, item: int, within_s: float | None) -> int:
        return math.ceil(EPOCH.timestamp() + (within_s or DAY_S))

    async def open_children(self, parent: int) -> int:
        return 1 if self._kin is None else 0

    async def kin(self, parent: int, only: Sequence[int] | None = None) -> list[KinRow]:
        return [
            KinRow(k.item_id, k.name, k.values, k.state.value, k.stage, k.code)
            for k in self._kin or ()
            if only is None or k.item_id in only
        ]

    async def history(self, items: Sequence[int]) -> dict[int, list[Checkpoint]]:
        return {item: [] for item in items}
