-- What people ask and what workers load costs the same with a million items.

set local search_path = waybill;

-- How many stand where, a row a batch, state and stage, and those of batch 0 for
-- everything.  Kept by the triggers below, because many ways lead into and out of
-- each table and one of them would be forgotten.  They only insert, so that nobody
-- waits for anybody; whoever wakes timers folds what they wrote into `tallies`.  The
-- sum of both tables is true in every snapshot.
create table tallies (
  batch_id bigint not null,
  state    text not null,            -- a table of items, an end, a receipt's disposal
  stage    text not null,            -- '' where nobody asks for it
  n        bigint not null,
  primary key (batch_id, state, stage)
) with (fillfactor = 50);
create table tally_changes (
  batch_id bigint not null,
  state    text not null,
  stage    text not null,
  n        bigint not null
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);

-- Items came into or left a table of items; its name and the sign are arguments.  The
-- scalar query is planned as a look-up by the key, whatever the planner knows of
-- either table.
create function tally_items() returns trigger language plpgsql as $$
begin
  insert into waybill.tally_changes (batch_id, state, stage, n)
  select (select batch_id from waybill.items i where i.id = c.item_id),
         tg_argv[0], c.stage, tg_argv[1]::int * count(*)
    from changed c group by 1, 3;
  return null;
end $$;
create function tally_ends() returns trigger language plpgsql as $$
begin
  insert into waybill.tally_changes (batch_id, state, stage, n)
  select (select batch_id from waybill.items i where i.id = c.item_id),
         c.state, '', tg_argv[0]::int * count(*)
    from changed c group by 1, 2;
  return null;
end $$;
create function tally_receipts() returns trigger language plpgsql as $$
begin
  insert into waybill.tally_changes (batch_id, state, stage, n)
  select c.batch_id, c.disposal, '', tg_argv[0]::int * count(*)
    from changed c group by 1, 2;
  return null;
end $$;
-- Holds count while they are open; a decision closes them and deletes nothing.
create function tally_holds() returns trigger language plpgsql as $$
begin
  insert into waybill.tally_changes (batch_id, state, stage, n)
  select (select batch_id from waybill.items i where i.id = c.item_id),
         'held', c.stage, tg_argv[0]::int * count(*)
    from changed c where c.open group by 1, 3;
  return null;
end $$;
create function tally_holds_moved() returns trigger language plpgsql as $$
begin
  insert into waybill.tally_changes (batch_id, state, stage, n)
  select (select batch_id from waybill.items i where i.id = c.item_id),
         'held', c.stage, sum(c.n)
    from (select item_id, stage, -1 as n from was where open
          union all select item_id, stage, 1 from changed where open) c
   group by 1, 3 having sum(c.n) <> 0;
  return null;
end $$;

do $$
declare
  t text;
begin
  foreach t in array array['ready', 'running', 'waiting', 'joining'] loop
    execute format('create trigger tally_in after insert on %1$I
      referencing new table as changed for each statement
      execute function tally_items(%1$L, ''1'')', t);
    execute format('create trigger tally_out after delete on %1$I
      referencing old table as changed for each statement
      execute function tally_items(%1$L, ''-1'')', t);
  end loop;
  for t in select unnest(array['ends', 'receipts', 'holds']) loop
    execute format('create trigger tally_in after insert on %I
      referencing new table as changed for each statement
      execute function tally_%s(''1'')',
      case t when 'ends' then 'outcomes' else t end, t);
    execute format('create trigger tally_out after delete on %I
      referencing old table as changed for each statement
      execute function tally_%s(''-1'')',
      case t when 'ends' then 'outcomes' else t end, t);
  end loop;
end $$;
create trigger tally_moved after update on holds
  referencing old table as was new table as changed for each statement
  execute function tally_holds_moved();

-- What is there.  The triggers' locks keep writers out until this is committed.
with places as (
  select item_id, 'ready' as state, stage from ready
  union all select item_id, 'running', stage from running
  union all select item_id, 'waiting', stage from waiting
  union all select item_id, 'joining', stage from joining
  union all select item_id, 'held', stage from holds where open
  union all select item_id, state, '' from outcomes),
counted as (
  select i.batch_id, p.state, p.stage, count(*) as n
    from places p join items i on i.id = p.item_id group by 1, 2, 3
  union all
  select batch_id, disposal, '', count(*) from receipts group by 1, 2)
insert into tallies (batch_id, state, stage, n)
select batch_id, state, stage, n from counted
union all
select 0, state, stage, sum(n) from counted group by 2, 3;

-- Lists begin at an index in their own order.
create index items_of_batch on items (batch_id, id);
drop index items_batch;
create index receipts_of_batch on receipts (batch_id, id);
drop index receipts_batch;
create index receipts_refused on receipts (id) where disposal = 'quarantined';
create index receipts_refused_of_batch on receipts (batch_id, id)
  where disposal = 'quarantined';
create index outcomes_ended on outcomes (state, item_id) where state <> 'done';
drop index outcomes_unfinished;

-- A hold's picture and proposal, when they are large, are artifacts named here.
alter table holds
  add column shown_ref text,
  add column proposal_ref text,
  alter column shown drop not null,
  alter column proposal drop not null,
  add check ((shown is null) <> (shown_ref is null)),
  add check ((proposal is null) <> (proposal_ref is null));

-- The order in which people take holds: of those equally urgent, what needs only a
-- look comes first.
drop index holds_line;
create index holds_line on holds (deadline_at, (cardinality(needs) > 0), id)
  where open;
create index holds_line_of_tenant
  on holds (tenant_id, deadline_at, (cardinality(needs) > 0), id) where open;
create index decisions_newest on decisions (decided_at, hold_id);
