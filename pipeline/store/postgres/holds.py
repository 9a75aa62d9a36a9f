"""
Holds and decisions in PostgreSQL.

A decision takes the hold's row first, so that two reviewers who press at the same
instant get one decision and one `Conflict`.
"""

from __future__ import annotations

import json

import asyncpg

from pipeline.errors import NotFound
from pipeline.model import HoldId, ItemId
from pipeline.store.database import Connection, Topic
from pipeline.store.refusals import decided_before, stale, taken
from pipeline.store.rows import Decision, HoldRow

HOLD = """
select h.id, h.item_id, i.name as item_name, t.name as tenant, b.name as batch,
       i.pipeline_id, h.stage, h.code, h.why, h.shown, h.proposal, h.digest, h.needs,
       h.again, h.seq, h.next_stage, h.held_at, h.deadline_at,
       case when h.claimed_until > waybill.clock() then h.claimed_by end as claimed_by,
       case when h.claimed_until > waybill.clock() then h.claimed_until end
         as claimed_until,
       d.verb, d.author, d.reason, d.decided_at
  from waybill.holds h
  join waybill.items i on i.id = h.item_id
  join waybill.tenants t on t.id = h.tenant_id
  join waybill.batches b on b.id = i.batch_id
  left join waybill.decisions d on d.hold_id = h.id
"""

DECIDE = """
with noted as (
  insert into waybill.decisions (hold_id, verb, author, reason, digest)
  values ($1, $2, $3, $4, $5)),
closed as (
  update waybill.holds set open = false, claimed_by = null, claimed_until = null
   where id = $1 returning *),
kept as (
  insert into waybill.checkpoints (item_id, seq, stage, update, next_stage, took_s)
  select item_id, seq, stage, $6::jsonb,
         case when again then stage else next_stage end, 0
    from closed where $2 <> 'reject'),
line as (
  insert into waybill.ready (item_id, stage, tenant_id, deadline_at, seq)
  select item_id, case when again then stage else next_stage end, tenant_id,
         deadline_at, seq + 1
    from closed where $2 <> 'reject' and (again or next_stage <> '')),
ended as (
  insert into waybill.outcomes (item_id, state, stage, code, why)
  select item_id, case when $2 = 'reject' then 'rejected' else 'done' end, stage,
         case when $2 = 'reject' then 'REVIEW_REJECTED' else '' end,
         case when $2 = 'reject' then $4 else '' end
    from closed where $2 = 'reject' or (not again and next_stage = ''))
insert into waybill.audit (item_id, event, stage, actor, code)
select item_id, 'decided_' || $2, stage, $3, code from closed
"""


class PostgresHolds(Topic):
    """What reviewers ask."""

    async def holds(
        self, *, decided: bool = False, tenant: str | None = None, limit: int = 100
    ) -> list[HoldRow]:
        """Open holds by deadline, or decided ones, newest first."""
        order = (
            " where d.hold_id is not null and ($1::text is null or t.name = $1)"
            " order by d.decided_at desc limit $2"
            if decided
            else " where h.open and ($1::text is null or t.name = $1)"
            " order by h.deadline_at, cardinality(h.needs) > 0, h.id limit $2"
        )
        return [hold_row(r) for r in await self._db.fetch(HOLD + order, tenant, limit)]

    async def hold(self, hold_id: HoldId) -> HoldRow:
        """One hold; raises NotFound."""
        rows = await self._db.fetch(HOLD + " where h.id = $1", hold_id)
        if not rows:
            raise NotFound(f"no hold h{hold_id}", hint="`waybill review ls` lists them")
        return hold_row(rows[0])

    async def hold_of(self, item_id: ItemId) -> HoldRow:
        """The item's newest hold; raises NotFound."""
        rows = await self._db.fetch(
            HOLD + " where h.item_id = $1 order by h.id desc limit 1", item_id
        )
        if not rows:
            raise NotFound(
                f"item {item_id} is not held and never was",
                hint="`waybill review ls` lists the holds",
            )
        return hold_row(rows[0])

    async def claim_hold(
        self, hold_id: HoldId, author: str, *, lease_s: float
    ) -> HoldRow:
        """Lease an open hold to a reviewer; renews the reviewer's own lease."""
        rows = await self._db.fetch(
            """
            update waybill.holds set claimed_by = $2,
                   claimed_until = waybill.clock() + make_interval(secs => $3)
             where id = $1 and open
                 and (claimed_by is null or claimed_by = $2
                      or claimed_until <= waybill.clock())
            returning id
            """,
            hold_id,
            author,
            lease_s,
        )
        hold = await self.hold(hold_id)
        if not rows:
            if hold.claimed_by is not None and hold.decision is None:
                raise taken(hold)
            raise decided_before(hold)
        return hold

    async def release_hold(self, hold_id: HoldId, author: str) -> None:
        """Give a lease back."""
        hold = await self.hold(hold_id)
        if hold.claimed_by not in (None, author):
            raise taken(hold)
        await self._db.fetch(
            "update waybill.holds set claimed_by = null, claimed_until = null"
            " where id = $1 and claimed_by = $2",
            hold_id,
            author,
        )

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
        """Rule on a hold; see the port."""

        async def work(con: Connection) -> None:
            await con.fetchval(
                "select 1 from waybill.holds where id = $1 for update", hold_id
            )
            rows = await con.fetch(HOLD + " where h.id = $1", hold_id)
            if not rows:
                raise NotFound(f"no hold h{hold_id}")
            hold = hold_row(rows[0])
            still = await con.fetchval(
                "select open from waybill.holds where id = $1", hold_id
            )
            if hold.decision is not None or not still:
                raise decided_before(hold)
            if hold.claimed_by not in (None, author):
                raise taken(hold)
            if hold.digest != digest:
                raise stale(hold)
            await con.execute(DECIDE, hold_id, verb, author, reason, digest, update)

        await self._db.tx(work)
        return await self.hold(hold_id)


def hold_row(r: asyncpg.Record) -> HoldRow:
    """A row of `HOLD`."""
    decision = None
    if r["verb"] is not None:
        decision = Decision(r["verb"], r["author"], r["reason"], r["decided_at"])
    facts = {name: r[name] for name in HoldRow._fields if name != "decision"}
    facts["shown"] = json.loads(r["shown"])
    facts["proposal"] = json.loads(r["proposal"])
    return HoldRow(**facts, decision=decision)
