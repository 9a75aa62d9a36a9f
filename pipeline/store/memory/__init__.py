"""
The store in memory: the same port for virtual time.

It exists so that three weeks pass in seconds, with the real dispatcher, journal
and worker on top; tests/store runs one conformance suite on it and on PostgreSQL.
Time is anyio's clock, counted from `EPOCH`.  Nothing here is durable.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipeline.errors import NotFound, Refused
from pipeline.model import (
    Batch,
    Checkpoint,
    Disposal,
    Finish,
    HoldId,
    ItemId,
    Receipt,
    State,
    Submission,
)
from pipeline.store.memory.work import EPOCH, MemoryWork, _Place
from pipeline.store.port import (
    Counts,
    Decision,
    FinishedRow,
    HoldRow,
    ItemRow,
    PipelineRow,
    WorkRow,
)
from pipeline.store.postgres.holds import check_names, decided_before, stale, taken

__all__ = ["EPOCH", "MemoryStore"]


class MemoryStore(MemoryWork):
    """`WorkStore` and `Desk` on dictionaries; see the port for every contract."""

    # -- the desk ----------------------------------------------------------------------

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

    def _of_batch(self, batch_id: int | None) -> Callable[[ItemId], bool]:
        if batch_id is None:
            return lambda _: True
        name = {b.id: (b.tenant, b.name) for b in self._batches.values()}[batch_id]
        return lambda i: (
            (self._items[i].facts.tenant, self._items[i].facts.batch) == name
        )

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

    async def in_work(
        self, *, batch_id: int | None = None, longer_than: int = 0, limit: int = 5
    ) -> list[WorkRow]:
        mine = self._of_batch(batch_id)
        rows = []
        for item in filter(mine, self._running):
            stage = self._live(item)[0].stage
            told = self._progress.get(item)
            if told and told.stage == stage and told.total > longer_than:
                rows.append(WorkRow(item, self._items[item].facts.name, *told))
        return sorted(rows, key=lambda r: (-r.total, r.item))[:limit]

    async def finished(self, batch_id: int, product: str) -> list[FinishedRow]:
        mine = self._of_batch(batch_id)
        found = []
        for item, (end, at) in sorted(self._outcomes.items()):
            if end.state is State.DONE and mine(item):
                made = self._products.get((item, product))
                kept = (made.artifact, json.loads(made.facts)) if made else (None, {})
                name = self._items[item].facts.name
                found.append(FinishedRow(item, name, self._at(at), *kept))
        return found

    def _seen_by(self, hold: HoldRow) -> HoldRow:
        if hold.claimed_until is None or hold.claimed_until <= self._at(self.now()):
            return hold._replace(claimed_by=None, claimed_until=None)
        return hold

    async def holds(
        self, *, decided: bool = False, tenant: str | None = None, limit: int = 100
    ) -> list[HoldRow]:
        rows = [h for h in self._holds.values() if tenant in (None, h.tenant)]
        if decided:
            ruled = [(h.decision, h) for h in rows if h.decision is not None]
            ruled.sort(key=lambda pair: pair[0].decided_at, reverse=True)
            return [h for _, h in ruled][:limit]
        rows = [h for h in rows if self._open.get(h.item_id) == h.id]
        rows.sort(key=lambda h: (h.deadline_at, bool(h.needs), h.id))
        return [self._seen_by(h) for h in rows[:limit]]

    async def hold(self, hold_id: HoldId) -> HoldRow:
        if hold_id not in self._holds:
            raise NotFound(f"no hold h{hold_id}", hint="`waybill review ls` lists them")
        return self._seen_by(self._holds[hold_id])

    async def hold_of(self, item_id: ItemId) -> HoldRow:
        for hold in reversed(self._holds.values()):
            if hold.item_id == item_id:
                return self._seen_by(hold)
        raise NotFound(f"item {item_id} is not held and never was")

    def _is_open(self, hold: HoldRow) -> bool:
        return self._open.get(hold.item_id) == hold.id

    async def claim_hold(
        self, hold_id: HoldId, author: str, *, lease_s: float
    ) -> HoldRow:
        hold = await self.hold(hold_id)
        if not self._is_open(hold):
            raise decided_before(hold)
        if hold.claimed_by not in (None, author):
            raise taken(hold)
        until = self._at(self.now() + lease_s)
        self._holds[hold_id] = hold._replace(claimed_by=author, claimed_until=until)
        return self._holds[hold_id]

    async def release_hold(self, hold_id: HoldId, author: str) -> None:
        hold = await self.hold(hold_id)
        if hold.claimed_by not in (None, author):
            raise taken(hold)
        self._holds[hold_id] = hold._replace(claimed_by=None, claimed_until=None)

    async def decide(
        self,
        hold_id: HoldId,
        *,
        verb: str,
        author: str,
        reason: str,
        digest: str,
        update: str | None,
    ) -> HoldRow:
        hold = await self.hold(hold_id)
        if not self._is_open(hold):
            raise decided_before(hold)
        if hold.claimed_by not in (None, author):
            raise taken(hold)
        if hold.digest != digest:
            raise stale(hold)
        if verb not in ("approve", "reject", "edit") or not author:
            raise Refused("the database refused the rows (decisions_check)")
        if verb == "reject" and not reason:
            raise Refused("the database refused the rows (decisions_check)")
        decision = Decision(verb, author, reason, self._at(self.now()))
        self._holds[hold_id] = hold._replace(
            decision=decision, claimed_by=None, claimed_until=None
        )
        del self._open[hold.item_id]
        after = hold.stage if hold.again else hold.next_stage
        if verb == "reject":
            end = Finish(State.REJECTED, hold.stage, "REVIEW_REJECTED", reason)
            self._end(hold.item_id, end)
            return self._holds[hold_id]
        row = self._items[hold.item_id]
        row.checkpoints.append(
            Checkpoint(hold.seq, hold.stage, None, update, None, after, 0.0)
        )
        row.writers[hold.seq] = None
        if after:
            self._put_ready(hold.item_id, _Place(after, hold.seq + 1))
        else:
            self._end(hold.item_id, Finish(State.DONE, hold.stage))
        return self._holds[hold_id]

    async def cancel(self, items: Sequence[ItemId], author: str) -> dict[ItemId, str]:
        said = {}
        for item in sorted(set(items)):
            if self._cancel_parked(item, author):
                said[item] = "cancelled"
            elif item in self._running:
                self._cancels.setdefault(item, author)
                said[item] = "cancelling"
            else:
                said[item] = "final"
        return said

    async def retry(self, items: Sequence[ItemId], author: str) -> dict[ItemId, str]:
        said = {}
        for item in sorted(set(items)):
            end = self._outcomes.get(item)
            if end is None or end[0].state is State.DONE:
                said[item] = "not final"
                continue
            del self._outcomes[item]
            row = self._items[item]
            seq = row.checkpoints[-1].seq + 1 if row.checkpoints else 0
            self._put_ready(item, _Place(end[0].stage, seq))
            said[item] = "ready"
        return said

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
        )

    def _live(self, item: ItemId) -> tuple[_Place, State]:
        for plane, state in (
            (self._ready, State.READY),
            (self._running, State.RUNNING),
            (self._waiting, State.WAITING),
            (self._joining, State.WAITING),
        ):
            if item in plane:
                place = plane[item]
                if state is State.RUNNING and (stage := self._reached(item, place)):
                    return replace(place, stage=stage), state
                return place, state
        raise NotFound(f"item {item} is astray")
