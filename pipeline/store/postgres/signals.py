"""
Signals in PostgreSQL: what items ask the world outside for, and the first answer.

Who asks and who answers write the same row, and look at each other's in a statement
of their own after that: whoever comes second has waited for the first.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import asyncpg

from pipeline.model import Entry, ItemId, ToWaiting, WorkerId
from pipeline.signals import Ask
from pipeline.store.database import Connection, Topic
from pipeline.store.signals import (
    REFUSALS,
    REFUSALS_MAX,
    SIGNALS_MAX,
    Delivery,
    SignalRow,
    Taken,
)

# Long after the deadline, which may be moved: what has ended takes no answer anyway.
AFTER_DEADLINE = "30 days"

SIGNALS = """
select name, stage, asked_at,
       coalesce(extract(epoch from waybill.clock() - asked_at), 0)::float8 as asked_s,
       until, extract(epoch from poll_at - waybill.clock())::float8 as poll_s,
       schema, lapsed, delivery, payload, ref, author, answered_at
  from waybill.signals where item_id = $1 and ($2 = '' or name = $2) order by name
"""

# An answer that did not fit is forgotten: the next one is the first.
VOID = """
with gone as (
  update waybill.signals s
     set delivery = null, payload = null, ref = null, author = '', answered_at = null
    from unnest($1::bigint[], $2::text[], $3::text[]) t(item_id, name, void)
    join waybill.running u on u.item_id = t.item_id and u.worker_id = $4
   where s.item_id = t.item_id and s.name = t.name and s.delivery = t.void
  returning s.item_id, s.name, u.stage)
insert into waybill.audit (item_id, event, stage, actor, code)
select item_id, 'refused', stage, $4::uuid::text, 'SIGNAL_SCHEMA ' || name from gone
"""

# Its time runs from a stage's first ask.  Sorted: all lock these rows in one order.
ASK = """
insert into waybill.signals as s (item_id, name, stage, asked_at, until, poll_at,
                                  schema)
select t.item_id, t.name, t.stage, c.now, c.now + make_interval(secs => t.within_s),
       c.now + make_interval(secs => t.poll_s), t.schema
  from unnest($1::bigint[], $2::text[], $3::text[], $4::float8[], $5::float8[],
              $6::jsonb[]) t(item_id, name, stage, within_s, poll_s, schema)
 cross join (select waybill.clock() as now) c
  join waybill.running u on u.item_id = t.item_id and u.worker_id = $7
 order by t.item_id, t.name
on conflict (item_id, name) do update
   set stage = excluded.stage, schema = excluded.schema, poll_at = excluded.poll_at,
       asked_at = case when s.stage = excluded.stage then s.asked_at
                       else excluded.asked_at end,
       until = case when s.stage = excluded.stage
                    then s.asked_at + (excluded.until - excluded.asked_at)
                    else excluded.until end,
       lapsed = s.lapsed and s.stage = excluded.stage
returning s.item_id, s.delivery is not null as answered
"""

ITEM = """
select o.state,
       m.name is not null as known, m.delivery,
       (select count(*) from waybill.signals s
         where s.item_id = i.id and s.stage = '') as unasked,
       coalesce(waybill.clock() > to_timestamp($3::float8), false) as expired
  from waybill.items i
  join waybill.tenants t on t.id = i.tenant_id
  left join waybill.outcomes o on o.item_id = i.id
  left join waybill.signals m on m.item_id = i.id and m.name = $2
 where i.id = $1 and ($4 = '' or t.name = $4)
"""

ANSWER = """
insert into waybill.signals as s (item_id, name, delivery, payload, ref, author,
                                  answered_at)
values ($1, $2, $3, $4::jsonb, $5, $6, waybill.clock())
on conflict (item_id, name) do update
   set delivery = excluded.delivery, payload = excluded.payload, ref = excluded.ref,
       author = excluded.author, answered_at = excluded.answered_at
 where s.delivery is null
   and (s.stage = '' or s.lapsed or s.schema is null or s.schema = $7::jsonb)
returning s.stage
"""

DELIVERED = "select delivery from waybill.signals where item_id = $1 and name = $2"

WOKEN = """
with gone as (
  delete from waybill.waiting where item_id = $1 and $2 = any(listens)
  returning item_id, stage, tenant_id, deadline_at, seq, attempt, strikes)
insert into waybill.ready (item_id, stage, tenant_id, deadline_at, seq, attempt,
                           strikes)
select * from gone returning stage
"""

NOTED = """
insert into waybill.audit (item_id, event, stage, actor, code)
values ($1, $2, $3, $4, $5)
"""

# Whoever sends what nobody takes does not fill the table.
REFUSED = """
insert into waybill.audit (item_id, event, stage, actor, code)
select i.id, 'refused', '', $2, $3
  from waybill.items i join waybill.tenants t on t.id = i.tenant_id
 where i.id = $1 and ($5 = '' or t.name = $5)
   and (select count(*) from waybill.audit a
         where a.item_id = i.id and a.event = 'refused') < $4
"""

LAPSE = """
update waybill.signals set lapsed = true
 where item_id = $1 and name = $2 and stage = $3 and delivery is null
   and asked_at + make_interval(secs => $4) <= waybill.clock()
returning true
"""

UNTIL = f"""
select ceil(extract(epoch from coalesce(waybill.clock() + make_interval(secs => $2),
         deadline_at + interval '{AFTER_DEADLINE}')))::bigint
  from waybill.items where id = $1
"""


class PostgresSignals(Topic):
    """Answers from outside; see the port."""

    async def signals(self, item: ItemId, name: str = "") -> list[SignalRow]:
        """What an item asks for, and what was answered."""
        return [_row(r) for r in await self._db.fetch(SIGNALS, item, name)]

    async def answer(
        self, item: ItemId, name: str, answer: Delivery, *, tenant: str = ""
    ) -> Taken:
        """Take the first answer; see the port."""

        async def work(con: Connection) -> Taken:
            rows = await con.fetch(ITEM, item, name, answer.until, tenant)
            if not rows:
                return Taken.UNKNOWN
            what = await _answer(con, item, name, answer, rows[0])
            if what in REFUSALS:
                await _refused(con, item, name, REFUSALS[what], answer.author)
            return what

        return await self._db.tx(work)

    async def note_refused(
        self, item: ItemId, name: str, code: str, author: str, *, tenant: str = ""
    ) -> None:
        """Note what was not taken."""
        said = f"{code} {name}"
        await self._db.fetch(REFUSED, item, author, said, REFUSALS_MAX, tenant)

    async def lapse(self, item: ItemId, name: str, stage: str, within_s: float) -> bool:
        """Have a stage go on without an answer."""
        return bool(await self._db.fetchval(LAPSE, item, name, stage, within_s))

    async def callback_until(self, item: ItemId, within_s: float | None) -> int:
        """When a callback is taken no more."""
        return int(await self._db.fetchval(UNTIL, item, within_s))


async def write_asks(
    con: Connection, worker: WorkerId, entries: Sequence[Entry]
) -> set[ItemId]:
    """What parked items ask for; those that have an answer already."""
    asks: list[tuple[ItemId, str, Ask]] = [
        (e.item_id, e.move.stage, ask)
        for e in entries
        if isinstance(e.move, ToWaiting)
        for ask in e.move.asks
    ]
    if not asks:
        return set()
    void = [(item, ask.name, ask.void) for item, _, ask in asks if ask.void]
    if void:
        await con.execute(VOID, *map(list, zip(*sorted(void), strict=True)), worker)
    rows = await con.fetch(
        ASK,
        [item for item, _, _ in asks],
        [ask.name for _, _, ask in asks],
        [stage for _, stage, _ in asks],
        [ask.within_s for _, _, ask in asks],
        [ask.poll_s for _, _, ask in asks],
        [ask.schema for _, _, ask in asks],
        worker,
    )
    return {r["item_id"] for r in rows if r["answered"]}


async def _answer(
    con: Connection, item: ItemId, name: str, answer: Delivery, now: asyncpg.Record
) -> Taken:
    if now["delivery"] == answer.id:
        return Taken.AGAIN
    if now["delivery"] is not None:
        return Taken.ANSWERED
    if now["state"] is not None:
        return Taken.LATE
    if now["expired"]:
        return Taken.EXPIRED
    if not now["known"] and now["unasked"] >= SIGNALS_MAX:
        return Taken.FULL
    facts = (answer.id, answer.payload, answer.ref, answer.author)
    seen = None if answer.schema is None else json.dumps(answer.schema)
    if not await con.fetch(ANSWER, item, name, *facts, seen):
        # Somebody was as quick, and has committed.
        first = await con.fetchval(DELIVERED, item, name)
        if first is None:
            return Taken.UNSEEN
        return Taken.AGAIN if first == answer.id else Taken.ANSWERED
    stage = await con.fetchval(WOKEN, item, name)
    await con.execute(NOTED, item, "signalled", stage or "", answer.author, name)
    return Taken.KEPT if stage is None else Taken.NOW


async def _refused(
    con: Connection, item: ItemId, name: str, code: str, author: str
) -> None:
    await con.execute(REFUSED, item, author, f"{code} {name}", REFUSALS_MAX, "")


def _row(r: asyncpg.Record) -> SignalRow:
    schema = r["schema"]
    return SignalRow(**{**r, "schema": None if schema is None else json.loads(schema)})
