"""
Where items are, in memory: the reads of the port, and no other reports.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from pipeline.errors import NotFound
from pipeline.model import Disposal, ItemId, State
from pipeline.store.memory.tables import EPOCH, MemoryTables
from pipeline.store.outside import WAIT_CODE
from pipeline.store.rows import (
    AttemptRow,
    Counts,
    ItemRow,
    ProductRow,
    WaitsRow,
    WorkRow,
)
from pipeline.store.signals import SIGNAL


class MemoryReports(MemoryTables):
    """Places and counts; see the port for every contract."""

    async def item(self, item_id: ItemId) -> ItemRow:
        if item_id not in self._items:
            raise NotFound(f"no item {item_id}", hint="`waybill items ls` lists them")
        row = self._items[item_id]
        code = why = ""
        until = None
        if item_id in self._outcomes:
            end, since = self._outcomes[item_id]
            state, stage, attempt = end.state, end.stage, 0
            code, why = end.code, end.why
        elif item_id in self._open:
            hold = self._holds[self._open[item_id]]
            state, stage, attempt = State.HELD, hold.stage, 0
            code, why = hold.code, hold.why
            since = (hold.held_at - EPOCH).total_seconds()
        else:
            place, state = self._live(item_id)
            stage, attempt, since = place.stage, place.attempt, place.since
            why = place.why
            if state is State.WAITING:
                until = self._at(place.until)
                coded = why if re.match(WAIT_CODE, why) else ""
                code = SIGNAL if place.listens else coded
        return ItemRow(
            id=item_id,
            name=row.facts.name,
            tenant=row.facts.tenant,
            batch=row.facts.batch,
            pipeline_id=row.facts.pipeline_id,
            key=row.key,
            state=state,
            stage=stage,
            attempt=attempt,
            code=code,
            why=why,
            received_at=self._at(row.received),
            deadline_at=self._at(row.deadline),
            since=self._at(since),
            until=until,
            parent_id=row.parent,
            joining=item_id in self._joining,
            pipeline=self._pipelines[row.facts.pipeline_id].name,
        )

    async def facts(self, item: ItemId) -> tuple[int, str]:
        if item not in self._items:
            raise NotFound(f"no item {item}", hint="`waybill items ls` lists the items")
        facts = self._items[item].facts
        return facts.pipeline_id, json.dumps(facts.input)

    async def counts(self, batch_id: int | None = None) -> Counts:
        mine = self._of_batch(batch_id)
        receipts = [
            r for b, r in self._receipts.values() if batch_id is None or b == batch_id
        ]
        ends = Counter(e.state for i, (e, _) in self._outcomes.items() if mine(i))
        gates = Counter(r.disposal for r in receipts)
        planes = (self._ready, self._running, self._waiting, self._joining)
        return Counts(
            received=len(receipts),
            live=sum(mine(i) for plane in planes for i in plane),
            held=sum(mine(i) for i in self._open),
            done=ends[State.DONE],
            rejected=ends[State.REJECTED],
            failed=ends[State.FAILED],
            cancelled=ends[State.CANCELLED],
            duplicates=gates[Disposal.DUPLICATE],
            quarantined=gates[Disposal.QUARANTINED],
        )

    async def astray(self, batch_id: int | None = None) -> list[ItemId]:
        seen: dict[ItemId, int] = defaultdict(int)
        planes: tuple[Mapping[ItemId, Any], ...] = (
            self._ready,
            self._running,
            self._waiting,
            self._joining,
            self._open,
            self._outcomes,
        )
        for plane in planes:
            for item in plane:
                seen[item] += 1
        mine = self._of_batch(batch_id)
        return [i for i in self._items if mine(i) and seen[i] != 1][:100]

    async def failures(self, item_id: ItemId, *, limit: int = 10) -> list[AttemptRow]:
        found = [
            AttemptRow(
                a.stage,
                a.attempt,
                a.code,
                a.message,
                a.charged,
                a.frames.splitlines(),
                self._at(at),
            )
            for (item, a), at in zip(self.attempts, self._attempted, strict=True)
            if item == item_id
        ]
        return found[::-1][:limit]

    async def waits(self, item_id: ItemId) -> WaitsRow:
        if item_id not in self._ready and item_id not in self._running:
            return WaitsRow(0, 0, "")
        place, state = self._live(item_id)
        at = self._progress.get(item_id)
        here = at is not None and at.stage == place.stage
        waits = at.waits_for if at and here and state is State.RUNNING else ""
        beside = sum(self._live(i)[0].stage == place.stage for i in self._running)
        return WaitsRow(place.strikes, beside, waits)

    async def in_work(
        self, *, batch_id: int | None = None, longer_than: int = 0, limit: int = 5
    ) -> list[WorkRow]:
        mine = self._of_batch(batch_id)
        rows = []
        for item in filter(mine, self._running):
            stage = self._live(item)[0].stage
            at = self._progress.get(item)
            moves = at is not None and not at.waits_for
            if at and moves and at.stage == stage and at.total > longer_than:
                name = self._items[item].facts.name
                rows.append(WorkRow(item, name, at.stage, at.done, at.total))
        return sorted(rows, key=lambda r: (-r.total, r.item))[:limit]

    async def products(self, item: ItemId) -> list[ProductRow]:
        made = sorted(p for (whose, _), p in self._products.items() if whose == item)
        return [
            ProductRow(p.name, p.artifact, json.loads(p.facts), p.stage) for p in made
        ]
