"""
The store in memory: the same port for virtual time.

It exists so that three weeks pass in seconds, with the real dispatcher, journal
and worker on top; tests/store runs one conformance suite on it and on PostgreSQL.
Time is anyio's clock, counted from `EPOCH`.  Nothing here is durable.
"""

from __future__ import annotations

import heapq
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
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
    Receipt,
    State,
    Submission,
    ToHeld,
    ToReady,
    ToWaiting,
    WorkerId,
)
from pipeline.store.desk import check_names, decided_before, stale, taken
from pipeline.store.port import (
    Counts,
    Decision,
    HoldRow,
    ItemRow,
    Origin,
    PipelineRow,
    Session,
    Share,
)

EPOCH = datetime(2026, 12, 1, tzinfo=UTC)


@dataclass(slots=True)
class _Place:
    """An item's row in `ready`, `running` or `waiting`."""

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
    checkpoints: list[Checkpoint] = field(default_factory=list)
    writers: dict[int, WorkerId | None] = field(default_factory=dict)


@dataclass(slots=True)
class _Worker:
    origin: Origin
    lease_until: float


class MemoryStore:
    """`WorkStore` and `Desk` on dictionaries; see the port for every contract."""

    def __init__(self) -> None:
        self.attempts: list[tuple[ItemId, Attempt]] = []
        self._items: dict[ItemId, _Item] = {}
        self._ready: dict[ItemId, _Place] = {}
        self._line: dict[tuple[str, str], list[tuple[float, ItemId]]] = {}
        self._running: dict[ItemId, _Place] = {}
        self._waiting: dict[ItemId, _Place] = {}
        self._timers: list[tuple[float, ItemId]] = []
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
        moved = 0
        while self._timers and moved < limit:
            until, item = self._timers[0]
            place = self._waiting.get(item)
            if place is None or place.until != until:
                heapq.heappop(self._timers)
                continue
            if until > self.now():
                return moved, until - self.now()
            heapq.heappop(self._timers)
            del self._waiting[item]
            self._put_ready(
                item, _Place(place.stage, place.seq, place.attempt, place.strikes)
            )
            moved += 1
        return moved, None

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
            if e.checkpoint is not None:
                row = self._items[e.item_id]
                row.checkpoints.append(e.checkpoint)
                row.checkpoints.sort()
                row.writers[e.checkpoint.seq] = worker
            if e.attempt is not None:
                self.attempts.append((e.item_id, e.attempt))
        return [
            e.move is None or self._move(worker, e.item_id, e.move) for e in entries
        ]

    def _move(self, worker: WorkerId, item: ItemId, move: Move) -> bool:
        place = self._running.get(item)
        if place is None or place.worker != worker:
            return False
        del self._running[item]
        match move:
            case ToReady():
                self._put_ready(item, _Place(move.stage, move.seq, move.attempt))
            case ToWaiting():
                until = min(self.now() + move.for_s, self._items[item].deadline)
                self._waiting[item] = _Place(
                    move.stage,
                    move.seq,
                    move.attempt,
                    since=self.now(),
                    until=until,
                    why=move.why,
                )
                heapq.heappush(self._timers, (until, item))
            case ToHeld():
                self._hold(item, move)
            case Finish():
                self._cancels.pop(item, None)
                self._end(item, move)
        if item in self._cancels:  # parked before its worker heard of it
            self._cancel_parked(item, self._cancels.pop(item))
        return True

    def _end(self, item: ItemId, end: Finish) -> None:
        self._outcomes[item] = (end, self.now())

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
                self._items[item] = _Item(facts, s.key, deadline, self.now())
                self._put_ready(item, _Place(pipeline.stages[0], 0))
                receipt = Receipt(s.name, Disposal.ITEM, item)
            self._receipts[s.token] = (batch.id, receipt)
        return [self._receipts[s.token][1] for s in submissions]

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
        planes = (self._ready, self._running, self._waiting)
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
            self._open,
            self._outcomes,
        )
        for plane in planes:
            for item in plane:
                seen[item] += 1
        mine = self._of_batch(batch_id)
        return [i for i in self._items if mine(i) and seen[i] != 1][:100]

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
        rows.sort(key=lambda h: (h.deadline_at, h.id))
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

    def _cancel_parked(self, item: ItemId, author: str) -> bool:
        place = self._ready.pop(item, None) or self._waiting.pop(item, None)
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
        )

    def _live(self, item: ItemId) -> tuple[_Place, State]:
        for plane, state in (
            (self._ready, State.READY),
            (self._running, State.RUNNING),
            (self._waiting, State.WAITING),
        ):
            if item in plane:
                place = plane[item]
                if state is State.RUNNING and (stage := self._reached(item, place)):
                    return replace(place, stage=stage), state
                return place, state
        raise NotFound(f"item {item} is astray")
