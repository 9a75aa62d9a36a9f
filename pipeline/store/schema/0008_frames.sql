-- Where a try was raised, for whoever wrote its stage: file, line and function, a line
-- each; never a value.

alter table waybill.attempts add column frames text not null default '';
