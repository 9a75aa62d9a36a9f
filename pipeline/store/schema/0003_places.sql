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

-- The stage an item came to in the hands of its worker, which carries it through
-- several; none while it is at the one where it was claimed, as the next checkpoint
-- `claimed_seq`.  PostgreSQL puts the body in the place of the call.
create function reached(item bigint, claimed_seq int) returns table (stage text)
  language sql stable as $$
  select next_stage from waybill.checkpoints
   where item_id = item and seq >= claimed_seq and next_stage <> ''
   order by seq desc limit 1
$$;

-- What is running, and the stage it is in now: `running` names the one at which it
-- was claimed.
create view running_now with (security_invoker = true) as
select u.item_id, coalesce(s.stage, u.stage) as stage, u.attempt, u.claimed_at
  from running u left join lateral reached(u.item_id, u.seq) s on true;

-- Cancels of these items what no worker has; says which.  Without an author it is
-- the end of its parent that cancels an item.
create function cancel_parked(items bigint[], author text) returns setof bigint
  language sql as $$
  with r as (delete from waybill.ready where item_id = any (items)
             returning item_id, stage),
  w as (delete from waybill.waiting where item_id = any (items)
        returning item_id, stage),
  j as (delete from waybill.joining where item_id = any (items)
        returning item_id, stage),
  h as (update waybill.holds
           set open = false, claimed_by = null, claimed_until = null
         where item_id = any (items) and open
        returning item_id, stage),
  gone as (
    select g.item_id, g.stage, coalesce(author, 'item ' || i.parent_id) as by
      from (select * from r union all select * from w
            union all select * from j union all select * from h) g
      join waybill.items i on i.id = g.item_id),
  noted as (
    insert into waybill.audit (item_id, event, stage, actor)
    select item_id, 'cancelled', stage, by from gone),
  ended as (
    insert into waybill.outcomes (item_id, state, stage, code, why)
    select item_id, 'cancelled', stage, 'CANCELLED', 'cancelled by ' || by from gone)
  select item_id from gone
$$;

-- As before; what is parked is cancelled by the function above.
create or replace function outcome_stands() returns trigger language plpgsql as $$
declare
  orphans bigint[];
begin
  delete from waybill.open_children
   where child_id = any (array(select item_id from ended));
  orphans := array(
    select k.child_id from waybill.open_children k
     where k.parent_id = any (
       array(select item_id from ended where state = 'cancelled')));
  -- A child may move between two statements: what neither of them found is looked
  -- for again.  Five times is arbitrary; each needs a claim and a commit within a
  -- millisecond.
  for look in 1..5 loop
    exit when cardinality(orphans) = 0;
    perform waybill.cancel_parked(orphans, null);
    insert into waybill.cancels (item_id, author)
    select u.item_id, 'item ' || i.parent_id
      from (select item_id from waybill.running where item_id = any (orphans)
             order by item_id for update) u
      join waybill.items i on i.id = u.item_id
    on conflict (item_id) do nothing;
    orphans := array(
      select id from unnest(orphans) t(id)
       where not exists (select from waybill.outcomes o where o.item_id = id)
         and not exists (select from waybill.cancels c where c.item_id = id));
  end loop;
  return null;
end $$;
