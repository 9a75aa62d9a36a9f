-- Whether an effect that is planned may have happened already: it was sent, and nobody
-- heard what became of it.  One that surely was not is called back, or replaced, however
-- often it was tried.
alter table waybill.effects add column perhaps boolean not null default false;
update waybill.effects set perhaps = true
 where state = 'planned' and class = 'a' and tries > 0;

-- Those of cancelled items stand still, out of the couriers' way: each look went through
-- all of them.
alter table waybill.effects add column still boolean not null default false;
update waybill.effects e set still = true
 where due_at is not null and exists (
   select from waybill.outcomes o
    where o.item_id = e.item_id and o.state = 'cancelled');
drop index waybill.effects_due;
create index effects_due on waybill.effects (sink, due_at, id)
 where due_at is not null and not still;
