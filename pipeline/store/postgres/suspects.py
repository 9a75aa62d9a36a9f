"""
Suspects in PostgreSQL: where they wait, who of them is next, and who becomes one for
the company that it keeps.
"""

from __future__ import annotations

from pipeline.store.database import Connection
from pipeline.store.strikes import ALIKE, ALIKE_MAX, ALONE, SUSPECT

# Of each stage who waits longest, by loose index scan.
WAITING = f"""
with recursive line as (
  (select stage, since from waybill.ready where strikes >= {SUSPECT}
    order by stage, since limit 1)
  union all
  select n.stage, n.since from line l cross join lateral (
    select stage, since from waybill.ready
     where strikes >= {SUSPECT} and stage > l.stage
     order by stage, since limit 1) n)
select stage, extract(epoch from waybill.clock() - since)::float8 as age_s
  from line order by 2 desc
"""

# The tenants that have some take turns, in an order drawn anew each time: who claims
# them may have died for the last, and remembers nothing.  Beside the first, unless it
# must run alone, others that need not.
TENANTS_MAX = 1000
NEXT = f"""
with recursive alive as materialized (
  select 1 from waybill.workers
    where id = $2 and lease_until > waybill.clock() for key share),
tenants as (
  (select tenant_id, 1 as n from waybill.ready
    where stage = $1 and strikes >= {SUSPECT} and exists (select from alive)
    order by tenant_id limit 1)
  union all
  select (select r.tenant_id from waybill.ready r
           where r.stage = $1 and r.strikes >= {SUSPECT}
             and r.tenant_id > t.tenant_id
           order by r.tenant_id limit 1), t.n + 1
    from tenants t where t.tenant_id is not null and t.n < {TENANTS_MAX}),
turns as materialized (
  select tenant_id, row_number() over (order by random()) as place
    from tenants where tenant_id is not null),
near as (
  select h.item_id, h.strikes, h.turn, t.place
    from turns t cross join lateral (
    select item_id, strikes, row_number() over (order by since, item_id) as turn
      from (select item_id, strikes, since from waybill.ready
             where stage = $1 and tenant_id = t.tenant_id and strikes >= {SUSPECT}
             order by since, item_id limit $3) r) h
   where t.place <= $3),
standing as (
  select item_id, strikes, row_number() over line as n,
         first_value(strikes) over line as first
    from near window line as (order by turn, place)),
pick as materialized (
  select item_id from standing
   where n = 1 or (first < {ALONE} and strikes < {ALONE}) order by n limit $3),
locked as materialized (
  select r.item_id from waybill.ready r where r.item_id in (select item_id from pick)
     for update skip locked),
"""

WITH_IT = f"""
with it as (
  select r.stage, r.tenant_id, i.pipeline_id
    from waybill.ready r join waybill.items i on i.id = r.item_id where r.item_id = $1),
killers as (
  select 1 from it
    join waybill.ready r on r.stage = it.stage and r.tenant_id = it.tenant_id
     and r.strikes >= {SUSPECT}
    join waybill.items i on i.id = r.item_id and i.pipeline_id = it.pipeline_id
   where r.strikes >= {ALONE} limit {ALIKE})
update waybill.ready set strikes = {SUSPECT}
 where (select count(*) from killers) = {ALIKE} and item_id in (
   select r.item_id from it
     join waybill.ready r on r.stage = it.stage and r.tenant_id = it.tenant_id
      and r.strikes < {SUSPECT}
     join waybill.items i on i.id = r.item_id and i.pipeline_id = it.pipeline_id
    limit {ALIKE_MAX} for update of r skip locked)
"""


async def suspect_those_with_it(con: Connection, item: int) -> None:
    """Who is like an item that killed its worker, where several did so."""
    await con.execute(WITH_IT, item)
