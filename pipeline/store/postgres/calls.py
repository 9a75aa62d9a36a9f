"""
The ledger of calls in PostgreSQL: opened before they are made, settled after.

Who pays is decided in ledger.py.  Where a bound is to be kept, budgets are locked
before anything is decided; where there is none, last of all, as in settling.py: all
workers share these rows, and one that holds them while it asks keeps out the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from pipeline.calls import CallId, CallOpening, Money, ServiceBudget, Settled
from pipeline.errors import LeaseLost
from pipeline.model import ItemId, WorkerId
from pipeline.store.database import Connection, Topic
from pipeline.store.ledger import IDLE_CODES, Account, Caller, Grants, Key, Where, grant
from pipeline.store.outside import Short
from pipeline.store.postgres.budgets import BEGIN_ITEMS
from pipeline.store.postgres.sessions import ALIVE
from pipeline.store.postgres.settling import (
    change,
    columns,
    lock_and_change,
    write_settled,
)

CALLERS = """
select i.id, i.batch_id, i.tenant_id, t.name as tenant, u.item_id is not null as mine,
       to_char(waybill.clock() at time zone 'UTC', 'YYYYMMDD')::int as day,
       case when i.parent_id is null then i.id else (
         with recursive up as (
           select i.id, i.parent_id
           union all
           select p.id, p.parent_id from waybill.items p join up on p.id = up.parent_id)
         select id from up where parent_id is null) end as root_id
  from waybill.items i
  join waybill.tenants t on t.id = i.tenant_id
  left join waybill.running u on u.item_id = i.id and u.worker_id = $2
 where i.id = any($1::bigint[])
"""

# Makes the rows that are missing and locks all: `do update` locks a row also where it
# has nothing to update.  Every day begins with what people bound all days to.
LOCK_BUDGETS = """
insert into waybill.budgets as b (scope, of, currency, most, declared)
select t.scope, t.of, t.currency,
       case when t.scope = 'day' then (
         select d.most from waybill.budgets d
          where d.scope = 'day' and d.of = 0 and d.currency = t.currency) end,
       t.declared
  from unnest($1::text[], $2::bigint[], $3::text[], $4::numeric[])
       t(scope, of, currency, declared)
 order by t.scope, t.of, t.currency
on conflict (scope, of, currency) do update set declared = excluded.declared
 where b.declared is distinct from excluded.declared
"""

DECLARE_ITEMS = """
update waybill.budgets b set declared = t.declared
  from unnest($1::bigint[], $2::text[], $3::numeric[]) t(of, currency, declared)
 where b.scope = 'item' and b.of = t.of and b.currency = t.currency
"""

# Also those in other currencies, which are not locked: a bound there is a refusal.
READ_BUDGETS = """
select b.scope, b.of, b.currency, b.most, b.declared, b.spent, b.reserved
  from unnest($1::text[], $2::bigint[]) t(scope, of)
  join waybill.budgets b on b.scope = t.scope and b.of = t.of
"""

# Nobody else opens calls of these items meanwhile: they are this worker's.
CALLED = """
select t.item_id,
       coalesce((select c.number from waybill.calls c where c.item_id = t.item_id
                  order by c.number desc limit 1), 0) as number,
       (select count(*) from waybill.audit a
         where a.item_id = t.item_id and a.event = 'retried') as retried
  from unnest($1::bigint[]) t(item_id)
"""
IDLE = """
select item_id, count(*) as idle from waybill.calls
 where item_id = any($1::bigint[]) and code = any($2::text[]) group by item_id
"""
OPEN = """
select item_id, number, token from waybill.calls
 where worker_id = $2 and settled_at is null and item_id = any($1::bigint[])
"""

OPENED = """
with served as (
  delete from waybill.budget_waits where item_id = any($1::bigint[]))
insert into waybill.calls (item_id, number, root_id, batch_id, tenant_id, day, stage,
                           step, tries, vendor, token, currency, reserved, worker_id)
select t.*, $14
  from unnest($1::bigint[], $2::int[], $3::bigint[], $4::bigint[], $5::int[],
              $6::int[], $7::text[], $8::text[], $9::smallint[], $10::text[],
              $11::uuid[], $12::text[], $13::numeric[]) t
"""

WAITS = """
insert into waybill.budget_waits (item_id, scope, of, currency, needs, deadline_at)
select t.*, i.deadline_at
  from unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[], $5::numeric[])
       t(item_id, scope, of, currency, needs)
  join waybill.items i on i.id = t.item_id
 order by t.item_id
on conflict (item_id) do update
   set scope = excluded.scope, of = excluded.of, currency = excluded.currency,
       needs = excluded.needs, deadline_at = excluded.deadline_at
"""

DECLARE = """
update waybill.budgets set declared = $3
 where (scope, of, currency) in (
   select scope, of, currency from waybill.budgets
    where scope = $1 and of >= $2 and ($4 = '' or currency = $4)
      and declared is distinct from $3
    order by scope, of, currency for update)
"""
NEW = Account()
TODAY = "select to_char(waybill.clock() at time zone 'UTC', 'YYYYMMDD')::int"


class PostgresCalls(Topic):
    """What workers write into the ledger."""

    async def open_calls(
        self, worker: WorkerId, openings: Sequence[CallOpening]
    ) -> list[CallId | Short]:
        """Write calls down and reserve what they can cost; see the port."""

        async def work(con: Connection) -> Grants:
            if await con.fetchval(ALIVE, worker) is None:
                raise LeaseLost("this worker's lease ran out")
            callers = await _callers(con, worker, openings)
            wanted = _wanted(openings, callers)
            accounts = await _unbounded(con, wanted)
            write = lock_and_change if accounts is not None else change
            if accounts is None:
                accounts = await _lock(con, wanted)
            most = {o.item_id: o.budget.calls_max for o in openings}
            await _look_up(con, worker, callers, most)
            found = grant(openings, callers, accounts)
            await _write(con, worker, callers, found)
            await write(con, found.changes)
            return found

        return (await self._db.tx(work)).verdicts

    async def settle_calls(self, worker: WorkerId, settled: Sequence[Settled]) -> None:
        """Settle this worker's open calls."""

        async def work(con: Connection) -> None:
            if await con.fetchval(ALIVE, worker) is None:
                raise LeaseLost("this worker's lease ran out")
            await write_settled(con, worker, settled)

        await self._db.tx(work)

    async def declare(self, service: ServiceBudget) -> None:
        """Bound what is counted already as the file says now."""

        async def work(con: Connection) -> None:
            today = await con.fetchval(TODAY)
            for scope, first in (("day", today), ("tenant", 0)):
                bound: Money | None = getattr(service, scope)
                amount, currency = bound or (None, "")
                await con.execute(DECLARE, scope, first, amount, currency)

        await self._db.tx(work)


async def _callers(
    con: Connection, worker: WorkerId, openings: Sequence[CallOpening]
) -> dict[ItemId, Caller]:
    rows = await con.fetch(CALLERS, list({o.item_id for o in openings}), worker)
    found = {
        r["id"]: Caller(
            Where(r["root_id"], r["batch_id"], r["tenant_id"], r["day"]),
            r["tenant"],
            r["mine"],
        )
        for r in rows
    }
    nobody = Caller(Where(0, 0, 0, 0), "", mine=False)
    return {o.item_id: found.get(o.item_id, nobody) for o in openings}


def _wanted(
    openings: Sequence[CallOpening], callers: Mapping[ItemId, Caller]
) -> dict[Key, Decimal | None]:
    """The budgets of these calls, and what files bound them to."""
    wanted: dict[Key, Decimal | None] = {}
    for o in openings:
        if callers[o.item_id].mine:
            for key in callers[o.item_id].keys(o.currency):
                bound = o.declared(key.scope)
                same = bound is not None and bound.currency == o.currency
                wanted[key] = bound.amount if bound and same else None
    return wanted


async def _unbounded(
    con: Connection, wanted: Mapping[Key, Decimal | None]
) -> dict[Key, Account] | None:
    """
    These budgets as they stand, not locked; None where one has a bound, or no row yet.

    Who sets a bound meanwhile finds these calls counted, like any made before.
    """
    kept = await _read(con, wanted)
    bounds = [*wanted.values(), *(account.bound for account in kept.values())]
    new = any(key.scope != "item" and key not in kept for key in wanted)
    if new or any(bound is not None for bound in bounds):
        return None
    # A family may get its row until these calls are written: all are `kept`.
    return {key: Account() for key in wanted} | kept


async def _read(
    con: Connection, wanted: Mapping[Key, Decimal | None]
) -> dict[Key, Account]:
    if not wanted:
        return {}
    found = await con.fetch(READ_BUDGETS, *columns({key[:2] for key in wanted}))
    return {Key(*row[:3]): Account(*row[3:]) for row in map(tuple, found)}


async def _lock(
    con: Connection, wanted: Mapping[Key, Decimal | None]
) -> dict[Key, Account]:
    """These budgets, locked, and those in other currencies."""
    shared = [(*k, most) for k, most in wanted.items() if k.scope != "item"]
    await con.execute(LOCK_BUDGETS, *columns(shared))
    kept = await _read(con, wanted)
    # Families: a row of their own have those that are bounded; their batch is locked.
    differ = {
        key: most
        for key, most in wanted.items()
        if key.scope == "item" and most != kept.get(key, NEW).declared
    }
    if made := [(key.of, key.currency) for key in differ if key not in kept]:
        for row in await con.fetch(BEGIN_ITEMS, *columns(made)):
            kept[Key(*row[:3])] = Account(None, None, *row[3:])
    if differ:
        rows = [(key.of, key.currency, most) for key, most in differ.items()]
        await con.execute(DECLARE_ITEMS, *columns(rows))
    return {key: Account(kept=False) for key in wanted} | kept


async def _look_up(
    con: Connection,
    worker: WorkerId,
    callers: Mapping[ItemId, Caller],
    most: Mapping[ItemId, int],
) -> None:
    """How often they have called, of `most` times, and what of it is open."""
    mine = [item for item, caller in callers.items() if caller.mine]
    for row in await con.fetch(CALLED, mine):
        callers[row["item_id"]].number = row["number"]
        callers[row["item_id"]].retried = row["retried"]
    if many := [item for item in mine if callers[item].number >= most[item]]:
        for row in await con.fetch(IDLE, many, list(IDLE_CODES)):
            callers[row["item_id"]].idle = row["idle"]
    for row in await con.fetch(OPEN, mine, worker):
        callers[row["item_id"]].tokens[row["token"]] = row["number"]


async def _write(
    con: Connection,
    worker: WorkerId,
    callers: Mapping[ItemId, Caller],
    found: Grants,
) -> None:
    if found.written:
        rows = [
            (
                *call,
                *callers[call.item_id].where,
                o.stage,
                o.step,
                o.tries,
                o.vendor,
                o.token,
                o.currency,
                o.most,
            )
            for call, o in found.written
        ]
        await con.execute(OPENED, *columns(rows), worker)
    if found.waits:
        waits = [(item, *key, needs) for item, (key, needs) in found.waits.items()]
        await con.execute(WAITS, *columns(waits))
