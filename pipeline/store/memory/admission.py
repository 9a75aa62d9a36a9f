"""
What becomes of documents that arrive, in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.model import (
    Batch,
    Disposal,
    Item,
    ItemId,
    Receipt,
    Submission,
)
from pipeline.store.memory.tables import EPOCH, Admitted, MemoryTables, Place
from pipeline.store.refusals import check_names
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

    async def open_batch(self, tenant: str, name: str, *, deadline_s: float) -> Batch:
        check_names(tenant, name)
        self._weights.setdefault(tenant, 1.0)
        if (tenant, name) not in self._batches:
            deadline_at = self._at(self.now() + deadline_s)
            number = len(self._batches) + 1
            self._batches[tenant, name] = Batch(number, tenant, name, deadline_at)
        return self._batches[tenant, name]

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
        for s in submissions:
            if s.token in self._receipts:
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
                    item, batch.tenant, batch.name, pipeline_id, s.name, dict(s.input)
                )
                deadline = (batch.deadline_at - EPOCH).total_seconds()
                self._items[item] = Admitted(facts, s.key, deadline, self.now(), parent)
                if parent is not None:
                    self._kin.setdefault(parent, []).append(item)
                self._put_ready(item, Place(stage or pipeline.stages[0], 0))
                receipt = Receipt(s.name, Disposal.ITEM, item)
            self._receipts[s.token] = (batch.id, receipt)
        return [self._receipts[s.token][1] for s in submissions]
