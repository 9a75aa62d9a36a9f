-- What comes back later: an answer from outside to an item, by name, once.

set local search_path = waybill;

-- One row a name, written by whoever comes first: the stage that asks, or the answer.
-- Both write it, so that each waits for the other and then sees it: an answer that
-- commits while its item parks wakes it.
create table signals (
  item_id     bigint not null,
  name        text not null,
  stage       text not null default '',  -- that asked last; '': none has yet
  asked_at    timestamptz,               -- by that stage, the first time
  until       timestamptz,               -- null: as long as the item has time
  poll_at     timestamptz,               -- the vendor is asked again; null: it is not
  schema      jsonb,                     -- of the answer; null: any will do
  lapsed      boolean not null default false,  -- that stage went on without an answer
  delivery    text,                      -- null: there is no answer yet
  payload     jsonb,                     -- null: in the artifact `ref`
  ref         text,
  author      text not null default '',
  answered_at timestamptz,
  primary key (item_id, name),
  check ((stage = '') = (asked_at is null)),
  check ((delivery is null) = (answered_at is null)),
  check ((delivery is null) = (payload is null and ref is null))
) with (fillfactor = 70);

-- Which signals an item waits for, beside its time; what it is called in lists.
alter table waiting
  add column listens text[] not null default '{}',
  add column code text not null
    generated always as (case when listens = '{}' then '' else 'SIGNAL' end) stored;
create index waiting_listens on waiting (item_id) where code = 'SIGNAL';
