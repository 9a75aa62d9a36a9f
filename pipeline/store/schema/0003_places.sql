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
