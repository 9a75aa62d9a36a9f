-- Effects are counted by sink and state in `status`, `batches show` and `effects`: from
-- the index alone, for a row of effects carries its payload.

create index effects_count on waybill.effects (batch_id, sink, state);
create index effects_count_open on waybill.effects (sink, state)
  where state not in ('confirmed', 'not_sent');
