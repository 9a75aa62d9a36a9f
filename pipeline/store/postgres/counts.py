"""
How many stand where: kept true by triggers, and counted for real by an audit.

The triggers of the schema write what changed into `tally_changes`; `FOLD` adds that
to `tallies`.  The sum of both is read here, whatever the number of items.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg

from pipeline.model import ItemId
from pipeline.store.database import Connection, Topic
from pipeline.store.rows import Audit, Counts, StageRow

# By whoever wakes timers; another who folds at the same moment takes other rows.  In
# one order, so that the two wait for one another and never both.
FOLD = """
with gone as (
  delete from waybill.tally_changes where ctid = any (array(
    select ctid from waybill.tally_changes limit 20000 for update skip locked))
  returning batch_id, state, stage, n),
each as (
  select * from gone union all select 0, state, stage, n from gone)
insert into waybill.tallies as t (batch_id, state, stage, n)
select batch_id, state, stage, sum(n)::bigint from each
 group by 1, 2, 3 having sum(n) <> 0 order by 1, 2, 3
on conflict (batch_id, state, stage) do update set n = t.n + excluded.n
"""

OF_ALL = """
select 0 as batch_id, state, stage, sum(n)::bigint as n from (
  select state, stage, n from waybill.tallies where batch_id = 0
  union all select state, stage, n from waybill.tally_changes) t
 group by state, stage
"""

OF_BATCHES = """
select batch_id, state, stage, sum(n)::bigint as n from (
  select batch_id, state, stage, n from waybill.tallies
   where batch_id = any($1::bigint[])
  union all
  select batch_id, state, stage, n from waybill.tally_changes
   where batch_id = any($1::bigint[])) t
 group by batch_id, state, stage
"""

RUNNING_NOW = "select stage, count(*) as n from waybill.running_now r group by stage"
RUNNING_NOW_OF_BATCH = """
select stage, count(*) as n from waybill.running_now r
 where (select i.batch_id from waybill.items i where i.id = r.item_id) = $1
 group by stage
"""

# Each item is looked up in the table of each state; more than one place, or none, is
# astray.
PLACES = """
with slice as materialized ({slice}),
placed as (
  select id,
         (select count(*) from waybill.ready x where x.item_id = s.id)
       + (select count(*) from waybill.running x where x.item_id = s.id)
       + (select count(*) from waybill.waiting x where x.item_id = s.id)
       + (select count(*) from waybill.joining x where x.item_id = s.id) as live,
         (select count(*) from waybill.holds x where x.item_id = s.id and x.open)
         as held,
         (select x.state from waybill.outcomes x where x.item_id = s.id) as state
    from slice s)
select max(id) as last, coalesce(sum(live), 0)::bigint as live,
       coalesce(sum(held), 0)::bigint as held,
       count(*) filter (where state = 'done') as done,
       count(*) filter (where state = 'rejected') as rejected,
       count(*) filter (where state = 'failed') as failed,
       count(*) filter (where state = 'cancelled') as cancelled,
       array_agg(id order by id)
         filter (where live + held + (state is not null)::int <> 1) as astray
  from placed
"""

RECEIPTS = """
with slice as materialized ({slice})
select max(id) as last, count(*) as received,
       count(*) filter (where disposal = 'duplicate') as duplicates,
       count(*) filter (where disposal = 'quarantined') as quarantined
  from slice
"""

ITEMS_SLICE = "select id from waybill.items where id > $1 order by id limit $2"
ITEMS_SLICE_OF_BATCH = """
select id from waybill.items where batch_id = $3 and id > $1 order by id limit $2
"""
RECEIPTS_SLICE = """
select id, disposal from waybill.receipts where id > $1 order by id limit $2
"""
RECEIPTS_SLICE_OF_BATCH = """
select id, disposal from waybill.receipts
 where batch_id = $3 and id > $1 order by id limit $2
"""

SLICE = 20_000  # items of one statement: about 0.2 s
ASTRAY_MAX = 100
AUDIT_BUDGET_S = 3600.0  # of all its statements together; each is bounded by itself

EVERY = 0  # stands for all batches in the tallies
TALLIED = {"waiting": ("waiting", "joining")}  # what people have one word for
LIVE = ("ready", "running", "waiting", "joining")
# The column of `StageRow` that a tallied state is counted in; the others have none.
WAITING_AT = {
    "ready": "ready",
    "waiting": "waiting",
    "joining": "waiting",
    "held": "held",
}


class PostgresCounts(Topic):
    """What stands where, counted."""

    async def counts(self, batch_id: int | None = None) -> Counts:
        """The conservation law's terms, from one snapshot."""
        rows = await _tallies(self._db.fetch, batch_id)
        return counts_row(rows)

    async def counts_of(self, batches: Sequence[int]) -> dict[int, Counts]:
        """The terms of each of these batches."""
        rows: dict[int, list[asyncpg.Record]] = {b: [] for b in batches}
        for row in await self._db.fetch(OF_BATCHES, list(batches)):
            rows[row["batch_id"]].append(row)
        return {b: counts_row(found) for b, found in rows.items()}

    async def fold(self) -> None:
        """Add to the tallies what triggers wrote; nothing that is read changes."""
        await self._db.fetch(FOLD)

    async def stages(self, batch_id: int | None = None) -> list[StageRow]:
        """What stands at each stage now."""
        now: dict[str, Counter[str]] = {}
        for row in await _tallies(self._db.fetch, batch_id):
            if word := WAITING_AT.get(row["state"]):
                now.setdefault(row["stage"], Counter())[word] += row["n"]
        # `running` is counted by the stage at which it was claimed; there is no more
        # of it than workers carry.
        for row in (
            await self._db.fetch(RUNNING_NOW)
            if batch_id is None
            else await self._db.fetch(RUNNING_NOW_OF_BATCH, batch_id)
        ):
            now.setdefault(row["stage"], Counter())["running"] += row["n"]
        return [
            StageRow(stage, *(n[word] for word in StageRow._fields[1:]))
            for stage, n in sorted(now.items())
            if any(n.values())
        ]

    async def astray(self, batch_id: int | None = None) -> list[ItemId]:
        """Items in no state table, or in several; at most 100."""
        return (await self.audit(batch_id)).astray

    async def audit(
        self,
        batch_id: int | None = None,
        note: Callable[[int], None] = lambda looked_at: None,
    ) -> Audit:
        """
        Look up every item and receipt of a batch, or of everything, in one snapshot.

        Args:
            note: Told how many rows were looked at so far, after each slice.
        """
        of = () if batch_id is None else (batch_id,)
        items, receipts = (
            (ITEMS_SLICE, RECEIPTS_SLICE)
            if batch_id is None
            else (ITEMS_SLICE_OF_BATCH, RECEIPTS_SLICE_OF_BATCH)
        )

        async def work(con: Connection) -> Audit:
            found: Counter[str] = Counter()
            astray: list[ItemId] = []
            slices = 0
            for sql in (PLACES.format(slice=items), RECEIPTS.format(slice=receipts)):
                last = 0
                while row := await _slice(con, sql, last, of):
                    last = row.pop("last")
                    astray += row.pop("astray", None) or ()
                    found.update(row)
                    slices += 1
                    note(slices * SLICE)
            counted = Counts(*(found[word] for word in Counts._fields))
            tallied = counts_row(await _tallies(con.fetch, batch_id))
            return Audit(counted, tallied, astray[:ASTRAY_MAX])

        return await self._db.tx(work, budget_s=AUDIT_BUDGET_S, snapshot=True)


async def _tallies(
    fetch: Callable[..., Awaitable[list[asyncpg.Record]]], batch_id: int | None
) -> list[asyncpg.Record]:
    """(state, stage, n) of a batch, or of everything."""
    return await (fetch(OF_ALL) if batch_id is None else fetch(OF_BATCHES, [batch_id]))


async def _slice(
    con: Connection, sql: str, last: int, of: tuple[int, ...]
) -> dict[str, Any] | None:
    """The next rows after `last`, counted; None when there is none."""
    row = await con.fetchrow(sql, last, SLICE, *of)
    return None if row is None or row["last"] is None else dict(row)


def counts_row(rows: Sequence[asyncpg.Record]) -> Counts:
    """The law's terms, of tallies by state."""
    n: Counter[str] = Counter()
    for row in rows:
        n[row["state"]] += row["n"]
    return Counts(
        received=n["item"] + n["duplicate"] + n["quarantined"],
        live=sum(n[state] for state in LIVE),
        held=n["held"],
        done=n["done"],
        rejected=n["rejected"],
        failed=n["failed"],
        cancelled=n["cancelled"],
        duplicates=n["duplicate"],
        quarantined=n["quarantined"],
    )
