"""A full house: the rows that a service has on the day of its deadline."""

from __future__ import annotations

# 50,000 ready (of 200 tenants, at two stages), 20,000 waiting, 2,000 running,
# 29,500 done with their checkpoints, 10,000 holds of which 500 are open; 63,000 calls,
# 40,000 effects.  The ready ones are children of 500 of the waiting ones.
FILL = """
insert into waybill.tenants (name) select 'tenant-' || n from generate_series(1, 200) n;
insert into waybill.pipelines (name, version, stages, files)
  values ('p', 'v', '{read,judge}', '{}');
insert into waybill.batches (tenant_id, name, deadline_at)
  select id, 'b', now() + interval '1 day' from waybill.tenants;
insert into waybill.items (tenant_id, batch_id, pipeline_id, pipeline, name, key,
                           deadline_at, input)
  select t.id, b.id, p.id, 'p', 'n' || n, 'k' || n,
         now() + make_interval(secs => 1000 + n % 977), '{}'
    from generate_series(1, 102000) n
    join waybill.tenants t on t.id = 1 + n % 200
    join waybill.batches b on b.tenant_id = t.id
    cross join waybill.pipelines p
   order by n;
insert into waybill.receipts (batch_id, token, name, key, size_bytes, disposal, item_id)
  select batch_id, 't' || id, name, key, 1, 'item', id from waybill.items;
with i as (select *, row_number() over (order by id) as n from waybill.items),
a as (insert into waybill.ready (item_id, stage, tenant_id, deadline_at, seq, strikes)
  select id, case when n % 2 = 0 then 'read' else 'judge' end, tenant_id,
         deadline_at, 0, case when n % 5000 = 0 then 2 else 0 end
    from i where n <= 50000),
b as (insert into waybill.waiting (item_id, stage, tenant_id, deadline_at, seq,
                                   attempt, until, why)
  select id, 'read', tenant_id, deadline_at, 0, 0,
         now() + make_interval(secs => n - 50500),
         'X'
    from i where n > 50000 and n <= 70000 and n % 40 <> 0),
j as (insert into waybill.joining (item_id, stage, tenant_id, deadline_at, seq, attempt)
  select id, 'read', tenant_id, deadline_at, 0, 0
    from i where n > 50000 and n <= 70000 and n % 40 = 0),
h as (insert into waybill.holds (item_id, stage, tenant_id, deadline_at, seq, code,
                                 why, shown, proposal, digest, again, next_stage, open)
  select id, 'read', tenant_id, deadline_at, 0, 'X', '', '{}', '{}', 'd', false,
         'judge', n > 101500
    from i where n > 92000),
c as (insert into waybill.running (item_id, stage, tenant_id, deadline_at, seq,
                                   attempt, strikes, solo, worker_id)
  select id, 'read', tenant_id, deadline_at, 0, 0, 0, false,
         ('00000000-0000-0000-0000-00000000000' || 1 + n % 4)::uuid
    from i where n > 70000 and n <= 72000),
d as (insert into waybill.outcomes (item_id, state, stage, code, why)
  select id, 'done', 'judge', '', '' from i where n > 72000)
insert into waybill.checkpoints (item_id, seq, stage, update, next_stage, took_s)
  select id, s, 'read', '{}', 'judge', 1 from i, generate_series(0, 1) s
   where n > 70000;
update waybill.items i set parent_id = p.id
  from (select item_id as id, row_number() over () as n from waybill.joining) p
 where p.n = 1 + i.id % 500 and i.id <= 50000;
insert into waybill.open_children (child_id, parent_id)
  select id, parent_id from waybill.items where parent_id is not null;
insert into waybill.progress (item_id, stage, done, total)
  select id, 'read', 1, 9 from waybill.items where id > 70000;
insert into waybill.products (item_id, name, artifact, facts, stage)
  select id, 'p', 'a', '{}', 'judge' from waybill.items where id > 72000;
insert into waybill.workers (id, host, pid, born, lease_until)
  select ('00000000-0000-0000-0000-00000000000' || n)::uuid, 'h', n, '',
         now() + interval '1 day' from generate_series(1, 4) n;
insert into waybill.calls (item_id, number, root_id, batch_id, tenant_id, day, stage,
                           step, tries, vendor, worker_id, token, currency, reserved,
                           settled_at, cost)
  select i.id, n, i.id, i.batch_id, i.tenant_id, 20260101, 'read', 's', 1, 'llm',
         ('00000000-0000-0000-0000-00000000000' || 1 + i.id % 4)::uuid,
         gen_random_uuid(), 'USD', 1, case when i.id > 72000 then now() end, 1
    from waybill.items i, generate_series(1, 2) n where i.id > 70500;
insert into waybill.budgets (scope, of, currency, spent)
  select 'batch', id, 'USD', 1 from waybill.batches
  union all select 'item', id, 'USD', 1 from waybill.items where id > 90000;
insert into waybill.budgets (scope, of, currency, most, spent)
  select 'tenant', id, 'USD', 100, 1 from waybill.tenants;
insert into waybill.budget_waits (item_id, scope, of, currency, needs, deadline_at)
  select item_id, 'tenant', 1 + tenant_id % 20, 'USD', 60, deadline_at
    from waybill.waiting where item_id <= 60000;
update waybill.waiting set why = 'BUDGET_USED_UP' where item_id <= 60000;
insert into waybill.effects (item_id, tenant_id, batch_id, stage, name, sink, key,
                             class, payload, artifacts, irreversible, planned_at,
                             state, due_at)
  select id, tenant_id, batch_id, 'judge', 'n', 's' || id % 3, 'k' || id, 'c', '{}',
         '{}', false, now(),
         case when id % 20 = 0 then 'planned' else 'confirmed' end,
         case when id % 20 = 0 then now() + interval '1 day' end
    from waybill.items where id > 62000;
insert into waybill.signals (item_id, name, delivery, payload, author, answered_at)
  select id, 'ocr', 'd' || id, '{}', 'x', now() from waybill.items where id > 62000;
"""
