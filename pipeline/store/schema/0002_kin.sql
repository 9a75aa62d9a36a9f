-- Children: a bundle becomes several items, which its own item may wait for.

set local search_path = waybill;

alter table items add column parent_id bigint references items;
create index items_kin on items (parent_id, id) where parent_id is not null;

-- One row a child that is not final.  Made with the child; kept true by the two
-- triggers on `outcomes`, because many ways lead there (a worker, a reviewer, a
-- cancellation, the reaper) and one of them would be forgotten.
create table open_children (
  child_id  bigint primary key,
  parent_id bigint not null
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);
create index open_children_parent on open_children (parent_id);

-- Items that wait for their children: looked at whenever timers are.
create index waiting_join on waiting (item_id) where why = 'JOIN';

-- An item ended: nobody waits for it any more.  Was it cancelled, so are its open
-- children, however deep: cancelling a child comes here again.
create function outcome_stands() returns trigger language plpgsql as $$
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
    with r as (delete from waybill.ready where item_id = any (orphans)
               returning item_id, stage),
    w as (delete from waybill.waiting where item_id = any (orphans)
          returning item_id, stage),
    h as (update waybill.holds
             set open = false, claimed_by = null, claimed_until = null
           where item_id = any (orphans) and open
          returning item_id, stage),
    gone as (
      select g.*, 'item ' || i.parent_id as author
        from (select * from r union all select * from w union all select * from h) g
        join waybill.items i on i.id = g.item_id),
    noted as (
      insert into waybill.audit (item_id, event, stage, actor)
      select item_id, 'cancelled', stage, author from gone)
    insert into waybill.outcomes (item_id, state, stage, code, why)
    select item_id, 'cancelled', stage, 'CANCELLED', 'cancelled by ' || author
      from gone;
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
create trigger outcome_stands after insert on outcomes
  referencing new table as ended
  for each statement execute function outcome_stands();

-- An item was put back in line: whoever joins waits for it again.
create function outcome_gone() returns trigger language plpgsql as $$
begin
  insert into waybill.open_children (child_id, parent_id)
  select id, parent_id from waybill.items
   where id = any (array(select item_id from gone)) and parent_id is not null
  on conflict do nothing;
  return null;
end $$;
create trigger outcome_gone after delete on outcomes
  referencing old table as gone
  for each statement execute function outcome_gone();
