"""
Workers in memory: leases, and what the reaper puts back.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4

from pipeline.errors import LeaseLost
from pipeline.model import Finish, ItemId, State, WorkerId
from pipeline.store.memory.ledger import MemoryLedger
from pipeline.store.memory.tables import Lease, Place
from pipeline.store.rows import Origin, TroubleRow, WorkerRow
from pipeline.store.strikes import (
    ALIKE,
    ALIKE_MAX,
    ALONE,
    DEATHS,
    KILLED_WHY,
    SUSPECT,
    Blame,
)


class MemorySessions(MemoryLedger):
    """Sessions and the reaper; see the port for every contract."""

    async def join(self, origin: Origin, *, lease_s: float) -> WorkerId:
        worker = uuid4()
        now = self.now()
        self._workers[worker] = Lease(origin, now + lease_s, int(now * 1_000_000))
        return worker

    async def renew(
        self, worker: WorkerId, *, lease_s: float, troubles: Sequence[TroubleRow] = ()
    ) -> list[ItemId]:
        row = self._alive(worker)
        row.lease_until = self.now() + lease_s
        row.troubles = tuple(troubles)
        return [
            i
            for i in self._cancels
            if i in self._running and self._running[i].worker == worker
        ]

    async def leave(
        self, worker: WorkerId, *, died: bool = False, blamed: Blame | None = None
    ) -> int:
        self._workers.pop(worker, None)
        held = self._running.get(blamed.item) if blamed else None
        moved = self._put_back([worker], died=died and blamed is None)
        if blamed and held is not None and held.worker == worker:
            self._answers_for(blamed)
        self._settle_lost([worker])
        return moved

    def _answers_for(self, blamed: Blame) -> None:
        item, failed = blamed.item, blamed.failed
        if failed is not None:
            self.attempts.append((item, failed))
        place = self._ready.get(item)
        if place is None:  # somebody has cancelled it
            return
        place.strikes = ALONE if failed else max(place.strikes + 1, DEATHS - 1)
        self._suspect_those_with(item)
        code, why = "WORKER_KILLED", KILLED_WHY
        if failed is not None:
            place.attempt = failed.attempt + 1
            code, why = failed.code, failed.message
        if blamed.last or place.strikes >= DEATHS:
            del self._ready[item]
            self._end(item, Finish(State.FAILED, place.stage, code, why))

    def _suspect_those_with(self, item: ItemId) -> None:
        """Who is like an item that killed its worker, where several did so."""

        def like(other: ItemId) -> tuple[str, str, int]:
            row = self._items[other].facts
            return self._ready[other].stage, row.tenant, row.pipeline_id

        alike = [one for one in self._ready if like(one) == like(item)]
        killers = [one for one in alike if self._ready[one].strikes >= ALONE]
        if len(killers) >= ALIKE:
            rest = [one for one in alike if self._ready[one].strikes < SUSPECT]
            for one in rest[:ALIKE_MAX]:
                self._ready[one].strikes = SUSPECT

    async def sessions(self) -> list[WorkerRow]:
        return [
            WorkerRow(i, w.origin, w.lease_until - self.now(), w.troubles)
            for i, w in self._workers.items()
        ]

    async def reap(self, workers: Sequence[WorkerId], *, died: bool) -> int:
        gone = []
        for worker in workers:
            row = self._workers.get(worker)
            if row is not None and (died or row.lease_until <= self.now()):
                del self._workers[worker]
                gone.append(worker)
        self._settle_lost(gone)
        return self._put_back(gone, died=died)

    async def disown(self, worker: WorkerId, keep: Sequence[ItemId]) -> int:
        self._alive(worker)
        return self._put_back([worker], died=False, keep=keep)

    def _alive(self, worker: WorkerId) -> Lease:
        row = self._workers.get(worker)
        if row is None or row.lease_until <= self.now():
            raise LeaseLost("this worker's lease ran out")
        return row

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

    def _back_in_line(self, item: ItemId, place: Place, died: bool) -> None:
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
                strikes = max(strikes, ALONE) + 1
            else:
                strikes = min(strikes + 1, ALONE)
        if item in self._cancels:
            by = self._cancels.pop(item)
            why = f"cancelled by {by}"
            self._end(item, Finish(State.CANCELLED, stage, "CANCELLED", why))
        elif strikes >= DEATHS:
            end = Finish(State.FAILED, stage, "WORKER_KILLED", KILLED_WHY)
            self._end(item, end)
        else:
            self._put_ready(item, Place(stage, seq, attempt, strikes))
