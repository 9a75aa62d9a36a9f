-- A debt is bounded by the distance of two calls as well: of less than one a window, such
-- as 0.1 a second, each was let in when the window was over.

-- One exchange of a worker with its limits.  One statement, since every worker waits
-- for these rows: nobody's client may fall asleep while it has them.
--
-- asks   [{key, what is declared, what is had, who waits, what is told}], by key
-- lines  [{limits: [places in asks], calls: [[units of each], …]}], by turn
--
-- Returns null when the lease of the worker is over.
create or replace function waybill.lease_limits(
  worker uuid, asks jsonb, lines jsonb, lead_s double precision,
  horizon_s double precision
) returns jsonb language plpgsql as $$
declare
  ask     record;
  one     record;
  l       waybill.limits;
  rows    waybill.limits[] := '{}';
  at      timestamptz;
  now_s   double precision;
  start_s double precision;
  every   double precision[] := '{}';
  early   double precision[] := '{}';   -- so much before its tat a permit may begin
  tats    double precision[] := '{}';
  room    int[] := '{}';                -- null: any number at once
  paused  boolean[] := '{}';
  per     double precision;
  cap     int;
  others  record;
  want    int;
  fair    double precision;
  units   int;
  i       int := 0;
  k       int;
  weights double precision[];
  places  int[];
  shut    boolean[] := '{}';
  starts  jsonb[] := '{}';
  told    jsonb[] := '{}';
begin
  perform from waybill.workers
    where id = worker and lease_until > waybill.clock() for key share;
  if not found then return null; end if;

  for ask in select * from jsonb_to_recordset(asks) as a(key text) loop
    select * into l from waybill.limits where key = ask.key for update;
    if not found then
      insert into waybill.limits (key, rank, per_s, burst, every_s)
        values (ask.key, -1, 1, 1, 0) on conflict do nothing;
      select * into l from waybill.limits where key = ask.key for update;
    end if;
    rows := array_append(rows, l);
  end loop;
  -- The wait for the rows is over by now, and part of the time.
  at := waybill.clock() + (clock_timestamp() - statement_timestamp());
  now_s := extract(epoch from at);

  for ask in
    select * from jsonb_to_recordset(asks) as a(
      key text, rank bigint, rate double precision, per_s double precision, burst int,
      every_s double precision, concurrency int, booked int, waiting int,
      waiting_units double precision, oldest_s double precision,
      begun double precision, owed double precision, pause_s double precision,
      back_end double precision, back_from double precision)
  loop
    i := i + 1;
    l := rows[i];
    if ask.rank >= l.rank then
      l.rank := ask.rank;
      l.rate := ask.rate;
      l.per_s := ask.per_s;
      l.burst := ask.burst;
      l.every_s := ask.every_s;
      l.concurrency := ask.concurrency;
    end if;
    per := coalesce(l.set_per_s, l.per_s);
    every := array_append(every, coalesce(l.set_every_s, l.every_s));
    early := array_append(early, every[i]
      * case when l.set_rate is null then l.burst - 1 else 0 end);
    if now_s >= extract(epoch from l.used_since) + per then
      l.used_before := case when now_s < extract(epoch from l.used_since) + 2 * per
                       then l.used else 0 end;
      l.used := 0;
      l.used_since := at;
    end if;
    l.used := l.used + ask.begun;
    if ask.back_end = l.tat then
      l.tat := least(l.tat, ask.back_from + early[i]);
    end if;
    if ask.owed <> 0 then
      l.tat := greatest(l.tat, now_s) + ask.owed * every[i];
    end if;
    -- No permit begins later than two windows, or calls, after those given now.  What
    -- is beyond that was told by a vendor that cannot count, or is of a limit that was
    -- much tighter: nobody would be let in for days.
    l.tat := least(l.tat,
      now_s + early[i] + 2.1 * greatest(per, every[i]) + lead_s + horizon_s);
    if ask.pause_s > 0
       and at + make_interval(secs => ask.pause_s) > coalesce(l.paused_until, at) then
      l.paused_until := at + make_interval(secs => ask.pause_s);
      l.paused_by := 'vendor';
    end if;
    paused := array_append(paused, coalesce(l.paused_until > at, false));

    select coalesce(sum(o.units), 0) as units,
           coalesce(sum(o.booked + o.waiting) filter (where o.fresh), 0) as want,
           coalesce(bool_or(o.waiting > 0 and o.booked >= o.units and o.fresh), false)
             as starve,
           min(o.oldest_at) filter (where o.units = 0 and o.fresh) as bare_since,
           coalesce(sum(o.waiting_units) filter (where o.fresh), 0) as waiting,
           count(*) filter (where o.fresh) as workers
      into others
      from (select x.*, x.at > l2.at - interval '5 s' as fresh
              from waybill.limit_leases x, (select at) l2(at)
             where x.key = ask.key and x.worker_id <> worker) o;
    cap := coalesce(l.set_concurrency, l.concurrency);
    want := ask.booked + ask.waiting;
    units := 0;
    if cap is not null then
      fair := want;
      if others.starve and want > 0 then
        fair := cap * want::double precision / (want + others.want);
        -- Others let go of theirs for who has none; the longest wait comes first.
        fair := case when others.bare_since is null then ceil(fair)
                     when at - make_interval(secs => ask.oldest_s) <= others.bare_since
                     then greatest(1, floor(fair)) else floor(fair) end;
      end if;
      units := greatest(0, least(want, fair, cap - others.units));
    end if;
    room := array_append(room, case when cap is not null then units - ask.booked end);
    if want > 0 then
      insert into waybill.limit_leases as x (key, worker_id, units, booked, waiting,
        waiting_units, oldest_at, at)
      values (ask.key, worker, greatest(units, ask.booked), ask.booked, ask.waiting,
        ask.waiting_units, case when ask.waiting > 0
          then at - make_interval(secs => ask.oldest_s) end, at)
      on conflict (key, worker_id) do update
        set units = excluded.units, booked = excluded.booked,
            waiting = excluded.waiting, waiting_units = excluded.waiting_units,
            oldest_at = excluded.oldest_at, at = excluded.at;
    else
      delete from waybill.limit_leases where key = ask.key and worker_id = worker;
    end if;
    tats := array_append(tats, l.tat);
    rows[i] := l;
    told := array_append(told, jsonb_build_object(
      'key', l.key, 'every_s', every[i], 'per_s', per, 'burst',
      case when l.set_rate is null then l.burst else 1 end, 'cap', cap,
      'units', units, 'others', others.waiting, 'workers', others.workers,
      'paused_s', case when not paused[i] then 0
        else least(1e9, extract(epoch from l.paused_until - at)) end));
  end loop;

  for k in 1 .. jsonb_array_length(lines) loop
    starts := array_append(starts, jsonb '[]');
    shut := array_append(shut, false);
  end loop;
  for one in
    select n.place::int as line, n.line -> 'limits' as limits, c.units
      from jsonb_array_elements(lines) with ordinality n(line, place),
           jsonb_array_elements(n.line -> 'calls') with ordinality c(units, turn)
     order by c.turn, n.place
  loop
    continue when shut[one.line];
    places := array(select jsonb_array_elements_text(one.limits)::int + 1);
    weights := array(select jsonb_array_elements_text(one.units)::double precision);
    start_s := now_s + lead_s;
    foreach k in array places loop
      if paused[k] or room[k] <= 0 then
        shut[one.line] := true;
      elsif every[k] > 0 then
        start_s := greatest(start_s, tats[k] - early[k]);
      end if;
    end loop;
    shut[one.line] := shut[one.line] or start_s > now_s + horizon_s;
    continue when shut[one.line];
    for i in 1 .. cardinality(places) loop
      k := places[i];
      if every[k] > 0 then
        tats[k] := greatest(tats[k], start_s) + weights[i] * every[k];
      end if;
      room[k] := room[k] - 1;
    end loop;
    starts[one.line] := starts[one.line] || to_jsonb(start_s - now_s);
  end loop;

  for k in 1 .. cardinality(rows) loop
    l := rows[k];
    told[k] := told[k] || jsonb_build_object('tat', tats[k]);
    update waybill.limits
       set rank = l.rank, rate = l.rate, per_s = l.per_s, burst = l.burst,
           every_s = l.every_s, concurrency = l.concurrency,
           paused_until = l.paused_until, paused_by = l.paused_by, tat = tats[k],
           used = l.used, used_before = l.used_before, used_since = l.used_since
     where key = l.key;
  end loop;
  return jsonb_build_object(
    'now', now_s, 'limits', to_jsonb(told), 'starts', to_jsonb(starts));
end $$;
