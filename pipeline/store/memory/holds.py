"""
Holds and decisions in memory.
"""

from __future__ import annotations

import json
import re
from datetime import datetime

from pipeline.errors import NotFound, Refused
from pipeline.lapse import EXPIRED, LAPSED, NOBODY
from pipeline.model import Checkpoint, Finish, HoldId, ItemId, State
from pipeline.names import part_pattern
from pipeline.store.memory.tables import MemoryTables, Place, digest_of
from pipeline.store.port import ANY
from pipeline.store.refusals import changed, decided_before, lapsed, stale, taken
from pipeline.store.rows import Decision, HoldRow, Sought


class MemoryHolds(MemoryTables):
    """What reviewers ask; see the port for every contract."""

    async def holds(
        self,
        *,
        decided: bool = False,
        tenant: str | None = None,
        batch_id: int | None = None,
        sought: Sought = ANY,
        limit: int = 100,
    ) -> list[HoldRow]:
        mine = self._of_batch(batch_id)
        rows = [
            h
            for h in self._holds.values()
            if tenant in (None, h.tenant)
            and mine(h.item_id)
            and self._is(h, sought)
            and not (batch_id is None and self._items[h.item_id].facts.trial)
        ]
        if decided:
            ruled = [(h.decision, h) for h in rows if h.decision is not None]
            ruled.sort(key=lambda pair: pair[0].decided_at, reverse=True)
            return [h for _, h in ruled][:limit]
        rows = [h for h in rows if self._is_open(h)]
        rows.sort(key=lambda h: (_due(h), bool(h.needs), h.id))
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

    async def claim_next(
        self,
        author: str,
        *,
        lease_s: float,
        tenant: str | None = None,
        role: str = "",
    ) -> HoldRow | None:
        line = Sought(role=role)
        for hold in await self.holds(tenant=tenant, sought=line, limit=len(self._open)):
            if hold.claimed_by in (None, author):
                return await self.claim_hold(hold.id, author, lease_s=lease_s)
        return None

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
        ref: str | None = None,
    ) -> HoldRow:
        hold = await self.hold(hold_id)
        if not self._is_open(hold):
            raise decided_before(hold)
        if hold.lapses_at is not None and hold.lapses_at <= self._at(self.now()):
            raise lapsed(hold)
        if hold.claimed_by not in (None, author):
            raise taken(hold)
        if hold.changed:
            raise changed(hold)
        if hold.digest != digest:
            raise stale(hold)
        if verb not in ("approve", "reject", "edit") or not author:
            raise Refused("the database refused the rows (decisions_check)")
        if verb == "reject" and not reason:
            raise Refused("the database refused the rows (decisions_check)")
        self._close(hold, verb, author, reason)
        if verb == "reject":
            end = Finish(State.REJECTED, hold.stage, "REVIEW_REJECTED", reason)
            self._end(hold.item_id, end)
            return self._holds[hold_id]
        self._decided(hold, update, ref)
        return self._holds[hold_id]

    def _close(self, hold: HoldRow, verb: str, author: str, reason: str) -> None:
        decision = Decision(verb, author, reason, self._at(self.now()))
        self._holds[hold.id] = hold._replace(
            decision=decision, claimed_by=None, claimed_until=None
        )
        del self._open[hold.item_id]

    def _decided(self, hold: HoldRow, update: str | None, ref: str | None) -> None:
        """The item goes on with what was decided."""
        after = hold.stage if hold.again else hold.next_stage
        row = self._items[hold.item_id]
        row.checkpoints.append(
            Checkpoint(hold.seq, hold.stage, None, update, ref, after, 0.0)
        )
        row.writers[hold.seq] = None
        if after:
            self._put_ready(hold.item_id, Place(after, hold.seq + 1))
        else:
            self._end(hold.item_id, Finish(State.DONE, hold.stage))

    def _let_lapse(self, limit: int) -> tuple[int, float | None]:
        """Decide what nobody decided in time; how many, and seconds to the next."""
        open_ = map(self._holds.__getitem__, self._open.values())
        timed = [(h.lapses_at, h) for h in open_ if h.lapses_at is not None]
        timed.sort(key=lambda pair: pair[0])
        now, moved = self._at(self.now()), 0
        for until, hold in timed:
            if until > now:
                return moved, (until - now).total_seconds()
            if moved == limit or hold.digest != digest_of(hold):
                continue
            moved += 1
            assert hold.lapse is not None
            self._close(hold, EXPIRED, NOBODY, "")
            if hold.lapse["ends"]:
                why = "nobody decided in time"
                end = Finish(State.REJECTED, hold.stage, LAPSED, why)
                self._end(hold.item_id, end)
            else:
                self._decided(hold, json.dumps(hold.lapse["update"]), None)
        return moved, None

    def _is(self, hold: HoldRow, sought: Sought) -> bool:
        at = hold.decision.decided_at if hold.decision else hold.held_at
        return (
            sought.code in ("", hold.code)
            and sought.role in (None, hold.role)
            and sought.stage in ("", hold.stage)
            and sought.pipeline in ("", hold.pipeline)
            and (sought.since is None or at >= sought.since)
            and bool(re.search(part_pattern(sought.name), hold.item_name))
        )

    def _is_open(self, hold: HoldRow) -> bool:
        return self._open.get(hold.item_id) == hold.id

    def _seen_by(self, hold: HoldRow) -> HoldRow:
        hold = hold._replace(changed=hold.digest != digest_of(hold), due_at=_due(hold))
        if hold.claimed_until is None or hold.claimed_until <= self._at(self.now()):
            return hold._replace(claimed_by=None, claimed_until=None)
        return hold


def _due(hold: HoldRow) -> datetime:
    """When somebody should have ruled on it, at the latest."""
    return min(hold.due_at or hold.deadline_at, hold.deadline_at)
