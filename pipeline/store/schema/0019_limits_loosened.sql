-- Whoever was sent away looks anew once more is allowed: it may have been told to come
-- back in hours.
create function waybill.limits_loosened() returns trigger language plpgsql as $$
begin
  update waybill.waiting set until = waybill.clock()
   where why = 'LIMIT_WAIT' and until > waybill.clock();
  return null;
end $$;
create trigger limits_loosened after update of every_s, concurrency on waybill.limits
  for each row
  when (new.every_s < old.every_s or new.concurrency > old.concurrency
        or (new.concurrency is null and old.concurrency is not null))
  execute function waybill.limits_loosened();
