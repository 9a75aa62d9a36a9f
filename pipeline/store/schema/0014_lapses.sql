-- Holds that lapse: when nobody has decided one in time, that is decided: `expired`.
alter table waybill.holds
  add column lapse     json,           -- {"ends": …, "update": …}; null: it waits
  add column lapses_at timestamptz,
  add constraint holds_lapse check ((lapse is null) = (lapses_at is null));
create index holds_lapses on waybill.holds (lapses_at)
  where open and lapses_at is not null;

alter table waybill.decisions
  drop constraint decisions_verb_check,
  add constraint decisions_verb_check
    check (verb in ('approve', 'reject', 'edit', 'expired'));

-- What lapsing does is a part of what a decision is bound to; of a hold that does not
-- lapse the digest is as it was.
create function waybill.hold_digest(
  code text, why text, shown json, shown_ref text, proposal json, proposal_ref text,
  needs text[], again boolean, next_stage text, lapse json, lapses_at timestamptz
) returns text language sql stable as $$
  select case when lapse is null and lapses_at is null then d.digest
              else encode(sha256(convert_to(jsonb_build_array(d.digest, lapse::jsonb,
                extract(epoch from lapses_at))::text, 'UTF8')), 'hex') end
    from (select waybill.hold_digest(code, why, shown, shown_ref, proposal,
            proposal_ref, needs, again, next_stage) as digest) d
$$;

create or replace function waybill.bind_hold() returns trigger language plpgsql as $$
begin
  new.digest = waybill.hold_digest(new.code, new.why, new.shown, new.shown_ref,
    new.proposal, new.proposal_ref, new.needs, new.again, new.next_stage, new.lapse,
    new.lapses_at);
  return new;
end $$;
