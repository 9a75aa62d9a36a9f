-- A place of its own for each thing an item can be in.

set local search_path = waybill;

-- Items that wait for their children, until none of them is open; looked at
-- whenever timers are, and not past their deadline.
create table joining (
  item_id     bigint primary key,
  stage       text not null,
  tenant_id   int not null,
  deadline_at timestamptz not null,
  seq         int not null,
  attempt     smallint not null,
  since       timestamptz not null default now()
) with (fillfactor = 70);
create index joining_deadline on joining (deadline_at);

with gone as (delete from waiting where why = 'JOIN' returning *)
insert into joining (item_id, stage, tenant_id, deadline_at, seq, attempt, since)
select item_id, stage, tenant_id, deadline_at, seq, attempt, since from gone;
drop index waiting_join;

-- How far the stage is that an item is or was in, as it says itself.
create table progress (
  item_id bigint primary key,
  stage   text not null,
  done    int not null,
  total   int not null
) with (fillfactor = 70);

-- What stages made of an item, by name.
create table products (
  item_id  bigint not null,
  name     text not null,
  artifact text not null,
  facts    jsonb not null,
  stage    text not null,
  primary key (item_id, name)
);

-- Until now what was made stood in the state alone: a value that names an artifact.
insert into products (item_id, name, artifact, facts, stage)
select distinct on (c.item_id, v.key)
       c.item_id, v.key, v.value ->> 'artifact', v.value - 'artifact', c.stage
  from (select * from checkpoints
         where step is null and jsonb_typeof(update) = 'object') c
 cross join lateral jsonb_each(c.update) v
 where jsonb_typeof(v.value) = 'object' and v.value ->> 'artifact' is not null
 order by c.item_id, v.key, c.seq desc;

-- What is running, and the stage it is in now: a worker carries an item through
-- several, and its row of `running` names the one at which it was claimed.
create view running_now with (security_invoker = true) as
select u.item_id, coalesce(s.next_stage, u.stage) as stage,
       s.next_stage is not null as moved_on, u.tenant_id, u.deadline_at, u.seq,
       u.attempt, u.strikes, u.solo, u.worker_id, u.claimed_at
  from running u
  left join lateral (select c.next_stage from checkpoints c
                      where c.item_id = u.item_id and c.seq >= u.seq
                        and c.next_stage <> ''
                      order by c.seq desc limit 1) s on true;
