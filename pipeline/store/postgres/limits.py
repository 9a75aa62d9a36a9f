"""
Limits of the fleet in PostgreSQL.

An exchange of a worker is one call of a function (schema/0010_limits.sql): the rows are
locked while it runs, and no longer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from pipeline.errors import LeaseLost
from pipeline.model import ItemId, WorkerId
from pipeline.store.database import Topic
from pipeline.store.limits import (
    FRESH_S,
    LimitAsk,
    LimitLease,
    LimitNews,
    LimitRow,
    LimitSet,
    LineAsk,
)

ALL = f"""
select l.key, coalesce(l.set_rate, l.rate) as rate,
       coalesce(l.set_per_s, l.per_s) as per_s,
       coalesce(l.set_concurrency, l.concurrency) as concurrency,
       l.rate as declared_rate, l.per_s as declared_per_s,
       l.concurrency as declared_concurrency,
       l.set_rate is not null or l.set_concurrency is not null as set_by_owner,
       -- What of the window before is still in the last `per_s`, about.
       u.now + u.before * greatest(0, 1 - u.age_s / coalesce(l.set_per_s, l.per_s))
         as used,
       o.booked::int as under_way, o.waiting::int, o.oldest_at,
       case when o.waiting = 0 then 0
            when l.paused_until = 'infinity' then null
            when coalesce(l.set_every_s, l.every_s) > 0 then greatest(
              l.tat - extract(epoch from waybill.clock())::float8,
              coalesce(extract(epoch from l.paused_until - waybill.clock()), 0)::float8,
              0) + o.units * coalesce(l.set_every_s, l.every_s) end as clears_s,
       case when l.paused_until > waybill.clock() then l.paused_until end
         as paused_until,
       case when l.paused_until > waybill.clock() then l.paused_by else '' end
         as paused_by
  from waybill.limits l
 cross join lateral (
  select coalesce(sum(x.booked), 0) as booked, coalesce(sum(x.waiting), 0) as waiting,
         coalesce(sum(x.waiting_units), 0) as units, min(x.oldest_at) as oldest_at
    from waybill.limit_leases x
   where x.key = l.key
     and x.at > waybill.clock() - make_interval(secs => {FRESH_S})) o
 cross join lateral (
  select case when age_s < per_s then l.used else 0 end as now,
         case when age_s < per_s then l.used_before
              when age_s < 2 * per_s then l.used else 0 end as before,
         case when age_s < per_s then age_s else age_s - per_s end as age_s
    from (select coalesce(l.set_per_s, l.per_s) as per_s,
                 extract(epoch from waybill.clock())::float8
                   - extract(epoch from l.used_since)::float8 as age_s) a) u
 order by l.key
"""
JOINED = """
select (extract(epoch from started_at) * 1000000)::bigint
  from waybill.workers where id = $1
"""
# Whoever was sent away looks anew: what kept it may be over.
LOOK_AGAIN = """
with back as (
  update waybill.waiting set until = waybill.clock()
   where why = 'LIMIT_WAIT' and until > waybill.clock())
"""
CALL_BACK = """
update waybill.waiting set until = waybill.clock()
 where item_id in (
   select item_id from waybill.waiting
    where item_id = any($1::bigint[]) and why = 'LIMIT_WAIT' and until > waybill.clock()
    order by item_id for update skip locked)
"""
SET = f"""
{LOOK_AGAIN}
insert into waybill.limits as l (key, rank, per_s, burst, every_s, set_rate, set_per_s,
  set_every_s, set_concurrency)
values ($1, -1, 1, 1, 0, $2, $3, $4, $5)
on conflict (key) do update
  set (set_rate, set_per_s, set_every_s) = (
        select excluded.set_rate, excluded.set_per_s, excluded.set_every_s
         where excluded.set_rate is not null or excluded.set_concurrency is null
         union all
        select l.set_rate, l.set_per_s, l.set_every_s
         where excluded.set_rate is null and excluded.set_concurrency is not null),
      set_concurrency = case when excluded.set_rate is null
        then excluded.set_concurrency
        else coalesce(excluded.set_concurrency, l.set_concurrency) end
"""
PAUSE = """
insert into waybill.limits as l (key, rank, per_s, burst, every_s, paused_until,
  paused_by)
values ($1, -1, 1, 1, 0,
  case when $2::float8 is null then 'infinity'
       else waybill.clock() + make_interval(secs => $2) end, 'owner')
on conflict (key) do update
  set paused_until = excluded.paused_until, paused_by = excluded.paused_by
"""
RESUME = f"""
{LOOK_AGAIN}
update waybill.limits set paused_until = null, paused_by = ''
 where key = $1 and paused_until > waybill.clock() returning 1
"""


class PostgresLimits(Topic):
    """Rows of `limits`, and of `limit_leases`."""

    _worker: WorkerId | None = None  # of which this is known
    _joined_us = 0

    async def lease_limits(
        self,
        worker: WorkerId,
        asks: Sequence[LimitAsk],
        lines: Sequence[LineAsk],
        *,
        lead_s: float,
        horizon_s: float,
    ) -> LimitLease:
        """Tell of limits, and take permits of them."""
        if any(ask.rank is None for ask in asks):
            joined = await self._joined(worker)
            asks = [a if a.rank is not None else a._replace(rank=joined) for a in asks]
        answer = await self._db.fetchval(
            "select waybill.lease_limits($1, $2, $3, $4, $5)",
            worker,
            json.dumps([ask._asdict() for ask in asks]),
            json.dumps([line._asdict() for line in lines]),
            lead_s,
            horizon_s,
        )
        if answer is None:
            raise LeaseLost("this worker's lease ran out")
        found = json.loads(answer)
        news = [LimitNews(**one) for one in found["limits"]]
        return LimitLease(found["now"], news, found["starts"])

    async def _joined(self, worker: WorkerId) -> int:
        """When, by the clock of the database: a worker's own may be days ahead."""
        if self._worker != worker:
            us = await self._db.fetchval(JOINED, worker)
            if us is None:
                raise LeaseLost("this worker's lease ran out")
            self._worker, self._joined_us = worker, us
        return self._joined_us

    async def call_back(self, items: Sequence[ItemId]) -> None:
        """They look again now."""
        await self._db.fetch(CALL_BACK, list(items))

    async def limits(self) -> list[LimitRow]:
        """Every limit, by key."""
        return [LimitRow(*r.values()) for r in await self._db.fetch(ALL)]

    async def set_limit(self, key: str, numbers: LimitSet) -> None:
        """The owner's own numbers, from now on."""
        await self._db.fetch(SET, key, *numbers)

    async def pause_limit(self, key: str, for_s: float | None) -> None:
        """Nobody begins meanwhile."""
        await self._db.fetch(PAUSE, key, for_s)

    async def resume_limit(self, key: str) -> bool:
        """End a pause."""
        return bool(await self._db.fetch(RESUME, key))
