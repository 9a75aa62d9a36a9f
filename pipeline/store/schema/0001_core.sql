-- Items, leases and checkpoints.
--
-- A table per state.  `items` holds immutable facts; `ready`, `running`,
-- `waiting` and `holds` are narrow and hot; `outcomes`, `checkpoints`,
-- `attempts`, `receipts` and `audit` only grow.  A move is delete + insert in
-- one statement, so an item stands in exactly one of ready, running, waiting,
-- holds (open) and outcomes.
--
-- Who owns what is decided by this database's clock alone.

create schema if not exists waybill;
set local search_path = waybill;

-- The one clock of ownership and due times.  Tests replace its body.
create function clock() returns timestamptz
  language sql stable parallel safe as 'select statement_timestamp()';

create table tenants (
  id         int generated always as identity primary key,
  name       text not null unique check (name <> ''),
  weight     double precision not null default 1 check (weight > 0),
  created_at timestamptz not null default now()
);

create table pipelines (
  id         int generated always as identity primary key,
  name       text not null,
  version    text not null,           -- digest of the folder's files
  stages     text[] not null check (cardinality(stages) > 0),
  files      jsonb not null,          -- relative path -> artifact
  created_at timestamptz not null default now(),
  unique (name, version)
);

create table batches (
  id          bigint generated always as identity primary key,
  tenant_id   int not null references tenants,
  name        text not null check (name <> ''),
  deadline_at timestamptz not null,
  created_at  timestamptz not null default now(),
  unique (tenant_id, name)
);

create table items (
  id          bigint generated always as identity primary key,
  tenant_id   int not null,
  batch_id    bigint not null references batches,
  pipeline_id int not null references pipelines,
  pipeline    text not null,          -- its name, for the key below
  name        text not null,
  key         text not null,          -- sha256 of the raw bytes
  deadline_at timestamptz not null,
  input       jsonb not null,
  created_at  timestamptz not null default now()
);
create unique index items_once on items (tenant_id, pipeline, key);
create index items_batch on items (batch_id);

-- One row a file at the door, written with the item it became.  `token` makes
-- the same delivery, offered again after a crash, the same receipt.
create table receipts (
  id         bigint generated always as identity primary key,
  batch_id   bigint not null references batches,
  token      text not null unique,
  name       text not null,
  key        text not null,
  size_bytes bigint not null,
  disposal   text not null check (disposal in ('item', 'duplicate', 'quarantined')),
  item_id    bigint references items,
  code       text not null default '',
  why        text not null default '',
  kept_at    text not null default '',
  at         timestamptz not null default now(),
  check ((disposal = 'quarantined') = (item_id is null))
);
create index receipts_batch on receipts (batch_id);

create table ready (
  item_id     bigint primary key,
  stage       text not null,
  tenant_id   int not null,
  deadline_at timestamptz not null,
  seq         int not null,           -- number of the next checkpoint
  attempt     smallint not null default 0,
  strikes     smallint not null default 0,  -- workers that died holding it
  since       timestamptz not null default now()
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02,
        autovacuum_vacuum_threshold = 500);
-- Exactly the order of a claim; an item that killed two workers is not in it.
create index ready_line on ready (stage, tenant_id, deadline_at, item_id)
  where strikes < 2;
create index ready_suspects on ready (stage, since) where strikes >= 2;

create table workers (
  id          uuid primary key,       -- fresh at every start, never reused
  host        text not null,          -- host, boot and pid namespace
  pid         int not null,
  born        text not null,          -- the process's start, against reused pids
  lease_until timestamptz not null,
  started_at  timestamptz not null default now()
) with (fillfactor = 50);

create table running (
  item_id     bigint primary key,
  stage       text not null,
  tenant_id   int not null,
  deadline_at timestamptz not null,
  seq         int not null,
  attempt     smallint not null,
  strikes     smallint not null,
  solo        boolean not null,
  worker_id   uuid not null,
  claimed_at  timestamptz not null default now()
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02,
        autovacuum_vacuum_threshold = 500);
create index running_worker on running (worker_id);

create table waiting (
  item_id     bigint primary key,
  stage       text not null,
  tenant_id   int not null,
  deadline_at timestamptz not null,
  seq         int not null,
  attempt     smallint not null,
  strikes     smallint not null default 0,
  until       timestamptz not null,
  why         text not null,
  since       timestamptz not null default now()
) with (fillfactor = 70);
create index waiting_until on waiting (until);

-- A hold is open until a decision stands beside it; then the row stays as
-- history.  At most one open hold an item.
create table holds (
  id            bigint generated always as identity primary key,
  item_id       bigint not null references items,
  stage         text not null,
  tenant_id     int not null,
  deadline_at   timestamptz not null,
  seq           int not null,
  code          text not null,
  why           text not null,
  shown         jsonb not null,       -- what the reviewer sees
  proposal      jsonb not null,       -- what the state receives on approval
  digest        text not null,        -- sha256 of both: what a decision binds to
  needs         text[] not null default '{}',
  again         boolean not null,     -- the stage runs again after the decision
  next_stage    text not null,        -- '' when the stage was the last
  claimed_by    text,
  claimed_until timestamptz,
  open          boolean not null default true,
  held_at       timestamptz not null default now()
);
create unique index holds_open on holds (item_id) where open;
create index holds_line on holds (deadline_at) where open;
create index holds_item on holds (item_id, id);

create table decisions (
  hold_id    bigint primary key references holds,  -- two reviewers, one decision
  verb       text not null check (verb in ('approve', 'reject', 'edit')),
  author     text not null check (author <> ''),
  reason     text not null,
  digest     text not null,
  decided_at timestamptz not null default now(),
  check (verb <> 'reject' or reason <> '')
);

create table outcomes (
  item_id bigint primary key,
  state   text not null check (state in ('done', 'rejected', 'failed', 'cancelled')),
  stage   text not null,
  code    text not null,
  why     text not null,
  at      timestamptz not null default now()
);
create index outcomes_unfinished on outcomes (item_id) where state <> 'done';

create table checkpoints (
  item_id    bigint not null,
  seq        int not null,
  stage      text not null,
  step       text,                    -- null: the stage itself
  update     jsonb,                   -- null: in the artifact `ref`
  ref        text,
  next_stage text,                    -- null: a step; '': the last stage
  took_s     real not null,
  worker_id  uuid,                    -- null: a person's decision
  at         timestamptz not null default now(),
  primary key (item_id, seq)
);

create table attempts (
  id      bigint generated always as identity primary key,
  item_id bigint not null,
  stage   text not null,
  attempt smallint not null,
  code    text not null,
  message text not null,
  charged boolean not null,
  worker_id uuid,
  at      timestamptz not null default now()
);
create index attempts_item on attempts (item_id);

-- A running item that somebody cancelled; its worker lets go at its next renewal.
create table cancels (
  item_id bigint primary key,
  author  text not null,
  at      timestamptz not null default now()
);

-- Every move that is not a stage's own advance (that record is its checkpoint).
create table audit (
  id      bigint generated always as identity primary key,
  item_id bigint not null,
  event   text not null,
  stage   text not null,
  actor   text not null,
  code    text not null default '',
  at      timestamptz not null default now()
);
create index audit_item on audit (item_id);
