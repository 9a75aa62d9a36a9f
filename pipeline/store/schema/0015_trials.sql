-- Trials: batches that are run to be scored, and whose items are nobody's business
-- else.  Nothing is sent for them, and nobody is asked to review them.

alter table waybill.batches
  add column trial          text,         -- what is tried, as a digest; null: no trial
  add column trial_ended_at timestamptz;  -- its result is written
create index batches_trials on waybill.batches (trial, id) where trial is not null;

alter table waybill.holds add column trial boolean not null default false;

-- Planned in a trial: recorded, and never sent.
alter table waybill.effects
  drop constraint effects_state_check,
  add constraint effects_state_check check (
    state in ('awaiting_release', 'planned', 'sending', 'confirmed', 'refused',
              'in_doubt', 'not_sent')),
  add constraint effects_not_sent check (
    state <> 'not_sent' or (worker_id is null and due_at is null and tries = 0));
drop index waybill.effects_open;
create index effects_open on waybill.effects (state, id)
  where state not in ('confirmed', 'not_sent');
