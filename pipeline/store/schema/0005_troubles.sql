-- What keeps a worker from working, written with its lease: [[what, where, since], …].
-- `since` in seconds since 1970; read by `waybill status` alone.
alter table waybill.workers add column troubles jsonb not null default '[]';
