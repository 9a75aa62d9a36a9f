-- Effects on the world outside: written with the outcome of the stage that planned
-- them, and delivered by couriers.
--
-- `due_at` is set while a courier has something to do (send it, or ask whether it was
-- done), `worker_id` while one has it in hand.  From `sending` a restart never leads
-- back by itself, but where the receiver knows the key.

create table waybill.effects (
  id           bigint generated always as identity primary key,
  item_id      bigint not null references waybill.items,
  tenant_id    int not null,
  batch_id     bigint not null,
  stage        text not null,
  name         text not null,
  sink         text not null,
  key          text not null,          -- what the receiver knows it by
  class        text not null check (class in ('a', 'b', 'c')),
  state        text not null check (state in ('awaiting_release', 'planned', 'sending',
                                              'confirmed', 'refused', 'in_doubt')),
  payload      json,                   -- null: in the artifact `payload_ref`
  payload_ref  text,
  artifacts    json not null,          -- name -> artifact
  irreversible boolean not null,
  tries        int not null default 0, -- times it was sent
  worker_id    uuid,
  planned_at   timestamptz not null,
  due_at       timestamptz,
  sent_at      timestamptz,
  ended_at     timestamptz,
  answer       json,
  why          text not null default '',
  released_by  text,
  released_at  timestamptz,
  unique (sink, key),
  check ((payload is null) = (payload_ref is not null)),
  check (state <> 'sending' or worker_id is not null),
  check (state not in ('confirmed', 'refused') or (worker_id is null and due_at is null))
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02,
        autovacuum_vacuum_threshold = 500);
create index effects_due on waybill.effects (sink, due_at, id) where due_at is not null;
create index effects_worker on waybill.effects (worker_id) where worker_id is not null;
create index effects_open on waybill.effects (state, id) where state <> 'confirmed';
create index effects_batch on waybill.effects (batch_id, state, id);
create index effects_item on waybill.effects (item_id, id);
