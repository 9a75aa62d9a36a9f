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
from pipeline.purse import NOTHING, Amounts, Most, Purse
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
HOLDINGS = """
select item_id, talk, asks, tokens, calls, faults from waybill.purse_holdings
 where item_id = any($1::bigint[]) and not swept
"""
# Whoever is retried holds it again; see `purses_again` of the schema.
SWEEP = """
with swept as (
  update waybill.purse_holdings h set swept = true
   where h.root_id = $1 and not h.swept
     and exists (select from waybill.outcomes o where o.item_id = h.item_id)
  returning h.asks, h.tokens, h.calls, h.faults)
select coalesce(sum(asks), 0)::bigint as asks,
       coalesce(sum(tokens), 0)::bigint as tokens,
       coalesce(sum(calls), 0)::bigint as calls,
       coalesce(sum(faults), 0)::bigint as faults from swept
"""
HOLD = """
insert into waybill.purse_holdings as h
       (root_id, item_id, talk, asks, tokens, calls, faults)
select t.* from unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[],
                       $5::bigint[], $6::bigint[], $7::bigint[]) t
on conflict (item_id, talk) do update
   set asks = excluded.asks, tokens = excluded.tokens, calls = excluded.calls,
       faults = excluded.faults, swept = false
"""
LET_GO = """
delete from waybill.purse_holdings h
 using unnest($1::bigint[], $2::text[]) t(item_id, talk)
 where h.item_id = t.item_id and h.talk = t.talk
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
    holdings = {
        (r["item_id"], r["talk"]): _amounts(r)
        for r in await con.fetch(HOLDINGS, drawing)
    }
    drew: dict[tuple[ItemId, str], Amounts] = {}
    written: list[Entry] = []
    for e in entries:
        if e.draw is None:
            written.append(e)
            continue
        if e.item_id not in roots:
            raise Refused(f"item {e.item_id} is not this worker's: it takes nothing")
        assert e.checkpoint is not None
        root = roots[e.item_id]
        talk = (e.item_id, f"{e.checkpoint.stage}/{e.draw.talk}")
        purse, holds = purses[root], drew.get(talk) or holdings.get(talk, NOTHING)
        if purse.lacks(e.draw, holds):
            [swept] = await con.fetch(SWEEP, root)
            purse.held = purse.held.less(_amounts(swept))
        drawn = purse.draw(e.draw, holds)
        drew[talk] = drawn.held
        kept = e.checkpoint._replace(update=drawn.model_dump_json())
        written.append(replace(e, checkpoint=kept, draw=None))
    sums = [(of, *p.taken, *p.held, *p.most, p.lacked) for of, p in purses.items()]
    await con.execute(WRITE, *columns(sums))
    hold = [(roots[t[0]], *t, *held) for t, held in drew.items() if held != NOTHING]
    let_go = [talk for talk, held in drew.items() if held == NOTHING]
    if hold:
        await con.execute(HOLD, *columns(hold))
    if let_go:
        await con.execute(LET_GO, *columns(let_go))
    return written


def _amounts(r: asyncpg.Record) -> Amounts:
    return Amounts(*(r[name] for name in Amounts._fields))


def _purse(r: asyncpg.Record) -> Purse:
    return Purse(
        Most(*(r[f"most_{name}"] for name in Amounts._fields)),
        _amounts(r),
        Amounts(*(r[f"{name}_held"] for name in Amounts._fields)),
        r["lacked"],
    )


def _row(r: asyncpg.Record) -> PurseRow:
    purse = _purse(r)
    return PurseRow(r["root_id"], purse.most, purse.taken, purse.held, purse.lacked)
