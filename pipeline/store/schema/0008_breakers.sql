-- Vendors that fail, as all processes see them: one row a vendor.
--
-- `turn` counts the moves between the states: a process names the turn that it knows,
-- so that a move is made once, and what comes late makes none.  `repeats` is what may
-- still be repeated of failed calls; `repeats_at` is when time last added to it.
create table waybill.breakers (
  vendor      text primary key,
  state       text not null default 'closed'
              check (state in ('closed', 'open', 'half-open')),
  turn        int not null default 0,
  failures    int not null default 0,     -- in a row, when it opened
  opened      int not null default 0,     -- times, without a minute's calm between
  opened_at   timestamptz,
  until       timestamptz,                -- a probe, or another one, may begin
  prober      uuid,                       -- the worker that probes
  closed_at   timestamptz,
  repeats     double precision not null,
  repeats_at  timestamptz not null,
  check ((state = 'closed') or until is not null),
  check ((state = 'half-open') = (prober is not null))
);
