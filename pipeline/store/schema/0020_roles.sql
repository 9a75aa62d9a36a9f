-- Holds that are somebody's own: they stand in a line of their role, with a clock of
-- their own, and nobody meets them in the common line.
alter table waybill.holds
  add column role   text not null default '',  -- who alone rules on it; '': anybody
  add column due_at timestamptz;               -- by when, where before the deadline

-- Every line is in the order of what is due first; of those equally urgent, what needs
-- only a look comes first.
drop index waybill.holds_line;
drop index waybill.holds_line_of_tenant;
create index holds_line on waybill.holds
  (least(due_at, deadline_at), (cardinality(needs) > 0), id) where open;
create index holds_line_of_tenant on waybill.holds
  (tenant_id, least(due_at, deadline_at), (cardinality(needs) > 0), id) where open;
create index holds_line_of_role on waybill.holds
  (role, least(due_at, deadline_at), (cardinality(needs) > 0), id)
  where open and role <> '';

-- What passed moderation and what it held, by week: `moderation stats`.
create index checkpoints_moderated on waybill.checkpoints (at)
  where stage = 'moderation' and step is null and worker_id is not null;
create index holds_moderated on waybill.holds (held_at) where stage = 'moderation';
