"""
What becomes of documents that arrive, in memory.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pipeline.errors import NotFound
from pipeline.model import Batch, Disposal, Item, ItemId, Receipt, State, Submission
from pipeline.store.memory.tables import EPOCH, Admitted, MemoryTables, Place
from pipeline.store.refusals import (
    check_names,
    check_trial,
    key_in_trial,
    looked_at_again,
)
from pipeline.store.rows import PipelineRow


class MemoryAdmission(MemoryTables):
    """The way in; see the port for every contract."""

    async def register_pipeline(
        self, name: str, version: str, stages: Sequence[str], files: Mapping[str, str]
    ) -> int:
        for row in self._pipelines.values():
            if (row.name, row.version) == (name, version):
                return row.id
        number = len(self._pipelines) + 1
        self._pipelines[number] = PipelineRow(
            number, name, version, list(stages), dict(files)
        )
        return number

    async def open_batch(
        self, tenant: str, name: str, *, deadline_s: float, trial: str = ""
    ) -> Batch:
        check_names(tenant, name)
        self._weights.setdefault(tenant, 1.0)
        if (tenant, name) not in self._batches:
            deadline_at = self._at(self.now() + deadline_s)
            number = len(self._batches) + 1
            self._batches[tenant, name] = Batch(
                number, tenant, name, deadline_at, trial
            )
        return check_trial(self._batches[tenant, name], trial)

    async def set_deadline(
        self, batch_id: int, author: str, *, deadline_s: float
    ) -> int:
        found = (p for p, b in self._batches.items() if b.id == batch_id)
        place = next(found, None)
        if place is None:
            raise NotFound(f"no batch {batch_id}")
        due = self.now() + deadline_s
        batch = self._batches[place]._replace(deadline_at=self._at(due))
        self._batches[place] = batch
        moved = 0
        for item in filter(self._of_batch(batch_id), self._items):
            end = self._outcomes.get(item)
            moved += end is None
            if end is None or end[0].state is not State.DONE:
                self._items[item].deadline = due
                self._follow(item, due)
        for line in self._line.values():
            line[:] = [(self._items[i].deadline, i) for _, i in line]
            heapq.heapify(line)
        return moved

    def _follow(self, item: ItemId, due: float) -> None:
        """Nobody waits past the deadline, and a hold shows it."""
        if item in self._open:
            number = self._open[item]
            hold = self._holds[number]._replace(deadline_at=self._at(due))
            self._holds[number] = hold
        parked = self._joining.get(item) or self._waiting.get(item)
        if parked is not None:
            parked.until = due if item in self._joining else min(parked.until, due)
            heapq.heappush(self._timers, (parked.until, item))

    async def admit(
        self, batch: Batch, pipeline_id: int, submissions: Sequence[Submission]
    ) -> list[Receipt]:
        return self._receive(batch, pipeline_id, submissions)

    def _receive(
        self,
        batch: Batch,
        pipeline_id: int,
        submissions: Sequence[Submission],
        *,
        parent: ItemId | None = None,
        stage: str | None = None,
    ) -> list[Receipt]:
        pipeline = self._pipelines[pipeline_id]
        kept = self._receipts
        if batch.trial:
            submissions = [key_in_trial(batch.id, s, parent) for s in submissions]
        submissions = [
            looked_at_again(s, kept.get(s.token), batch.id) for s in submissions
        ]
        before = set(kept) & {s.token for s in submissions}
        for s in submissions:
            if s.token in kept:
                continue
            place = (batch.tenant, pipeline.name, s.key)
            if s.refused_code:
                receipt = Receipt(s.name, Disposal.QUARANTINED, None)
            elif place in self._keys:
                receipt = Receipt(s.name, Disposal.DUPLICATE, self._keys[place])
            else:
                item = len(self._items) + 1
                self._keys[place] = item
                facts = Item(
                    item,
                    batch.tenant,
                    batch.name,
                    pipeline_id,
                    s.name,
                    dict(s.input),
                    bool(batch.trial),
                )
                deadline = (batch.deadline_at - EPOCH).total_seconds()
                self._items[item] = Admitted(facts, s.key, deadline, self.now(), parent)
                if parent is not None:
                    self._kin.setdefault(parent, []).append(item)
                self._put_ready(item, Place(stage or pipeline.stages[0], 0))
                receipt = Receipt(s.name, Disposal.ITEM, item)
            kept[s.token] = (batch.id, receipt)
        return [replace(kept[s.token][1], again=s.token in before) for s in submissions]
