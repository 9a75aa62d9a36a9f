"""
Where items are, one by one and counted: reads only, never on the hot path.
"""

from __future__ import annotations

import asyncpg

from pipeline.errors import NotFound
from pipeline.model import ItemId, State
from pipeline.store.database import Topic
from pipeline.store.rows import Counts, Event, ItemRow

COUNTS = """
with i as (select id from waybill.items where $1::bigint is null or batch_id = $1),
r as (select disposal, count(*) as n from waybill.receipts
       where $1::bigint is null or batch_id = $1 group by disposal),
o as (select o.state, count(*) as n from waybill.outcomes o join i on i.id = o.item_id
       group by o.state)
select coalesce((select sum(n) from r), 0)::bigint as received,
       (select count(*) from waybill.ready x join i on i.id = x.item_id)
     + (select count(*) from waybill.running x join i on i.id = x.item_id)
     + (select count(*) from waybill.waiting x join i on i.id = x.item_id)
     + (select count(*) from waybill.joining x join i on i.id = x.item_id) as live,
       (select count(*) from waybill.holds x join i on i.id = x.item_id
         where x.open) as held,
       coalesce((select n from o where state = 'done'), 0) as done,
       coalesce((select n from o where state = 'rejected'), 0) as rejected,
       coalesce((select n from o where state = 'failed'), 0) as failed,
       coalesce((select n from o where state = 'cancelled'), 0) as cancelled,
       coalesce((select n from r where disposal = 'duplicate'), 0) as duplicates,
       coalesce((select n from r where disposal = 'quarantined'), 0) as quarantined
"""

ASTRAY = """
select i.id from waybill.items i
 where ($1::bigint is null or i.batch_id = $1)
   and (select count(*) from waybill.ready x where x.item_id = i.id)
     + (select count(*) from waybill.running x where x.item_id = i.id)
     + (select count(*) from waybill.waiting x where x.item_id = i.id)
     + (select count(*) from waybill.joining x where x.item_id = i.id)
     + (select count(*) from waybill.holds x where x.item_id = i.id and x.open)
     + (select count(*) from waybill.outcomes x where x.item_id = i.id) <> 1
 order by i.id limit 100
"""

ITEM = """
select i.id, i.name, t.name as tenant, b.name as batch, i.pipeline_id, i.key,
       i.created_at as received_at, i.deadline_at,
       case when r.item_id is not null then 'ready'
            when u.item_id is not null then 'running'
            when w.item_id is not null or j.item_id is not null then 'waiting'
            when h.item_id is not null then 'held'
            else o.state end as state,
       coalesce(r.stage, u.stage, w.stage, j.stage, h.stage, o.stage, '') as stage,
       coalesce(r.attempt, u.attempt, w.attempt, j.attempt, 0) as attempt,
       coalesce(h.code, o.code, '') as code,
       case when j.item_id is not null then 'its children'
            else coalesce(w.why, h.why, o.why, '') end as why,
       coalesce(r.since, u.claimed_at, w.since, j.since, h.held_at, o.at,
                i.created_at) as since,
       coalesce(w.until, j.deadline_at) as until, i.parent_id,
       j.item_id is not null as joining
  from waybill.items i
  join waybill.tenants t on t.id = i.tenant_id
  join waybill.batches b on b.id = i.batch_id
  left join waybill.ready r on r.item_id = i.id
  left join waybill.running_now u on u.item_id = i.id
  left join waybill.waiting w on w.item_id = i.id
  left join waybill.joining j on j.item_id = i.id
  left join waybill.holds h on h.item_id = i.id and h.open
  left join waybill.outcomes o on o.item_id = i.id
"""

# Where an item of `ITEM` stands, by the word that people use.
STATES = {
    "ready": "r.item_id is not null",
    "running": "u.item_id is not null",
    "waiting": "(w.item_id is not null or j.item_id is not null)",
    "held": "h.item_id is not null",
    "done": "o.state = 'done'",
    "rejected": "o.state = 'rejected'",
    "failed": "o.state = 'failed'",
    "cancelled": "o.state = 'cancelled'",
}


class PostgresItems(Topic):
    """Where items are."""

    async def counts(self, batch_id: int | None = None) -> Counts:
        """The conservation law's terms, from one snapshot."""
        [row] = await self._db.fetch(COUNTS, batch_id)
        return Counts(*(int(v) for v in row.values()))

    async def astray(self, batch_id: int | None = None) -> list[ItemId]:
        """Items in no state table, or in several; at most 100."""
        return [r["id"] for r in await self._db.fetch(ASTRAY, batch_id)]

    async def item(self, item_id: ItemId) -> ItemRow:
        """One item; raises NotFound."""
        rows = await self._db.fetch(ITEM + " where i.id = $1", item_id)
        if not rows:
            raise NotFound(
                f"no item {item_id}", hint="`waybill items ls` lists the items"
            )
        return item_row(rows[0])

    async def items(
        self,
        *,
        state: str | None = None,
        batch_id: int | None = None,
        tenant: str | None = None,
        parent: ItemId | None = None,
        limit: int = 50,
    ) -> list[ItemRow]:
        """Newest first; `state` is one of the eight words."""
        here = "true" if state is None else STATES[state]
        rows = await self._db.fetch(
            f"{ITEM} where {here} and ($1::bigint is null or i.batch_id = $1)"
            " and ($2::text is null or t.name = $2)"
            " and ($4::bigint is null or i.parent_id = $4)"
            " order by i.id desc limit $3",
            batch_id,
            tenant,
            limit,
            parent,
        )
        return [item_row(r) for r in rows]

    async def children(self, parent: ItemId) -> dict[str, int]:
        """How many children of an item are in which state; {} when it has none."""
        rows = await self._db.fetch(
            """
            with k as (select id from waybill.items where parent_id = $1)
            select state, count(*) as n
              from (select 'ready' as state from waybill.ready r
                join k on k.id = r.item_id
                    union all
                    select 'running' from waybill.running u join k on k.id = u.item_id
                    union all
                    select 'waiting' from waybill.waiting w join k on k.id = w.item_id
                    union all
                    select 'waiting' from waybill.joining j join k on k.id = j.item_id
                    union all
                    select 'held' from waybill.holds h join k on k.id = h.item_id
                      and h.open
                    union all
                    select o.state from waybill.outcomes o join k on k.id = o.item_id) s
             group by state
            """,
            parent,
        )
        found = {r["state"]: r["n"] for r in rows}
        return {state: found[state] for state in STATES if state in found}

    async def joining(self, batch_id: int) -> int:
        """How many items of a batch wait for children that are not final."""
        return int(
            await self._db.fetchval(
                """
                select count(*) from waybill.joining j
                  join waybill.items i on i.id = j.item_id
                 where i.batch_id = $1
                   and exists (select from waybill.open_children k
                                where k.parent_id = j.item_id)
                """,
                batch_id,
            )
        )

    async def ahead(self, item: ItemId) -> int:
        """How many ready items of its tenant and stage come before this one."""
        return int(
            await self._db.fetchval(
                """
                select count(*) from waybill.ready me
                  join waybill.ready r on r.stage = me.stage
                    and r.tenant_id = me.tenant_id
                   and (r.deadline_at, r.item_id) < (me.deadline_at, me.item_id)
                 where me.item_id = $1
                """,
                item,
            )
        )

    async def facts(self, item: ItemId) -> tuple[int, str]:
        """The item's pipeline id and its input as JSON text; raises NotFound."""
        rows = await self._db.fetch(
            "select pipeline_id, input from waybill.items where id = $1", item
        )
        if not rows:
            raise NotFound(f"no item {item}", hint="`waybill items ls` lists the items")
        return rows[0]["pipeline_id"], rows[0]["input"]

    async def timeline(self, item: ItemId, *, limit: int = 500) -> list[Event]:
        """Everything recorded about one item, oldest first."""
        rows = await self._db.fetch(
            """
            select at, event, stage, actor, code as detail, null::real as took_s
              from waybill.audit where item_id = $1
            union all
            select at, case when step is not null then 'step'
                            when worker_id is null then 'ruled' else 'stage' end,
                   stage, coalesce(worker_id::text, 'reviewer'),
                   coalesce(step, case when next_stage = '' then 'end'
                                       else '→ ' || next_stage end), took_s
              from waybill.checkpoints where item_id = $1
            union all
            select at, case when charged then 'attempt' else 'setback' end, stage,
                   coalesce(worker_id::text, ''), code || ': ' || message, null
              from waybill.attempts where item_id = $1
            union all
            select d.decided_at, d.verb, h.stage, d.author, d.reason, null
              from waybill.decisions d join waybill.holds h on h.id = d.hold_id
                where h.item_id = $1
            order by at limit $2
            """,
            item,
            limit,
        )
        return [Event(*r.values()) for r in rows]


def item_row(r: asyncpg.Record) -> ItemRow:
    """A row of `ITEM`."""
    return ItemRow(**{**r, "state": State(r["state"])})
