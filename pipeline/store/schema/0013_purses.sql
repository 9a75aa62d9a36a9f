-- What an item and all that is made of it have taken of what its agents may take: one
-- row a family, by the id of its outermost item, from its first bounded draw on.
-- taken + held never passes `most` by a draw.

create table waybill.purses (
  root_id      bigint primary key references waybill.items,
  asks         bigint not null default 0,
  tokens       bigint not null default 0,
  calls        bigint not null default 0,
  faults       bigint not null default 0,
  asks_held    bigint not null default 0,   -- by conversations that go on
  tokens_held  bigint not null default 0,
  calls_held   bigint not null default 0,
  faults_held  bigint not null default 0,
  most_asks    bigint,                      -- as the pipeline of the last draw says
  most_tokens  bigint,
  most_calls   bigint,
  most_faults  bigint,
  lacked       text not null default ''     -- by the last draw that lacked something
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02,
        autovacuum_vacuum_threshold = 500);
create index purses_lacked on waybill.purses (root_id) where lacked <> '';
