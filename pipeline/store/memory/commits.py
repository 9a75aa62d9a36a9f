"""
What a worker's journal writes, in memory.
"""

from __future__ import annotations

import heapq
import json
import math
from collections import Counter
from collections.abc import Sequence
from typing import assert_never

import anyio

from pipeline.errors import Refused
from pipeline.model import (
    Checkpoint,
    Entry,
    Finish,
    ItemId,
    Move,
    ToHeld,
    ToJoining,
    ToReady,
    ToWaiting,
    WorkerId,
)
from pipeline.purse import NOTHING, Draw, Drawn, Purse
from pipeline.store.memory.admission import MemoryAdmission
from pipeline.store.memory.effects import MemoryEffects
from pipeline.store.memory.signals import MemorySignals
from pipeline.store.memory.tables import Holding, Place, digest_of
from pipeline.store.rows import HoldRow
from pipeline.store.strikes import ALONE


class MemoryCommits(MemoryEffects, MemoryAdmission, MemorySignals):
    """Entries and moves; see the port for every contract."""

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
            if (e.spawn or e.draw) is not None and (
                place is None or place.worker != worker
            ):
                raise Refused(f"item {e.item_id} is not this worker's")
        for e in entries:
            if e.checkpoint is not None:
                row = self._items[e.item_id]
                row.checkpoints.append(self._born(e, e.checkpoint))
                row.checkpoints.sort()
                row.writers[e.checkpoint.seq] = worker
            if e.attempt is not None:
                self.attempts.append((e.item_id, e.attempt))
                self._attempted.append(self.now())
            made = e.progress or e.products or e.effects
            if made and await self.owns(worker, e.item_id):
                if e.progress is not None:
                    self._progress[e.item_id] = e.progress
                self._products.update({(e.item_id, p.name): p for p in e.products})
                self._plan(worker, e.item_id, e.effects)
        self._settle(worker, (e.settled for e in entries if e.settled is not None))
        return [
            e.move is None or self._move(worker, e.item_id, e.move) for e in entries
        ]

    def _born(self, entry: Entry, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint, with the ids of the children, or what was drawn, in it."""
        if entry.draw is not None:
            drawn = self._draw(entry.item_id, checkpoint.stage, entry.draw)
            return checkpoint._replace(update=drawn.model_dump_json())
        if entry.spawn is None:
            return checkpoint
        facts = self._items[entry.item_id].facts
        receipts = self._receive(
            self._batches[facts.tenant, facts.batch],
            facts.pipeline_id,
            entry.spawn.submissions(),
            parent=entry.item_id,
            stage=entry.spawn.stage,
        )
        return checkpoint._replace(update=json.dumps([r.item_id for r in receipts]))

    def _draw(self, item: ItemId, stage: str, draw: Draw) -> Drawn:
        root, talk = self._root(item), (item, f"{stage}/{draw.talk}")
        purse = self._purses.setdefault(root, Purse())
        found = self._holdings.get(talk)
        holds = NOTHING if found is None or found.swept else found.holds
        if purse.lacks(draw, holds):
            for (whose, _), other in self._holdings.items():
                if other.root == root and not other.swept and whose in self._outcomes:
                    purse.held = purse.held.less(other.holds)
                    other.swept = True
        drawn = purse.draw(draw, holds)
        self._holdings[talk] = Holding(root, drawn.held)
        return drawn

    def _move(self, worker: WorkerId, item: ItemId, move: Move) -> bool:
        place = self._running.get(item)
        if place is None or place.worker != worker:
            return False
        del self._running[item]
        match move:
            case ToReady():
                self._put_ready(item, Place(move.stage, move.seq, move.attempt))
            case ToWaiting():
                strikes = ALONE if move.alone else 0
                place = Place(move.stage, move.seq, move.attempt, strikes, why=move.why)
                place.listens = tuple(ask.name for ask in move.asks)
                answered = [self._asks(item, move.stage, ask) for ask in move.asks]
                until = self.now() + (0.0 if any(answered) else move.for_s)
                self._waiting[item] = self._park(item, place, until)
            case ToJoining():
                place = Place(move.stage, move.seq, move.attempt, why="its children")
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

    def _park(self, item: ItemId, place: Place, until: float) -> Place:
        """Until then at the latest, and never past its deadline."""
        place.since = self.now()
        place.until = min(until, self._items[item].deadline)
        heapq.heappush(self._timers, (place.until, item))
        return place

    def _hold(self, item: ItemId, move: ToHeld) -> None:
        row = self._items[item]
        number = len(self._holds) + 1
        self._open[item] = number
        hold = HoldRow(
            id=number,
            item_id=item,
            item_name=row.facts.name,
            tenant=row.facts.tenant,
            batch=row.facts.batch,
            pipeline_id=row.facts.pipeline_id,
            stage=move.stage,
            code=move.code,
            why=move.why,
            shown=json.loads(move.shown or "{}"),
            proposal=json.loads(move.proposal or "{}"),
            digest="",
            needs=list(move.needs),
            again=move.again,
            seq=move.seq,
            next_stage=move.next_stage,
            held_at=self._at(self.now()),
            deadline_at=self._at(row.deadline),
            claimed_by=None,
            claimed_until=None,
            decision=None,
            shown_ref=move.shown_ref,
            proposal_ref=move.proposal_ref,
            lapse=None if move.lapse is None else json.loads(move.lapse),
            lapses_at=None
            if move.lapse_s is None
            else self._at(self.now() + move.lapse_s),
            pipeline=self._pipelines[row.facts.pipeline_id].name,
            role=move.role,
            due_at=None
            if move.within_s is None
            else self._at(self.now() + move.within_s),
        )
        self._holds[number] = hold._replace(digest=digest_of(hold))

    async def recorded(self, worker: WorkerId, item: ItemId, seq: int) -> bool:
        return self._items[item].writers.get(seq) == worker

    async def owns(
        self, worker: WorkerId, item: ItemId, seq: int | None = None
    ) -> bool:
        place = self._running.get(item)
        if place is None or place.worker != worker:
            return False
        return seq is None or place.seq <= seq
