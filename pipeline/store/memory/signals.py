"""
Signals in memory.
"""

from __future__ import annotations

import json
import math

from pipeline.model import ItemId
from pipeline.signals import Ask
from pipeline.store.memory.tables import EPOCH, MemoryTables, Place, Signal
from pipeline.store.signals import SIGNALS_MAX, Delivery, SignalRow, Taken

AFTER_DEADLINE_S = 30 * 86400.0


class MemorySignals(MemoryTables):
    """Answers from outside; see the port for every contract."""

    async def signals(self, item: ItemId, name: str = "") -> list[SignalRow]:
        return [
            self._shown(called, row)
            for (whose, called), row in sorted(self._signals.items())
            if whose == item and name in ("", called)
        ]

    async def answer(
        self, item: ItemId, name: str, answer: Delivery, *, tenant: str = ""
    ) -> Taken:
        there = self._items.get(item)
        if there is None or tenant not in ("", there.facts.tenant):
            return Taken.UNKNOWN
        first = self._signals.get((item, name), Signal()).answer
        if first is not None:
            return Taken.AGAIN if first.id == answer.id else Taken.ANSWERED
        if item in self._outcomes:
            return Taken.LATE
        if answer.until is not None and self._epoch() > answer.until:
            return Taken.EXPIRED
        mine = [row for (whose, _), row in self._signals.items() if whose == item]
        known = (item, name) in self._signals
        if not known and sum(not row.stage for row in mine) >= SIGNALS_MAX:
            return Taken.FULL
        row = self._signals.setdefault((item, name), Signal())
        asked = row.schema if row.stage and not row.lapsed else None
        if asked is not None and json.loads(asked) != answer.schema:
            return Taken.UNSEEN
        row.answer, row.answered = answer, self.now()
        place = self._waiting.get(item)
        if place is None or name not in place.listens:
            return Taken.KEPT
        del self._waiting[item]
        again = Place(place.stage, place.seq, place.attempt, place.strikes)
        self._put_ready(item, again)
        return Taken.NOW

    async def note_refused(
        self, item: ItemId, name: str, code: str, author: str, *, tenant: str = ""
    ) -> None:
        """There are no timelines here."""

    async def lapse(self, item: ItemId, name: str, stage: str, within_s: float) -> bool:
        row = self._signals.get((item, name))
        if row is None or row.stage != stage or row.answer is not None:
            return False
        row.lapsed = row.asked + within_s <= self.now()
        return row.lapsed

    async def callback_until(self, item: ItemId, within_s: float | None) -> int:
        late = self._items[item].deadline + AFTER_DEADLINE_S
        left_s = late - self.now() if within_s is None else within_s
        return math.ceil(self._epoch() + left_s)

    def _asks(self, item: ItemId, stage: str, ask: Ask) -> bool:
        """A parked stage asks; whether there is an answer already."""
        row = self._signals.setdefault((item, ask.name), Signal())
        if row.answer is not None and row.answer.id == ask.void:
            row.answer = None
        if row.stage != stage:
            row.stage, row.asked, row.lapsed = stage, self.now(), False
        row.within_s, row.schema = ask.within_s, ask.schema
        row.poll = None if ask.poll_s is None else self.now() + ask.poll_s
        return row.answer is not None

    def _epoch(self) -> float:
        return EPOCH.timestamp() + self.now()

    def _shown(self, name: str, row: Signal) -> SignalRow:
        asked = bool(row.stage)
        ends = None if row.within_s is None else self._at(row.asked + row.within_s)
        answer = row.answer or Delivery("", None, None, "")
        return SignalRow(
            name,
            row.stage,
            self._at(row.asked) if asked else None,
            self.now() - row.asked if asked else 0.0,
            ends,
            None if row.poll is None else row.poll - self.now(),
            None if row.schema is None else json.loads(row.schema),
            row.lapsed,
            row.answer and row.answer.id,
            answer.payload,
            answer.ref,
            answer.author,
            self._at(row.answered) if row.answer else None,
        )
