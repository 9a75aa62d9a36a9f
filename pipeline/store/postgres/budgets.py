"""
Budgets in PostgreSQL: what was spent, what people set, and who goes on when there is
room.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import asyncpg

from pipeline.calls import Money, Usage
from pipeline.model import ItemId
from pipeline.names import number_in
from pipeline.store.database import Connection, Database, Topic
from pipeline.store.ledger import Key, day_of, name_of, of_one_day, unnamed
from pipeline.store.outside import RESTING, BudgetRow, CallRow, Spent
from pipeline.store.postgres.settling import columns

RESTED_LOOK = 200  # budgets that keep somebody waiting, of one look

# The next budgets that keep somebody waiting, by loose index scan.
LACKING = """
with recursive line as (
  (select scope, of, currency, 1 as n from waybill.budget_waits
    where (scope, of, currency) > ($1, $2, $3)
    order by scope, of, currency limit 1)
  union all
  select k.scope, k.of, k.currency, l.n + 1 from line l cross join lateral (
    select w.scope, w.of, w.currency from waybill.budget_waits w
     where (w.scope, w.of, w.currency) > (l.scope, l.of, l.currency)
     order by w.scope, w.of, w.currency limit 1) k
   where l.n < $4)
select scope, of, currency from line
"""

# Of each budget those whose needs fit into its room, the most urgent first; of a day
# that is over, all.  Who is in line or in work already comes for what is his, and is
# counted until he has opened his call; who waits for money no more is forgotten.
GO_ON = """
with room as (
  select b.scope, b.of, b.currency,
         case when b.scope <> 'day'
                or b.of = to_char(waybill.clock() at time zone 'UTC', 'YYYYMMDD')::int
              then coalesce(b.most, b.declared) - b.spent - b.reserved end as room
    from unnest($1::text[], $2::bigint[], $3::text[]) t(scope, of, currency)
    join waybill.budgets b using (scope, of, currency)),
looked as materialized (
  select n.item_id, r.room is null or (n.needs <= r.room and n.sum <= r.room) as fits
    from room r cross join lateral (
    select f.item_id, f.needs,
           sum(f.needs) filter (where r.room is null or f.needs <= r.room)
             over (order by f.deadline_at, f.item_id) as sum
      from (select w.item_id, w.deadline_at, w.needs from waybill.budget_waits w
             where w.scope = r.scope and w.of = r.of and w.currency = r.currency
             order by w.deadline_at, w.item_id limit $4) f) n),
resting as materialized (
  select w.item_id from waybill.waiting w
   where w.item_id in (select item_id from looked) and w.why = any($5::text[])),
ours as materialized (
  select w.item_id from waybill.waiting w
   where w.item_id in (select l.item_id from looked l join resting using (item_id)
                        where l.fits)
     for update skip locked),
gone as (
  delete from waybill.waiting w using ours o where w.item_id = o.item_id
  returning w.item_id, w.stage, w.tenant_id, w.deadline_at, w.seq, w.attempt,
            w.strikes),
back as (
  insert into waybill.ready (item_id, stage, tenant_id, deadline_at, seq, attempt,
                             strikes)
  select * from gone returning 1),
forgotten as (
  delete from waybill.budget_waits b
   where b.item_id in (select item_id from looked except select item_id from resting)
     and not exists (select from waybill.ready x where x.item_id = b.item_id)
     and not exists (select from waybill.running x where x.item_id = b.item_id))
select count(*) from back
"""

BUDGET = """
select b.*, t.name as tenant,
       (select count(*) from waybill.budget_waits w
          join waybill.waiting x on x.item_id = w.item_id
         where w.scope = b.scope and w.of = b.of and w.currency = b.currency) as waiting
  from waybill.budgets b
  left join waybill.tenants t on b.scope = 'tenant' and t.id = b.of
"""

# Items and batches are as many as there are; only those that say something.
BUDGETS = f"""
with named as (
  (select scope, of from waybill.budgets where most is not null
    order by scope, of limit $1)
  union
  (select scope, of from waybill.budgets where scope = 'tenant'
    order by of limit $1)
  union
  select 'day', to_char(waybill.clock() at time zone 'UTC', 'YYYYMMDD')::int
  union
  select * from unnest($2::text[], $3::bigint[]))
{BUDGET} join named n on n.scope = b.scope and n.of = b.of
 where b.scope <> 'day' or b.of in (
   0, to_char(waybill.clock() at time zone 'UTC', 'YYYYMMDD')::int)
    or exists (select from waybill.budget_waits w
                where w.scope = b.scope and w.of = b.of and w.currency = b.currency)
 order by b.scope, b.of, b.currency limit $1
"""

SET = """
insert into waybill.budgets as b (scope, of, currency, most) values ($1, $2, $3, $4)
on conflict (scope, of, currency) do update set most = excluded.most
"""
# One bound a budget; what a person says of days holds for today.
UNSET_OTHERS = """
update waybill.budgets set most = null
 where scope = $1 and of = $2 and currency <> $3 and most is not null
"""
SET_TODAY = """
update waybill.budgets b set most = d.most from waybill.budgets d
 where b.scope = 'day' and d.scope = 'day' and d.of = 0 and d.currency = b.currency
   and b.of >= to_char(waybill.clock() at time zone 'UTC', 'YYYYMMDD')::int
returning b.of, b.currency
"""
OR_TODAY = """
 or b.of = to_char(waybill.clock() at time zone 'UTC', 'YYYYMMDD')::int"""
# A bound that was taken back leaves nothing: not even its currency.
NO_DAYS = """
delete from waybill.budgets where scope = 'day' and of = 0 and most is null
"""

ROOT = """
with recursive up as (
  select id, parent_id from waybill.items where id = $1
  union all
  select p.id, p.parent_id from waybill.items p join up on p.id = up.parent_id)
select id from up where parent_id is null
"""
OF = {
    "item": ROOT,
    "batch": "select id from waybill.batches where id = $1",
    "tenant": "select id from waybill.tenants where name = $1",
}

# What a family has called, by the id of its outermost item.  `offset 0`: each looks up
# its own calls, however many kin the planner thinks there are.
FAMILY = """
with recursive kin as (
  select {of} as id
  union all
  select i.id from waybill.items i join kin on i.parent_id = kin.id)
select c.currency, count(*) as calls, count(*) filter (where c.code <> '') as failed,
       coalesce(sum(c.cost), 0) as spent,
       coalesce(sum(c.reserved) filter (where c.settled_at is null), 0) as reserved,
       coalesce(sum(c.input_tokens), 0)::bigint as input_tokens,
       coalesce(sum(c.cached_input_tokens), 0)::bigint as cached_input_tokens,
       coalesce(sum(c.output_tokens), 0)::bigint as output_tokens,
       coalesce(sum(c.reasoning_tokens), 0)::bigint as reasoning_tokens
  from kin cross join lateral (
    select * from waybill.calls c where c.item_id = kin.id offset 0) c
 group by c.currency
"""

# A family has a row from when on it is bounded, which begins with what it has called;
# its batch is locked, and so nobody calls meanwhile.
BEGIN_ITEMS = f"""
insert into waybill.budgets (scope, of, currency, spent, reserved, calls, failed,
                             input_tokens, cached_input_tokens, output_tokens,
                             reasoning_tokens)
select 'item', t.of, t.currency, coalesce(f.spent, 0), coalesce(f.reserved, 0),
       coalesce(f.calls, 0), coalesce(f.failed, 0), coalesce(f.input_tokens, 0),
       coalesce(f.cached_input_tokens, 0), coalesce(f.output_tokens, 0),
       coalesce(f.reasoning_tokens, 0)
  from unnest($1::bigint[], $2::text[]) t(of, currency)
  left join lateral ({FAMILY.format(of="t.of")}) f on f.currency = t.currency
on conflict do nothing
returning scope, of, currency, spent, reserved
"""
LOCK_BATCH = """
insert into waybill.budgets as b (scope, of, currency)
select 'batch', batch_id, $2 from waybill.items where id = $1
on conflict (scope, of, currency) do update set spent = b.spent
"""

CALLS_OF = """
select number, stage, step, tries, vendor, model, opened_at, settled_at, code, finish,
       cost, reserved, currency, input_tokens, cached_input_tokens, output_tokens,
       reasoning_tokens, took_s
  from waybill.calls where item_id = $1 order by number desc limit $2
"""

SUMS = """
select currency, sum(calls)::bigint as calls, sum(failed)::bigint as failed,
       sum(spent) as spent, sum(reserved) as reserved,
       sum(input_tokens)::bigint as input_tokens,
       sum(cached_input_tokens)::bigint as cached_input_tokens,
       sum(output_tokens)::bigint as output_tokens,
       sum(reasoning_tokens)::bigint as reasoning_tokens
  from waybill.budgets where {which} and calls > 0 group by currency order by currency
"""
SPENT_BATCH = SUMS.format(which="scope = 'batch' and of = $1")
SPENT = SUMS.format(which="scope = 'tenant'")
SPENT_ITEM = """
select currency, count(*) as calls, count(*) filter (where code <> '') as failed,
       sum(cost) as spent,
       coalesce(sum(reserved) filter (where settled_at is null), 0) as reserved,
       sum(input_tokens)::bigint as input_tokens,
       sum(cached_input_tokens)::bigint as cached_input_tokens,
       sum(output_tokens)::bigint as output_tokens,
       sum(reasoning_tokens)::bigint as reasoning_tokens
  from waybill.calls where item_id = $1 group by currency order by currency
"""


class Rested:
    """Puts in line what rested for want of money; a few budgets at each look."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._after: tuple[str, int, str] = ("", 0, "")

    async def wake(self, limit: int) -> int:
        """Returns how many items go on."""
        found = await self._db.fetch(LACKING, *self._after, RESTED_LOOK)
        keys = [Key(*row) for row in found]
        self._after = keys[-1] if len(keys) == RESTED_LOOK else ("", 0, "")
        return await self.go_on(keys, limit) if keys else 0

    async def go_on(self, keys: Sequence[Key], limit: int) -> int:
        """What rests for these budgets, as far as there is room in them."""
        rows = await self._db.fetch(GO_ON, *columns(keys), limit, list(RESTING))
        return int(rows[0]["count"])


class PostgresBudgets(Topic):
    """What people ask about money."""

    async def budgets(self, *, limit: int = 100) -> list[BudgetRow]:
        """Those that are bounded or keep items waiting; see the port."""
        lacking = await self._db.fetch(LACKING, "", 0, "", limit)
        scopes, numbers = [r["scope"] for r in lacking], [r["of"] for r in lacking]
        rows = await self._db.fetch(BUDGETS, limit, scopes, numbers)
        return [_budget(r) for r in rows]

    async def budget(self, name: str) -> list[BudgetRow]:
        """One budget, a row a currency."""
        return await self._rows(await self._key(name))

    async def set_budget(self, name: str, bound: Money | None) -> list[BudgetRow]:
        """Bound a budget, and let go on who has room now; see the port."""
        scope, of = await self._key(name)
        if scope == "day" and of:
            raise of_one_day(name)

        async def work(con: Connection) -> list[Key]:
            if bound is not None and scope == "item":
                await con.execute(LOCK_BATCH, of, bound.currency)
                await con.execute(BEGIN_ITEMS, [of], [bound.currency])
            if bound is not None:
                await con.execute(SET, scope, of, bound.currency, bound.amount)
            other = bound.currency if bound else ""
            await con.execute(UNSET_OTHERS, scope, of, other)
            if scope != "day":
                return [Key(scope, of, bound.currency)] if bound else []
            days = await con.fetch(SET_TODAY)
            await con.execute(NO_DAYS)
            return [Key("day", r["of"], r["currency"]) for r in days]

        keys = await self._db.tx(work)
        if keys:
            await Rested(self._db).go_on(keys, 1000)
        return await self._rows((scope, of))

    async def calls_of(self, item: ItemId, *, limit: int = 100) -> list[CallRow]:
        """The item's calls, newest first."""
        return [_call(r) for r in await self._db.fetch(CALLS_OF, item, limit)]

    async def spent(
        self, *, item: ItemId | None = None, batch_id: int | None = None
    ) -> list[Spent]:
        """What an item alone, a batch, or everything has called."""
        if item is not None:
            rows = await self._db.fetch(SPENT_ITEM, item)
        elif batch_id is not None:
            rows = await self._db.fetch(SPENT_BATCH, batch_id)
        else:
            rows = await self._db.fetch(SPENT)
        return [spent_row(r) for r in rows]

    async def _rows(self, key: tuple[str, int]) -> list[BudgetRow]:
        which = f"(b.of = $2{OR_TODAY if key == ('day', 0) else ''})"
        sql = f"{BUDGET} where b.scope = $1 and {which} order by b.of, b.currency"
        rows = [_budget(r) for r in await self._db.fetch(sql, *key)]
        if key[0] != "item":
            return rows
        bounded = {row.spent.currency for row in rows}
        sums = await self._db.fetch(FAMILY.format(of="$1::bigint"), key[1])
        name = f"item/{key[1]}"
        rows += [
            BudgetRow(name, None, False, spent_row(r), 0)
            for r in sums
            if r["currency"] not in bounded
        ]
        return sorted(rows, key=lambda row: row.spent.currency)

    async def _key(self, name: str) -> tuple[str, int]:
        """What a budget is kept under: `tenant/acme` by the tenant's number."""
        scope, _, of = name.partition("/")
        if scope == "day":
            return scope, day_of(of, name)
        asked = of if scope == "tenant" else number_in(of)
        if scope in OF and asked is not None:
            found = await self._db.fetchval(OF[scope], asked)
            if found is not None:
                return scope, int(found)
        raise unnamed(name)


def _usage(r: asyncpg.Record) -> Usage:
    return Usage(
        input_tokens=r["input_tokens"],
        cached_input_tokens=r["cached_input_tokens"],
        output_tokens=r["output_tokens"],
        reasoning_tokens=r["reasoning_tokens"],
    )


def spent_row(r: asyncpg.Record) -> Spent:
    """A row of sums."""
    sums = r["calls"], r["failed"], r["spent"], r["reserved"]
    return Spent(r["currency"], *sums, _usage(r))


def _budget(r: asyncpg.Record) -> BudgetRow:
    key = Key(r["scope"], r["of"], r["currency"])
    name = f"tenant/{r['tenant']}" if r["tenant"] is not None else name_of(key)
    bound: Decimal | None = r["declared"] if r["most"] is None else r["most"]
    by_file = r["most"] is None and bound is not None
    return BudgetRow(name, bound, by_file, spent_row(r), r["waiting"])


def _call(r: asyncpg.Record) -> CallRow:
    return CallRow(
        number=r["number"],
        stage=r["stage"],
        step=r["step"],
        tries=r["tries"],
        vendor=r["vendor"],
        model=r["model"],
        opened_at=r["opened_at"],
        settled_at=r["settled_at"],
        code=r["code"],
        finish=r["finish"],
        cost=r["cost"],
        reserved=r["reserved"],
        currency=r["currency"],
        usage=_usage(r),
        took_s=r["took_s"],
    )
