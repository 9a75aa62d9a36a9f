-- What a reviewer is shown keeps the order of its keys; `jsonb` sorts them, by length.
-- Nothing asks into these columns: they are written once and read whole.
alter table waybill.holds
  alter column shown type json,
  alter column proposal type json;

-- What a decision is bound to is told by the row itself: who changes a hold within its
-- form, before or after it was shown, has it refused.
create function waybill.hold_digest(
  code text, why text, shown json, shown_ref text, proposal json, proposal_ref text,
  needs text[], again boolean, next_stage text
) returns text language sql stable as $$
  select encode(sha256(convert_to(jsonb_build_array(code, why, shown::jsonb, shown_ref,
    proposal::jsonb, proposal_ref, needs, again, next_stage)::text, 'UTF8')), 'hex')
$$;

create function waybill.bind_hold() returns trigger language plpgsql as $$
begin
  new.digest = waybill.hold_digest(new.code, new.why, new.shown, new.shown_ref,
    new.proposal, new.proposal_ref, new.needs, new.again, new.next_stage);
  return new;
end $$;
create trigger bind before insert on waybill.holds
  for each row execute function waybill.bind_hold();

update waybill.holds h
   set digest = waybill.hold_digest(h.code, h.why, h.shown, h.shown_ref, h.proposal,
         h.proposal_ref, h.needs, h.again, h.next_stage)
 where h.open;
