-- What each conversation holds of its family's purse.  It is given back by this record
-- and not by what a conversation remembers: one of an item that has ended gives nothing
-- back itself.

create table waybill.purse_holdings (
  item_id bigint not null,
  talk    text not null,                    -- stage/conversation
  root_id bigint not null,                  -- of its purse
  asks    bigint not null,
  tokens  bigint not null,
  calls   bigint not null,
  faults  bigint not null,
  swept   boolean not null default false,   -- back in the purse: its item has ended
  primary key (item_id, talk)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02,
        autovacuum_vacuum_threshold = 500);
create index purse_holdings_root on waybill.purse_holdings (root_id) where not swept;

-- Who held what until now is on no record.
update waybill.purses
   set asks_held = 0, tokens_held = 0, calls_held = 0, faults_held = 0;

-- An item that is retried goes on with what it held, whether there is room or not: the
-- ask in its hands was allowed.  Purses are locked before what is held of them.
create function waybill.purses_again() returns trigger language plpgsql as $$
begin
  perform from waybill.purses p
    where p.root_id in (select h.root_id from waybill.purse_holdings h
                          join gone g on g.item_id = h.item_id where h.swept)
    order by p.root_id for update;
  if not found then
    return null;
  end if;
  with again as (
    update waybill.purse_holdings h set swept = false from gone g
     where h.item_id = g.item_id and h.swept
    returning h.root_id, h.asks, h.tokens, h.calls, h.faults),
  sums as (
    select root_id, sum(asks)::bigint as asks, sum(tokens)::bigint as tokens,
           sum(calls)::bigint as calls, sum(faults)::bigint as faults
      from again group by root_id)
  update waybill.purses p
     set asks_held = p.asks_held + s.asks, tokens_held = p.tokens_held + s.tokens,
         calls_held = p.calls_held + s.calls, faults_held = p.faults_held + s.faults
    from sums s where s.root_id = p.root_id;
  return null;
end $$;
create trigger purses_again after delete on waybill.outcomes
  referencing old table as gone for each statement
  execute function waybill.purses_again();
