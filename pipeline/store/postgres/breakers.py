"""
Breakers of vendors in PostgreSQL, and how many failed calls may be repeated.

A process tells what it saw, and learns what others did, about once a second and in
one transaction; nothing is asked for a call.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from pipeline.model import WorkerId
from pipeline.store.database import Connection, Topic
from pipeline.store.outside import (
    CALM_S,
    REPEATS_FLOOR,
    REPEATS_FLOOR_PER_S,
    REPEATS_MAX,
    BreakerNews,
    BreakerRow,
    Learnt,
)

# The probe of a worker that is gone has no end to wait for.
LEFT_S = """
case when b.state = 'closed' or b.state = 'half-open' and not exists (
       select from waybill.workers w where w.id = b.prober) then 0
     else greatest(0, extract(epoch from b.until - waybill.clock()))::float8 end
"""
# What time has added to the floor.
REPEATS = f"""
b.repeats + least(
  greatest(0, {REPEATS_FLOOR} - b.repeats),
  {REPEATS_FLOOR_PER_S}
    * greatest(0, extract(epoch from waybill.clock() - b.repeats_at)::float8))
"""
ROW = f"""
b.vendor, b.state, b.turn, b.failures, b.opened_at,
case when b.state <> 'closed' then b.until end as until, {LEFT_S} as left_s,
case when b.state = 'closed' then
  extract(epoch from waybill.clock() - b.closed_at)::float8 end as closed_for_s,
{REPEATS} as repeats
"""
ALL = f"select {ROW} from waybill.breakers b order by b.vendor"

NEW = f"""
insert into waybill.breakers (vendor, repeats, repeats_at)
select vendor, {REPEATS_FLOOR}, waybill.clock() from unnest($1::text[]) t(vendor)
 order by vendor
on conflict do nothing
"""
# Locked in one order, and as they are by then.
TELL = f"""
with was as (
  select b.vendor, b.opened, b.closed_at, b.state, {REPEATS} as repeats,
         t.failures, t.open_s, t.max_s, t.earned, t.wanted,
         case when b.turn = t.turn then t.move else '' end as move
    from waybill.breakers b
    join unnest($1::text[], $2::int[], $3::text[], $4::int[], $5::float8[],
                $6::float8[], $7::float8[], $8::int[])
         t(vendor, turn, move, failures, open_s, max_s, earned, wanted) using (vendor)
   order by b.vendor for update of b),
told as (
  select *, least({REPEATS_MAX}, repeats + earned) as have,
         case when state = 'closed' and (closed_at is null
                or closed_at < waybill.clock() - make_interval(secs => {CALM_S}))
              then 0 else opened end as before
    from was),
granted as (
  select *, least(wanted, floor(have))::int as n from told),
moved as (
  update waybill.breakers b
     set repeats = g.have - g.n, repeats_at = waybill.clock(),
         turn = b.turn + (g.move <> '')::int,
         state = case g.move when '' then b.state when 'close' then 'closed'
                 else 'open' end,
         prober = case g.move when '' then b.prober end,
         failures = case g.move when 'open' then g.failures else b.failures end,
         opened = case g.move when 'open' then g.before + 1 else b.opened end,
         opened_at = case when g.move = 'open' and b.state = 'closed'
                     then waybill.clock() else b.opened_at end,
         closed_at = case g.move when 'close' then waybill.clock()
                     else b.closed_at end,
         until = case g.move
           when 'open' then waybill.clock() + make_interval(secs =>
             least(g.max_s, g.open_s * power(2, least(g.before, 30))))
           when 'free' then waybill.clock() else b.until end
    from granted g where g.vendor = b.vendor)
select vendor, n from granted where n > 0
"""

PROBE = f"""
update waybill.breakers b
   set state = 'half-open', turn = b.turn + 1, prober = $1,
       until = waybill.clock() + make_interval(secs => $3)
 where b.vendor = $2 and b.state <> 'closed' and {LEFT_S} = 0
returning {ROW}
"""


class PostgresBreakers(Topic):
    """Rows of `breakers`."""

    async def breakers(self) -> list[BreakerRow]:
        """Every vendor's breaker, by name."""
        return [_row(r) for r in await self._db.fetch(ALL)]

    async def tell_breakers(self, news: Sequence[BreakerNews]) -> Learnt:
        """Write what was seen, read what others have told."""
        if not news:
            return Learnt(await self.breakers(), {})
        columns = list(zip(*sorted(news), strict=True))

        async def work(con: Connection) -> Learnt:
            await con.execute(NEW, columns[0])
            granted = await con.fetch(TELL, *columns)
            rows = [_row(r) for r in await con.fetch(ALL)]
            return Learnt(rows, {r["vendor"]: r["n"] for r in granted})

        return await self._db.tx(work)

    async def probe(
        self, worker: WorkerId, vendor: str, *, for_s: float
    ) -> BreakerRow | None:
        """Take the one probe there is; None when there is none to take."""
        rows = await self._db.fetch(PROBE, worker, vendor, for_s)
        return _row(rows[0]) if rows else None


def _row(row: asyncpg.Record) -> BreakerRow:
    return BreakerRow(*row.values())
