-- Where a try was raised, for whoever wrote its stage: file, line and function, a line
-- each; never a value.

alter table waybill.attempts add column frames text not null default '';

-- What a running item waits for, before its stage begins: a limit, by name.
alter table waybill.progress add column waits_for text not null default '';
