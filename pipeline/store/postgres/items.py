"""
Where items are, one by one and counted: reads only, never on the hot path.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import asyncpg

from pipeline.errors import NotFound
from pipeline.model import ItemId, State
from pipeline.store.database import Topic
from pipeline.store.outside import WAIT_CODE
from pipeline.store.port import ANY
from pipeline.store.postgres.counts import EVERY, OF_BATCHES, SLICE, TALLIED
from pipeline.store.postgres.listing import STATES, Listing, statement
from pipeline.store.rows import AttemptRow, Event, Found, ItemRow, Sought, WaitsRow

LAST = 2**63 - 1  # what the database can count to
# For a name or a code a million items are looked through in some tenths of a second,
# slice by slice: a person sees after a second how far it came, and may go on.
LOOK_ITEMS = 100_000
LOOK_S = 1.0

BATCHES_OF = """
select b.id from waybill.batches b
 where b.tenant_id = (select t.id from waybill.tenants t where t.name = $1)
"""

PLACE = """
select i.id, i.name, t.name as tenant, b.name as batch, i.pipeline_id, i.key,
       i.created_at as received_at, i.deadline_at,
       case when r.item_id is not null then 'ready'
            when u.item_id is not null then 'running'
            when w.item_id is not null or j.item_id is not null then 'waiting'
            when h.item_id is not null then 'held'
            else o.state end as state,
       coalesce(r.stage, u.stage, w.stage, j.stage, h.stage, o.stage, '') as stage,
       coalesce(r.attempt, u.attempt, w.attempt, j.attempt, 0) as attempt,
       coalesce(nullif(w.code, ''), case when w.why ~ '{code}'
                then w.why end,
                h.code, o.code, '') as code,
       case when j.item_id is not null then 'its children'
            else coalesce(w.why, h.why, o.why, '') end as why,
       coalesce(r.since, u.claimed_at, w.since, j.since, h.held_at, o.at,
                i.created_at) as since,
       coalesce(w.until, j.deadline_at) as until, i.parent_id,
       j.item_id is not null as joining, i.pipeline
  from {items}
  join waybill.tenants t on t.id = i.tenant_id
  join waybill.batches b on b.id = i.batch_id
  left join waybill.ready r on r.item_id = i.id
  left join waybill.running_now u on u.item_id = i.id
  left join waybill.waiting w on w.item_id = i.id
  left join waybill.joining j on j.item_id = i.id
  left join waybill.holds h on h.item_id = i.id and h.open
  left join waybill.outcomes o on o.item_id = i.id
"""
ITEM = PLACE.format(items="waybill.items i", code=WAIT_CODE)
# From the few to the many: of so many tables the planner looks at the first ones.
LISTED = PLACE.format(
    items="picked k join waybill.items i on i.id = k.id", code=WAIT_CODE
)


class PostgresItems(Topic):
    """Where items are."""

    async def item(self, item_id: ItemId) -> ItemRow:
        """One item; raises NotFound."""
        rows = await self._db.fetch(ITEM + " where i.id = $1", item_id)
        if not rows:
            raise NotFound(
                f"no item {item_id}", hint="`waybill items ls` lists the items"
            )
        return item_row(rows[0])

    async def items(self, **asked: Any) -> list[ItemRow]:
        """What `find` finds, without how far it looked."""
        return (await self.find(**asked)).rows

    async def find(
        self,
        *,
        state: str | None = None,
        batch_id: int | None = None,
        tenant: str | None = None,
        parent: ItemId | None = None,
        before: ItemId = LAST,
        limit: int = 50,
        sought: Sought = ANY,
        look_s: float = LOOK_S,
    ) -> Found:
        """
        Newest first, those numbered below `before`; `state` is one of the words.

        What is `sought` is looked for slice by slice, as long as `look_s`.
        """
        what = await self._listing(state, batch_id, tenant, parent)
        if what is None:
            return Found([], 0)
        sql, args = statement(what._replace(sought=sought))
        listed = f"with picked as materialized ({sql}) {LISTED} order by i.id desc"
        if not any(sought):
            rows = await self._db.fetch(listed, before, limit, 0, *args)
            last = rows[-1]["id"] if len(rows) == limit else 0
            return Found([item_row(r) for r in rows], last)
        rows = []
        until = anyio.current_time() + look_s
        newest = await self._db.fetchval("select max(id) from waybill.items")
        before = min(before, (newest or 0) + 1)
        while before > 1 and len(rows) < limit and anyio.current_time() < until:
            first = max(before - LOOK_ITEMS, 1)
            rows += await self._db.fetch(
                listed, before, limit - len(rows), first, *args
            )
            before = first if len(rows) < limit else rows[-1]["id"]
        return Found([item_row(r) for r in rows], before if before > 1 else 0)

    async def item_ids(
        self, *, state: str | None, batch_id: int | None, limit: int
    ) -> list[ItemId]:
        """The numbers of such items, newest first, read in slices."""
        found: list[ItemId] = []
        what = await self._listing(state, batch_id, None, None)
        if what is None:
            return found
        sql, args = statement(what)
        while (most := min(SLICE, limit - len(found))) > 0:
            before = found[-1] if found else LAST
            rows = await self._db.fetch(sql, before, most, 0, *args)
            found += [r["id"] for r in rows]
            if len(rows) < most:
                break
        return found

    async def _listing(
        self,
        state: str | None,
        batch_id: int | None,
        tenant: str | None,
        parent: ItemId | None,
    ) -> Listing | None:
        """Where such items are looked for; None when there is none."""
        if batch_id is None and tenant is None:
            return Listing(None, parent, state)
        of = [batch_id] if batch_id is not None else None
        if tenant is not None:
            rows = await self._db.fetch(BATCHES_OF, tenant)
            theirs = [r["id"] for r in rows]
            of = theirs if of is None else [b for b in of if b in theirs]
        assert of is not None
        if state is None or parent is not None:
            return Listing(of, parent, state) if of else None
        mine = inside = every = 0
        having = set()
        for r in await self._db.fetch(OF_BATCHES, [*of, EVERY]):
            hit = r["state"] in TALLIED.get(state, (state,))
            if r["batch_id"] == EVERY:
                every += r["n"] * hit
                continue
            mine += r["n"] * hit
            inside += r["n"] * (r["state"] == "item")
            if hit and r["n"]:
                having.add(r["batch_id"])
        by_state = max(every, mine) < inside
        return Listing(sorted(having), None, state, by_state) if having else None

    async def rows(self, items: Sequence[ItemId]) -> dict[ItemId, ItemRow]:
        """Those of these items that there are."""
        found = await self._db.fetch(f"{ITEM} where i.id = any($1::bigint[])", items)
        return {r["id"]: item_row(r) for r in found}

    async def inputs(self, items: Sequence[ItemId]) -> dict[ItemId, str]:
        """What their states began with, as JSON text."""
        rows = await self._db.fetch(
            "select id, input from waybill.items where id = any($1::bigint[])", items
        )
        return {r["id"]: r["input"] for r in rows}

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

    async def failures(self, item_id: ItemId, *, limit: int = 10) -> list[AttemptRow]:
        """Its failed tries, newest first."""
        rows = await self._db.fetch(
            """
            select stage, attempt, code, message, charged, frames, at
              from waybill.attempts where item_id = $1 order by id desc limit $2
            """,
            item_id,
            limit,
        )
        return [AttemptRow(**{**r, "frames": r["frames"].splitlines()}) for r in rows]

    async def waits(self, item_id: ItemId) -> WaitsRow:
        """What keeps it from its stage."""
        [row] = await self._db.fetch(
            """
            with me as (
              select stage, strikes, '' as limit_name
                from waybill.ready where item_id = $1
              union all
              select n.stage, u.strikes, coalesce(p.waits_for, '')
                from waybill.running_now n
                join waybill.running u on u.item_id = n.item_id
                left join waybill.progress p
                  on p.item_id = n.item_id and p.stage = n.stage
               where n.item_id = $1)
            select coalesce(max(me.strikes), 0)::int as strikes,
                   (select count(*) from waybill.running_now r
                     where r.stage = (select stage from me))::int as beside,
                   coalesce(max(me.limit_name), '') as limit_name
              from me
            """,
            item_id,
        )
        return WaitsRow(*row.values())

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
