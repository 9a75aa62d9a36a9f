"""
What workers ask of the store in memory: sessions, claims, commits, the reaper.

As `work.py` for PostgreSQL; `memory.py` adds what people ask.
"""

from __future__ import annotations

import heapq
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import assert_never
from uuid import uuid4

import anyio

from pipeline.errors import LeaseLost, NotFound, Refused
from pipeline.model import (
    Attempt,
    Batch,
    Checkpoint,
    Claim,
    Disposal,
    Entry,
    Finish,
    HoldId,
    Item,
    ItemId,
    Move,
    Product,
    Progress,
    Receipt,
    State,
    Submission,
    ToHeld,
    ToJoining,
    ToReady,
    ToWaiting,
    WorkerId,
)
from pipeline.store.port import (
    HoldRow,
    KinRow,
    Origin,
    PipelineRow,
    Session,
    Share,
)
from pipeline.store.postgres.admission import as_submissions

EPOCH = datetime(2026, 12, 1, tzinfo=UTC)


@dataclass(slots=True)
class _Place:
    """An item's row in `ready`, `running`, `waiting` or `joining`."""

    stage: str
    seq: int
    attempt: int = 0
    strikes: int = 0
    since: float = 0.0
    worker: WorkerId | None = None
    solo: bool = False
    until: float = 0.0
    why: str = ""


@dataclass(slots=True)
class _Item:
    facts: Item
    key: str
    deadline: float
    received: float
    parent: ItemId | None = None
    checkpoints: list[Checkpoint] = field(default_factory=list)
    writers: dict[int, WorkerId | None] = field(default_factory=dict)


@dataclass(slots=True)
class _Worker:
    origin: Origin
    lease_until: float


class MemoryWork:
    """The `WorkStore` half, on dictionaries; see the port for every contract."""

    def __init__(self) -> None:
        self.attempts: list[tuple[ItemId, Attempt]] = []
        self._items: dict[ItemId, _Item] = {}
        self._ready: dict[ItemId, _Place] = {}
        self._line: dict[tuple[str, str], list[tuple[float, ItemId]]] = {}
        self._running: dict[ItemId, _Place] = {}
        self._waiting: dict[ItemId, _Place] = {}
        self._timers: list[tuple[float, ItemId]] = []
        self._joining: dict[ItemId, _Place] = {}
        self._outcomes: dict[ItemId, tuple[Finish, float]] = {}
        self._holds: dict[HoldId, HoldRow] = {}
        self._open: dict[ItemId, HoldId] = {}
        self._workers: dict[WorkerId, _Worker] = {}
        self._cancels: dict[ItemId, str] = {}
        self._batches: dict[tuple[str, str], Batch] = {}
        self._receipts: dict[str, tuple[int, Receipt]] = {}
        self._keys: dict[tuple[str, str, str], ItemId] = {}
        self._pipelines: dict[int, PipelineRow] = {}
        self._weights: dict[str, float] = {}
        self._kin: dict[ItemId, list[ItemId]] = {}
        self._progress: dict[ItemId, Progress] = {}
        self._products: dict[tuple[ItemId, str], Product] = {}

    def __repr__(self) -> str:
        return (
            f"<MemoryStore ready={len(self._ready)} running={len(self._running)} "
            f"waiting={len(self._waiting)} held={len(self._open)}>"
        )

    def now(self) -> float:
        """Seconds on the store's clock."""
        return anyio.current_time()

    def _at(self, instant: float) -> datetime:
        return EPOCH + timedelta(seconds=instant)

    # -- workers -----------------------------------------------------------------------

    async def join(self, origin: Origin, *, lease_s: float) -> WorkerId:
        worker = uuid4()
        self._workers[worker] = _Worker(origin, self.now() + lease_s)
        return worker

    def _alive(self, worker: WorkerId) -> _Worker:
        row = self._workers.get(worker)
        if row is None or row.lease_until <= self.now():
            raise LeaseLost("this worker's lease ran out")
        return row

    async def renew(self, worker: WorkerId, *, lease_s: float) -> list[ItemId]:
        self._alive(worker).lease_until = self.now() + lease_s
        return [
            i
            for i in self._cancels
            if i in self._running and self._running[i].worker == worker
        ]

    async def leave(self, worker: WorkerId) -> int:
        self._workers.pop(worker, None)
        return self._put_back([worker], died=False)

    async def sessions(self) -> list[Session]:
        return [
            Session(i, w.origin, w.lease_until - self.now())
            for i, w in self._workers.items()
        ]

    async def reap(self, workers: Sequence[WorkerId], *, died: bool) -> int:
        gone = []
        for worker in workers:
            row = self._workers.get(worker)
            if row is not None and (died or row.lease_until <= self.now()):
                del self._workers[worker]
                gone.append(worker)
        return self._put_back(gone, died=died)

    def _put_back(
        self, workers: Sequence[WorkerId], *, died: bool, keep: Sequence[ItemId] = ()
    ) -> int:
        kept = set(keep)
        gone = {
            i: p
            for i, p in self._running.items()
            if p.worker in workers and i not in kept
        }
        for item, place in gone.items():
            del self._running[item]
            self._back_in_line(item, place, died)
        return len(gone)

    def _back_in_line(self, item: ItemId, place: _Place, died: bool) -> None:
        row = self._items[item]
        seq = row.checkpoints[-1].seq + 1 if row.checkpoints else 0
        reached = self._reached(item, place)
        stage = reached or place.stage
        attempt = 0 if reached else place.attempt
        strikes = place.strikes
        if died:
            if seq > place.seq:
                strikes = 1
            elif place.solo:
                strikes += 1
            else:
                strikes = min(strikes + 1, 2)
        if item in self._cancels:
            by = self._cancels.pop(item)
            why = f"cancelled by {by}"
            self._end(item, Finish(State.CANCELLED, stage, "CANCELLED", why))
        elif strikes >= 3:
            why = "three workers died while they had this item"
            self._end(item, Finish(State.FAILED, stage, "WORKER_KILLED", why))
        else:
            self._put_ready(item, _Place(stage, seq, attempt, strikes))

    def _reached(self, item: ItemId, place: _Place) -> str:
        """The stage its checkpoints since the claim lead to; "" when none does."""
        found = ""
        for c in self._items[item].checkpoints:
            if c.seq >= place.seq and c.next_stage:
                found = c.next_stage
        return found

    # -- lines -------------------------------------------------------------------------

    def _put_ready(self, item: ItemId, place: _Place) -> None:
        place.since = self.now()
        self._ready[item] = place
        row = self._items[item]
        line = self._line.setdefault((place.stage, row.facts.tenant), [])
        heapq.heappush(line, (row.deadline, item))

    def _in_line(self, stage: str, tenant: str, item: ItemId) -> bool:
        place = self._ready.get(item)
        return place is not None and place.stage == stage and place.strikes < 2

    def _head(self, stage: str, tenant: str) -> tuple[float, ItemId] | None:
        line = self._line[stage, tenant]
        while line and not self._in_line(stage, tenant, line[0][1]):
            heapq.heappop(line)
        return line[0] if line else None

    async def lines(self) -> list[str]:
        return sorted({s for s, t in self._line if self._head(s, t) is not None})

    async def claim(
        self,
        worker: WorkerId,
        stage: str,
        limit: int,
        shares: Mapping[str, Share],
        *,
        solo: bool = False,
    ) -> list[Claim]:
        self._alive(worker)
        if solo:
            suspects = [
                (p.since, i)
                for i, p in self._ready.items()
                if p.stage == stage and p.strikes >= 2
            ]
            return [self._take(i, worker, True) for _, i in sorted(suspects)[:1]]
        floor = min((s.served for s in shares.values()), default=0.0)
        turn = {}
        for s, tenant in self._line:
            if s == stage and self._head(stage, tenant) is not None:
                share = shares.get(tenant, Share(floor, 1.0))
                turn[tenant] = (share.served + 1 / share.weight, 1 / share.weight)
        claims: list[Claim] = []
        while turn and len(claims) < limit:
            tenant = min(turn, key=lambda t: (turn[t][0], self._head(stage, t)))
            head = self._head(stage, tenant)
            if head is None:
                del turn[tenant]
                continue
            claims.append(self._take(head[1], worker, False))
            due, step = turn[tenant]
            turn[tenant] = (due + step, step)
            if self._head(stage, tenant) is None:
                del turn[tenant]
        return claims

    def _take(self, item: ItemId, worker: WorkerId, solo: bool) -> Claim:
        place = self._ready.pop(item)
        place.worker, place.solo, place.since = worker, solo, self.now()
        self._running[item] = place
        row = self._items[item]
        left_s = row.deadline - self.now()
        return Claim(row.facts, place.stage, place.seq, place.attempt, left_s, solo)

    async def disown(self, worker: WorkerId, keep: Sequence[ItemId]) -> int:
        self._alive(worker)
        return self._put_back([worker], died=False, keep=keep)

    async def suspects(self) -> list[tuple[str, float]]:
        oldest: dict[str, float] = {}
        for place in self._ready.values():
            if place.strikes >= 2:
                age = self.now() - place.since
                oldest[place.stage] = max(age, oldest.get(place.stage, 0.0))
        return sorted(oldest.items(), key=lambda pair: -pair[1])

    async def history(self, items: Sequence[ItemId]) -> dict[ItemId, list[Checkpoint]]:
        known = self._items
        return {i: list(known[i].checkpoints) if i in known else [] for i in items}

    async def wake(self, limit: int = 1000) -> tuple[int, float | None]:
        joined = [i for i in self._joining if not self._open_kin(i)][:limit]
        for item in joined:
            self._on_again(item)
        moved = len(joined)
        while self._timers and moved < limit:
            until, item = self._timers[0]
            place = self._waiting.get(item) or self._joining.get(item)
            if place is None or place.until != until:
                heapq.heappop(self._timers)
                continue
            if until > self.now():
                return moved, until - self.now()
            heapq.heappop(self._timers)
            self._on_again(item)
            moved += 1
        return moved, None

    def _on_again(self, item: ItemId) -> None:
        place = self._waiting.pop(item, None) or self._joining.pop(item)
        self._put_ready(item, _Place(place.stage, place.seq, place.attempt))

    def _park(self, item: ItemId, place: _Place, until: float) -> _Place:
        """Until then at the latest, and never past its deadline."""
        place.since = self.now()
        place.until = min(until, self._items[item].deadline)
        heapq.heappush(self._timers, (place.until, item))
        return place

    # -- commits -----------------------------------------------------------------------

    async def commit(self, worker: WorkerId, entries: Sequence[Entry]) -> list[bool]:
        # Before the lease is looked at: from there on nobody may come between.
        await anyio.lowlevel.checkpoint()
        self._alive(worker)
        new = Counter(
            (e.item_id, e.checkpoint.seq) for e in entries if e.checkpoint is not None
        )
        for (item, seq), times in new.items():
            if times > 1 or seq in self._items[item].writers:
                raise Refused("the database refused the rows (checkpoints_pkey)")
        for e in entries:
            place = self._running.get(e.item_id)
            if e.spawn is not None and (place is None or place.worker != worker):
                raise Refused(f"item {e.item_id} is not this worker's")
        for e in entries:
            if e.checkpoint is not None:
                row = self._items[e.item_id]
                row.checkpoints.append(self._born(e, e.checkpoint))
                row.checkpoints.sort()
                row.writers[e.checkpoint.seq] = worker
            if e.attempt is not None:
                self.attempts.append((e.item_id, e.attempt))
            if await self.owns(worker, e.item_id):
                if e.progress is not None:
                    self._progress[e.item_id] = e.progress
                self._products.update({(e.item_id, p.name): p for p in e.products})
        return [
            e.move is None or self._move(worker, e.item_id, e.move) for e in entries
        ]

    def _born(self, entry: Entry, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint, with the ids of the children that came with it."""
        if entry.spawn is None:
            return checkpoint
        facts = self._items[entry.item_id].facts
        receipts = self._receive(
            self._batches[facts.tenant, facts.batch],
            facts.pipeline_id,
            as_submissions(entry.spawn),
            parent=entry.item_id,
            stage=entry.spawn.stage,
        )
        return checkpoint._replace(update=json.dumps([r.item_id for r in receipts]))

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
                self._items[item] = _Item(facts, s.key, deadline, self.now(), parent)
                if parent is not None:
                    self._kin.setdefault(parent, []).append(item)
                self._put_ready(item, _Place(stage or pipeline.stages[0], 0))
                receipt = Receipt(s.name, Disposal.ITEM, item)
            self._receipts[s.token] = (batch.id, receipt)
        return [self._receipts[s.token][1] for s in submissions]

    async def result_of(self, item: ItemId, seq: int) -> str:
        for c in self._items[item].checkpoints:
            if c.seq == seq and c.update is not None:
                return c.update
        raise NotFound(f"item {item} has no checkpoint {seq} with an update")

    def _open_kin(self, parent: ItemId) -> list[ItemId]:
        return [i for i in self._kin.get(parent, ()) if i not in self._outcomes]

    async def open_children(self, parent: ItemId) -> int:
        return len(self._open_kin(parent))

    async def kin(
        self, parent: ItemId, only: Sequence[ItemId] | None = None
    ) -> list[KinRow]:
        found = []
        for item in self._kin.get(parent, ()):
            if only is None or item in only:
                facts = self._items[item].facts
                end = self._outcomes[item][0] if item in self._outcomes else None
                state, stage, code = (
                    (end.state.value, end.stage, end.code) if end else (None, "", "")
                )
                found.append(KinRow(item, facts.name, facts.input, state, stage, code))
        return found

    def _move(self, worker: WorkerId, item: ItemId, move: Move) -> bool:
        place = self._running.get(item)
        if place is None or place.worker != worker:
            return False
        del self._running[item]
        match move:
            case ToReady():
                self._put_ready(item, _Place(move.stage, move.seq, move.attempt))
            case ToWaiting():
                place = _Place(move.stage, move.seq, move.attempt, why=move.why)
                until = self.now() + move.for_s
                self._waiting[item] = self._park(item, place, until)
            case ToJoining():
                place = _Place(move.stage, move.seq, move.attempt, why="its children")
                self._joining[item] = self._park(item, place, math.inf)
            case ToHeld():
                self._hold(item, move)
            case Finish():
                self._cancels.pop(item, None)
                self._end(item, move)
            case _:
                assert_never(move)
        if item in self._cancels:  # parked before its worker heard of it
            self._cancel_parked(item, self._cancels.pop(item))
        return True

    def _end(self, item: ItemId, end: Finish) -> None:
        self._outcomes[item] = (end, self.now())
        if end.state is State.CANCELLED:
            for child in self._open_kin(item):
                by = f"item {item}"
                if not self._cancel_parked(child, by) and child in self._running:
                    self._cancels.setdefault(child, by)

    def _cancel_parked(self, item: ItemId, author: str) -> bool:
        place = None
        for plane in (self._ready, self._waiting, self._joining):
            place = place or plane.pop(item, None)
        if item in self._open:
            number = self._open.pop(item)
            hold = self._holds[number]._replace(claimed_by=None, claimed_until=None)
            self._holds[number] = hold
            place = _Place(hold.stage, hold.seq)
        if place is None:
            return False
        why = f"cancelled by {author}"
        self._end(item, Finish(State.CANCELLED, place.stage, "CANCELLED", why))
        return True

    def _hold(self, item: ItemId, move: ToHeld) -> None:
        row = self._items[item]
        number = len(self._holds) + 1
        self._open[item] = number
        self._holds[number] = HoldRow(
            id=number,
            item_id=item,
            item_name=row.facts.name,
            tenant=row.facts.tenant,
            batch=row.facts.batch,
            pipeline_id=row.facts.pipeline_id,
            stage=move.stage,
            code=move.code,
            why=move.why,
            shown=json.loads(move.shown),
            proposal=json.loads(move.proposal),
            digest=move.digest,
            needs=list(move.needs),
            again=move.again,
            seq=move.seq,
            next_stage=move.next_stage,
            held_at=self._at(self.now()),
            deadline_at=self._at(row.deadline),
            claimed_by=None,
            claimed_until=None,
            decision=None,
        )

    async def recorded(self, worker: WorkerId, item: ItemId, seq: int) -> bool:
        return self._items[item].writers.get(seq) == worker

    async def owns(self, worker: WorkerId, item: ItemId) -> bool:
        place = self._running.get(item)
        return place is not None and place.worker == worker

    async def pipeline(self, pipeline_id: int) -> PipelineRow:
        if pipeline_id not in self._pipelines:
            raise NotFound(f"no pipeline {pipeline_id}")
        return self._pipelines[pipeline_id]

    async def weights(self) -> dict[str, float]:
        return dict(self._weights)
