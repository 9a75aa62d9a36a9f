-- What calls of vendors cost: each is written down before it is made, and what it can
-- cost is taken from the budgets that must pay for it.

set local search_path = waybill;

-- One row a call, by its number among its item's.  Open until `settled_at`; only then
-- do `cost` and the rest mean something.  With it what its cost is counted in: the
-- item its family began with, its batch, tenant and day.
create table calls (
  item_id       bigint not null,
  number        int not null,
  root_id       bigint not null,
  batch_id      bigint not null,
  tenant_id     int not null,
  day           int not null,           -- 20261231, UTC
  stage         text not null,
  step          text not null,
  tries         smallint not null,      -- which try of its chain, from 1
  vendor        text not null,
  worker_id     uuid not null,
  token         uuid not null,          -- the same opening, sent again
  currency      text not null,
  reserved      numeric not null check (reserved >= 0),
  opened_at     timestamptz not null default clock(),
  settled_at    timestamptz,
  code          text not null default '',
  cost          numeric not null default 0 check (cost >= 0),
  input_tokens        bigint not null default 0,  -- these four are disjoint
  cached_input_tokens bigint not null default 0,
  output_tokens       bigint not null default 0,
  reasoning_tokens    bigint not null default 0,
  model         text not null default '',
  finish        text not null default '',
  took_s        real not null default 0,
  primary key (item_id, number)
) with (fillfactor = 80);
create index calls_open on calls (worker_id, item_id) where settled_at is null;

-- One row for everything that calls are counted in:
--   item    an item with all that was found in it, by the id of the outermost; from
--           when on it is bounded: what others have called their calls tell
--   batch, tenant   by their ids
--   day     20261231, UTC; 0 holds what people bound every day to
-- `most` is what a person said, `declared` what files say; the first goes before.
-- spent + reserved never passes the bound by an opening.
create table budgets (
  scope         text not null check (scope in ('item', 'batch', 'tenant', 'day')),
  of            bigint not null,
  currency      text not null check (currency ~ '^[A-Z]{3}$'),
  most          numeric check (most >= 0),
  declared      numeric check (declared >= 0),
  spent         numeric not null default 0,
  reserved      numeric not null default 0,
  calls         bigint not null default 0,
  failed        bigint not null default 0,
  input_tokens        bigint not null default 0,
  cached_input_tokens bigint not null default 0,
  output_tokens       bigint not null default 0,
  reasoning_tokens    bigint not null default 0,
  primary key (scope, of, currency)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02,
        autovacuum_vacuum_threshold = 500);

-- Items that were refused a call for want of money, and the budget that lacked it.
-- They rest in `waiting`; whoever wakes timers puts them in line when there is room.
create table budget_waits (
  item_id     bigint primary key,
  scope       text not null,
  of          bigint not null,
  currency    text not null,
  needs       numeric not null,
  deadline_at timestamptz not null
) with (fillfactor = 70);
create index budget_waits_line
  on budget_waits (scope, of, currency, deadline_at, item_id);
-- Those that people bound, among as many as there are items.
create index budgets_bound on budgets (scope, of) where most is not null;
