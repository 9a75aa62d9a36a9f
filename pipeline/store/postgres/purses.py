"""
Purses of families in PostgreSQL: drawn from in the transaction of a step.

They are locked first of all in a commit, in the order of their ids, so that nobody
waits for one another in a ring.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import asyncpg

from pipeline.errors import Refused
from pipeline.model import Entry, ItemId, WorkerId
from pipeline.purse import Amounts, Most, Purse
from pipeline.store.database import Connection, Topic
from pipeline.store.outside import PurseRow
from pipeline.store.postgres.settling import columns

ROOT = """
case when i.parent_id is null then i.id else (
  with recursive up as (
    select i.id, i.parent_id
    union all
    select p.id, p.parent_id from waybill.items p join up on p.id = up.parent_id)
  select id from up where parent_id is null) end
"""
ROOTS = f"""
select i.id, {ROOT} as root_id
  from waybill.running u join waybill.items i on i.id = u.item_id
 where u.worker_id = $2 and u.item_id = any($1::bigint[])
"""
MAKE = """
insert into waybill.purses as p (root_id)
select distinct t.root_id from unnest($1::bigint[]) t(root_id) order by t.root_id
on conflict (root_id) do nothing
"""
LOCK = """
select * from waybill.purses where root_id = any($1::bigint[])
 order by root_id for update
"""
WRITE = """
update waybill.purses p
   set asks = t.asks, tokens = t.tokens, calls = t.calls, faults = t.faults,
       asks_held = t.asks_held, tokens_held = t.tokens_held,
       calls_held = t.calls_held, faults_held = t.faults_held,
       most_asks = t.most_asks, most_tokens = t.most_tokens,
       most_calls = t.most_calls, most_faults = t.most_faults, lacked = t.lacked
  from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],
              $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[],
              $11::bigint[], $12::bigint[], $13::bigint[], $14::text[])
       t(root_id, asks, tokens, calls, faults, asks_held, tokens_held, calls_held,
         faults_held, most_asks, most_tokens, most_calls, most_faults, lacked)
 where p.root_id = t.root_id
"""
OF_ITEM = f"""
select p.* from waybill.items i join waybill.purses p on p.root_id = {ROOT}
 where i.id = $1
"""
LACKED = "select * from waybill.purses where lacked <> '' order by root_id limit $1"


class PostgresPurses(Topic):
    """What people ask about purses."""

    async def purse(self, item: ItemId) -> PurseRow | None:
        """That of the item's family; see the port."""
        rows = await self._db.fetch(OF_ITEM, item)
        return _row(rows[0]) if rows else None

    async def purses(self, *, limit: int = 100) -> list[PurseRow]:
        """Those that lacked something."""
        return [_row(r) for r in await self._db.fetch(LACKED, limit)]


async def write_draws(
    con: Connection, worker: WorkerId, entries: Sequence[Entry]
) -> Sequence[Entry]:
    """
    Decide the draws of the entries; returns the entries with what came of them in
    their checkpoints.

    Raises:
        Refused: an item is not this worker's.
    """
    drawing = [e.item_id for e in entries if e.draw is not None]
    if not drawing:
        return entries
    found = await con.fetch(ROOTS, drawing, worker)
    roots: dict[ItemId, ItemId] = {r["id"]: r["root_id"] for r in found}
    await con.execute(MAKE, list(roots.values()))
    rows = await con.fetch(LOCK, list(roots.values()))
    purses = {r["root_id"]: _purse(r) for r in rows}
    written: list[Entry] = []
    for e in entries:
        if e.draw is None:
            written.append(e)
            continue
        if e.item_id not in roots:
            raise Refused(f"item {e.item_id} is not this worker's: it takes nothing")
        assert e.checkpoint is not None
        drawn = purses[roots[e.item_id]].draw(e.draw).model_dump_json()
        kept = e.checkpoint._replace(update=drawn)
        written.append(replace(e, checkpoint=kept, draw=None))
    sums = [(of, *p.taken, *p.held, *p.most, p.lacked) for of, p in purses.items()]
    await con.execute(WRITE, *columns(sums))
    return written


def _purse(r: asyncpg.Record) -> Purse:
    return Purse(
        Most(*(r[f"most_{name}"] for name in Amounts._fields)),
        Amounts(*(r[name] for name in Amounts._fields)),
        Amounts(*(r[f"{name}_held"] for name in Amounts._fields)),
        r["lacked"],
    )


def _row(r: asyncpg.Record) -> PurseRow:
    purse = _purse(r)
    return PurseRow(r["root_id"], purse.most, purse.taken, purse.held, purse.lacked)
