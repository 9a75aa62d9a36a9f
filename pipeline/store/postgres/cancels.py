"""
Cancelling and retrying in PostgreSQL, while workers move what is meant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.model import Entry, Finish, ItemId
from pipeline.store.database import Connection, Topic
from pipeline.store.rows import Mark

# Also what the end of a parent does to its children; see the schema.
CANCEL_PARKED = "select waybill.cancel_parked($1::bigint[], $2) as item_id"

# The row lock makes the worker's move wait, or us for it; see `end_cancelled`.
CANCEL_RUNNING = """
insert into waybill.cancels (item_id, author)
select item_id, $2
  from (select item_id from waybill.running where item_id = any($1::bigint[])
         order by item_id for update) r
on conflict (item_id) do update set author = cancels.author
returning item_id
"""

UNENDED = """
select id from waybill.items i
 where id = any($1::bigint[])
   and not exists (select from waybill.outcomes o where o.item_id = i.id)
"""

CANCEL_LOOKS = 5  # arbitrary: each needs a claim and a commit within a millisecond

# What it asked for it may ask anew: its time begins again, and what came late counts.
# All its effects, whatever this statement sees of `still`: they may be set aside until
# the item's end is ours.
RETRY = """
with gone as (
  delete from waybill.outcomes
   where item_id = any($1::bigint[]) and state <> 'done'
  returning item_id, stage),
line as (
  insert into waybill.ready (item_id, stage, tenant_id, deadline_at, seq)
  select g.item_id, g.stage, i.tenant_id, i.deadline_at,
         coalesce((select max(seq) + 1 from waybill.checkpoints c
                    where c.item_id = g.item_id), 0)
    from gone g join waybill.items i on i.id = g.item_id),
noted as (
  insert into waybill.audit (item_id, event, stage, actor)
  select item_id, 'retried', stage, $2 from gone),
anew as (
  update waybill.signals set stage = '', asked_at = null, until = null, lapsed = false
   where item_id in (select item_id from gone)),
sent as (
  update waybill.effects set still = false where item_id in (select item_id from gone)),
forgotten as (
  delete from waybill.cancels where item_id in (select item_id from gone))
select item_id from gone
"""

DONE = """
select item_id from waybill.outcomes
 where item_id = any($1::bigint[]) and state = 'done'
"""

# Out of `ready` and back in by delete + insert: a claim that began before this would
# else take the row as it is now, with the version of the pipeline as it was.
PIN = """
with meant as (
  select t.item_id, t.stage
    from unnest($1::bigint[], $2::text[], $3::int[]) t(item_id, stage, last_seq)
   where t.last_seq = coalesce((select max(c.seq) from waybill.checkpoints c
                                 where c.item_id = t.item_id), -1)),
r as (
  delete from waybill.ready x using meant m
   where x.item_id = m.item_id and x.stage = m.stage
  returning x.item_id, x.stage, x.seq),
w as (
  delete from waybill.waiting x using meant m
   where x.item_id = m.item_id and x.stage = m.stage
  returning x.item_id, x.stage, x.seq),
h as (
  update waybill.holds x set open = false, claimed_by = null, claimed_until = null
    from meant m
   where x.item_id = m.item_id and x.stage = m.stage and x.open
     and (x.claimed_until is null or x.claimed_until <= waybill.clock())
  returning x.item_id, x.stage, x.seq),
o as (
  delete from waybill.outcomes x using meant m
   where x.item_id = m.item_id and x.stage = m.stage and x.state <> 'done'
  returning x.item_id, x.stage,
            coalesce((select max(c.seq) + 1 from waybill.checkpoints c
                       where c.item_id = x.item_id), 0)),
j as materialized (
  select x.item_id from waybill.joining x join meant m on m.item_id = x.item_id
   where x.stage = m.stage for update of x),
gone as (
  select * from r union all select * from w union all select * from h
   union all select * from o),
pinned as (
  update waybill.items set pipeline_id = $4
   where id in (select item_id from gone union all select item_id from j)),
line as (
  insert into waybill.ready (item_id, stage, tenant_id, deadline_at, seq)
  select g.item_id, g.stage, i.tenant_id, i.deadline_at, g.seq
    from gone g join waybill.items i on i.id = g.item_id),
noted as (
  insert into waybill.audit (item_id, event, stage, actor, code)
  select g.item_id, 'retried', g.stage, $5, 'pinned to ' || p.version
    from gone g, waybill.pipelines p where p.id = $4),
anew as (
  update waybill.signals set stage = '', asked_at = null, until = null, lapsed = false
   where item_id in (select item_id from o)),
sent as (
  update waybill.effects set still = false where item_id in (select item_id from o)),
forgotten as (
  delete from waybill.cancels where item_id in (select item_id from gone))
select item_id, 'ready' as now from gone union all select item_id, 'joining' from j
"""


class PostgresCancels(Topic):
    """Ending items before their time, and beginning again."""

    async def cancel(self, items: Sequence[ItemId], author: str) -> dict[ItemId, str]:
        """Cancel what is parked; ask the workers of what is running."""

        async def work(con: Connection) -> dict[ItemId, str]:
            ids = sorted(set(items))
            said = dict.fromkeys(ids, "final")
            left = ids
            # An item may move on between two statements: what neither found and
            # nothing ended is looked for again.
            for _ in range(CANCEL_LOOKS):
                for row in await con.fetch(CANCEL_PARKED, left, author):
                    said[row["item_id"]] = "cancelled"
                for row in await con.fetch(CANCEL_RUNNING, left, author):
                    said[row["item_id"]] = "cancelling"
                left = [i for i in left if said[i] == "final"]
                rows = await con.fetch(UNENDED, left) if left else []
                left = [row["id"] for row in rows]
                if not left:
                    break
            return said

        return await self._db.tx(work)

    async def retry(self, items: Sequence[ItemId], author: str) -> dict[ItemId, str]:
        """Put finished-but-not-done items back in line."""
        rows = await self._db.fetch(RETRY, sorted(set(items)), author)
        moved = {r["item_id"] for r in rows}
        said = {i: "ready" if i in moved else "not final" for i in items}
        left = [i for i in said if i not in moved]
        return said | {r["item_id"]: "done" for r in (await self._db.fetch(DONE, left))}

    async def pin(
        self, marks: Mapping[ItemId, Mark], pipeline_id: int, author: str
    ) -> dict[ItemId, str]:
        """Pin items where they stand to a version, and put them in line."""
        ids = sorted(marks)
        stages = [marks[i].stage for i in ids]
        seen = [marks[i].last_seq for i in ids]
        rows = await self._db.fetch(PIN, ids, stages, seen, pipeline_id, author)
        return dict.fromkeys(ids, "moved") | {r["item_id"]: r["now"] for r in rows}


async def end_cancelled(
    con: Connection, entries: Sequence[Entry], stood: set[ItemId]
) -> None:
    """
    Cancel what was parked before its worker heard of the cancellation.

    A statement of its own: a `cancel` that held the item's row while the move
    waited for it is visible only now.
    """
    parked = [
        e.item_id
        for e in entries
        if not isinstance(e.move, Finish | None) and e.item_id in stood
    ]
    if parked:
        sql = (
            "delete from waybill.cancels where item_id = any($1::bigint[])"
            " returning item_id, author"
        )
        for row in await con.fetch(sql, parked):
            await con.execute(CANCEL_PARKED, [row["item_id"]], row["author"])
