"""
Effects in the transactions of others: planned with a stage's outcome, and taken out of
the hands of a worker that is gone.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.model import Entry, WorkerId
from pipeline.store.database import Connection

# The same name of the same stage is the same effect.  What surely was not sent, or was
# refused, is replaced when the newer plan says something else; a release is a release
# of what was seen, and ends with it.
PLAN = """
with planned as (
  insert into waybill.effects as e (item_id, tenant_id, batch_id, stage, name, sink,
    key, class, state, payload, payload_ref, artifacts, irreversible, planned_at,
    due_at)
  select t.item_id, i.tenant_id, i.batch_id, t.stage, t.name, t.sink, t.key, t.class,
         case when b.trial is not null then 'not_sent'
              when t.released then 'planned' else 'awaiting_release' end,
         t.payload, t.payload_ref, t.artifacts, not t.released, waybill.clock(),
         case when not t.released or b.trial is not null then null
              when t.gather_s > 0 then to_timestamp(
                ceil(extract(epoch from waybill.clock())::float8 / t.gather_s)
                * t.gather_s)
              else waybill.clock() end
    from unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[],
                $6::text[], $7::json[], $8::text[], $9::json[], $10::boolean[],
                $11::float8[])
         t(item_id, stage, name, sink, key, class, payload, payload_ref, artifacts,
           released, gather_s)
    join waybill.running u on u.item_id = t.item_id and u.worker_id = $12
    join waybill.items i on i.id = t.item_id
    join waybill.batches b on b.id = i.batch_id
   order by t.sink, t.key
  on conflict (sink, key) do update
     set state = excluded.state, due_at = excluded.due_at, class = excluded.class,
         payload = excluded.payload, payload_ref = excluded.payload_ref,
         artifacts = excluded.artifacts, irreversible = excluded.irreversible,
         planned_at = excluded.planned_at, ended_at = null, answer = null, why = '',
         released_by = null, released_at = null, perhaps = false,
         worker_id = null
   where e.state = 'refused'
      or (not e.perhaps and e.state in ('planned', 'awaiting_release', 'not_sent')
          and (e.payload::text, e.payload_ref, e.artifacts::text, e.irreversible)
              is distinct from
              (excluded.payload::text, excluded.payload_ref, excluded.artifacts::text,
               excluded.irreversible))
  returning id, item_id, stage, state)
insert into waybill.audit (item_id, event, stage, actor, code)
select item_id, 'effect_' || state, stage, $12::uuid::text, id::text from planned
"""

RETURN = """
with found as (
  select id, state, class from waybill.effects
   where worker_id = any($1::uuid[]) order by id for update),
back as (
  update waybill.effects e
     set worker_id = null,
         state = case when f.state = 'planned'
                        or (f.state = 'sending' and f.class = 'a') then 'planned'
                      else 'in_doubt' end,
         due_at = case when f.state = 'planned' or f.class <> 'c'
                       then waybill.clock() end,
         perhaps = e.perhaps or (f.state = 'sending' and f.class = 'a'),
         why = case when f.state = 'sending'
                    then 'WORKER_DIED: nobody heard what became of it' else e.why end
    from found f where e.id = f.id
  returning e.id, e.item_id, e.stage, e.state, f.state as was)
insert into waybill.audit (item_id, event, stage, actor, code)
select item_id, 'effect_' || state, stage, 'reaper', id::text from back
 where was <> 'planned'
"""


async def write_effects(
    con: Connection, worker: WorkerId, entries: Sequence[Entry]
) -> None:
    """What the entries' stages planned; of items that are not the worker's, nothing."""
    planned = {(p.sink, p.key): (e.item_id, *p) for e in entries for p in e.effects}
    if planned:
        columns = map(list, zip(*planned.values(), strict=True))
        await con.execute(PLAN, *columns, worker)


async def return_effects(con: Connection, workers: Sequence[WorkerId]) -> None:
    """What these workers had in hand when they ended."""
    await con.execute(RETURN, list(workers))
