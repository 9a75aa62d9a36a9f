-- What a reviewer is shown keeps the order of its keys; `jsonb` sorts them, by length.
-- Nothing asks into these columns: they are written once and read whole.  A row's
-- digest stays what it was.

drop function waybill.hold_digest(
  text, text, jsonb, text, jsonb, text, text[], boolean, text);

alter table waybill.holds
  alter column shown type json,
  alter column proposal type json;

create function waybill.hold_digest(
  code text, why text, shown json, shown_ref text, proposal json, proposal_ref text,
  needs text[], again boolean, next_stage text
) returns text language sql stable as $$
  select encode(sha256(convert_to(jsonb_build_array(code, why, shown::jsonb, shown_ref,
    proposal::jsonb, proposal_ref, needs, again, next_stage)::text, 'UTF8')), 'hex')
$$;
