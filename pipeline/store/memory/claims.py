"""
Taking items out of the line in memory, in the order of the PostgreSQL store.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import zip_longest

from pipeline.errors import DeadlinePassed, NotFound
from pipeline.model import Checkpoint, Claim, Finish, ItemId, State, WorkerId
from pipeline.store.memory.calls import MemoryCalls
from pipeline.store.memory.holds import MemoryHolds
from pipeline.store.port import HISTORY_BYTES, TENANTS_MIN
from pipeline.store.rows import KinRow, PipelineRow, Share
from pipeline.store.strikes import ALONE, SUSPECT


class MemoryClaims(MemoryHolds, MemoryCalls):
    """Lines and timers; see the port for every contract."""

    async def claim(
        self,
        worker: WorkerId,
        stage: str,
        limit: int,
        shares: Mapping[str, Share],
        *,
        suspects: bool = False,
    ) -> list[Claim]:
        self._alive(worker)
        if suspects:
            return self._claim_suspects(worker, stage, limit)
        floor = min((s.served for s in shares.values()), default=0.0)
        turn = {}
        for tenant in self._in_line_of(stage, max(limit, TENANTS_MIN)):
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
        if any(claim.left_s <= 0 for claim in claims):
            self._end_late(stage)
        return claims

    def _claim_suspects(self, worker: WorkerId, stage: str, limit: int) -> list[Claim]:
        of: dict[str, list[tuple[float, ItemId, int]]] = defaultdict(list)
        for item, place in self._ready.items():
            if place.stage == stage and place.strikes >= SUSPECT:
                found = place.since, item, place.strikes
                of[self._items[item].facts.tenant].append(found)
        turns = random.sample(sorted(of), len(of))
        near = [
            one
            for turn in zip_longest(*(sorted(of[tenant]) for tenant in turns))
            for one in turn
            if one is not None
        ]
        group = [item for _, item, strikes in near if strikes < ALONE][:limit]
        if near and near[0][2] >= ALONE:
            group = [near[0][1]]
        return [self._take(item, worker, len(group) == 1) for item in group]

    def _end_late(self, stage: str) -> None:
        """End what is in line past its deadline."""
        why = (DeadlinePassed.code, DeadlinePassed.in_line)
        for item, place in list(self._ready.items()):
            late = self._items[item].deadline <= self.now()
            if late and place.stage == stage and place.strikes < SUSPECT:
                del self._ready[item]
                self._end(item, Finish(State.FAILED, stage, *why))

    def _in_line_of(self, stage: str, most: int) -> list[str]:
        """Tenants who have something in line: `most` after those of the last time."""
        after = self._looked_at.get(stage, "")
        there = [
            t for s, t in self._line if s == stage and self._head(s, t) is not None
        ]
        found = sorted(there, key=lambda tenant: (tenant <= after, tenant))[:most]
        self._looked_at[stage] = found[-1] if len(found) == most else ""
        return found

    def _take(self, item: ItemId, worker: WorkerId, solo: bool) -> Claim:
        place = self._ready.pop(item)
        place.worker, place.solo, place.since = worker, solo, self.now()
        self._running[item] = place
        row = self._items[item]
        left_s = row.deadline - self.now()
        return Claim(row.facts, place.stage, place.seq, place.attempt, left_s, solo)

    async def lines(self) -> list[str]:
        return sorted({s for s, t in self._line if self._head(s, t) is not None})

    def _head(self, stage: str, tenant: str) -> tuple[float, ItemId] | None:
        line = self._line[stage, tenant]
        while line and not self._in_line(stage, tenant, line[0][1]):
            heapq.heappop(line)
        return line[0] if line else None

    def _in_line(self, stage: str, tenant: str, item: ItemId) -> bool:
        place = self._ready.get(item)
        return place is not None and place.stage == stage and place.strikes < SUSPECT

    async def suspects(self) -> list[tuple[str, float]]:
        oldest: dict[str, float] = {}
        for place in self._ready.values():
            if place.strikes >= SUSPECT:
                age = self.now() - place.since
                oldest[place.stage] = max(age, oldest.get(place.stage, 0.0))
        return sorted(oldest.items(), key=lambda pair: -pair[1])

    async def wake(self, limit: int = 1000) -> tuple[int, float | None]:
        joined = [i for i in self._joining if not self._open_kin(i)][:limit]
        for item in joined:
            self._on_again(item)
        rested = self._go_on(limit)
        for item in rested:
            self._on_again(item)
        lapsed, next_s = self._let_lapse(limit)
        moved = len(joined) + len(rested) + lapsed
        while self._timers and moved < limit:
            until, item = self._timers[0]
            place = self._waiting.get(item) or self._joining.get(item)
            if place is None or place.until != until:
                heapq.heappop(self._timers)
                continue
            if until > self.now():
                return moved, min(until - self.now(), next_s or math.inf)
            heapq.heappop(self._timers)
            self._on_again(item)
            moved += 1
        return moved, next_s

    async def history(
        self, items: Sequence[ItemId], *, slices: int | None = None
    ) -> dict[ItemId, list[Checkpoint]]:
        known = self._items
        left = math.inf if slices is None else slices * HISTORY_BYTES
        found = {}
        for item in sorted(set(items)):
            kept = list(known[item].checkpoints) if item in known else []
            left -= sum(len(c.update or "") for c in kept)
            if left < 0:
                break
            found[item] = kept
        return found

    async def result_of(self, item: ItemId, seq: int) -> str:
        for c in self._items[item].checkpoints:
            if c.seq == seq and c.update is not None:
                return c.update
        raise NotFound(f"item {item} has no checkpoint {seq} with an update")

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

    async def pipeline(self, pipeline_id: int) -> PipelineRow:
        if pipeline_id not in self._pipelines:
            raise NotFound(f"no pipeline {pipeline_id}")
        return self._pipelines[pipeline_id]

    async def pipelines(self) -> list[PipelineRow]:
        return list(self._pipelines.values())

    async def weights(self) -> dict[str, float]:
        return dict(self._weights)
