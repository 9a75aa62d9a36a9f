"""
What holds at every moment, asked of the database in one snapshot.

None of this can be seen half done: each of the service's moves is one transaction.
"""

from __future__ import annotations

from loadtest.checker.checks import Check, Query

PLACES = """
select item_id, 'ready' as place, tenant_id from waybill.ready
union all select item_id, 'running', tenant_id from waybill.running
union all select item_id, 'waiting', tenant_id from waybill.waiting
union all select item_id, 'joining', tenant_id from waybill.joining
union all select item_id, 'held', tenant_id from waybill.holds where open
union all select item_id, state, null from waybill.outcomes
"""
RETRIED = """
exists (select from waybill.audit a where a.item_id = {} and a.event = 'retried')
"""
SKEW_S = 0.5  # what a row may lie ahead of the moment it is read at; arbitrary
AFTER_S = 10.0  # a commit that began before its worker's end may take so long


def _at_every_moment(name: str, invariant: str, says: str, of: str, bad: str) -> Query:
    return Query(Check(name, invariant, says, during=True), of, bad)


ONE_PLACE = _at_every_moment(
    "one-place",
    "I1",
    "every item stands in exactly one place: in line, at work, waiting, held or ended",
    "select from waybill.items",
    f"""
    select 'item ' || coalesce(i.id, p.item_id)
           || case when i.id is null then ' stands in a place and is no item'
                   when count(p.place) = 0 then ' stands nowhere'
                   else ' stands in ' || string_agg(p.place, ' and ' order by p.place)
              end as example
      from waybill.items i full join ({PLACES}) p on p.item_id = i.id
     group by i.id, p.item_id having i.id is null or count(p.place) <> 1
    """,
)
ONE_RECEIPT = _at_every_moment(
    "one-receipt",
    "I1",
    "every item has the one receipt it was accepted with, and every receipt its item",
    "select from waybill.receipts",
    """
    select 'item ' || i.id || ' has ' || count(r.id) || ' receipts' as example
      from waybill.items i
      left join waybill.receipts r on r.item_id = i.id and r.disposal = 'item'
     group by i.id having count(r.id) <> 1
    union all
    select 'receipt ' || r.id || ' names item ' || r.item_id || ', which is not there'
      from waybill.receipts r left join waybill.items i on i.id = r.item_id
     where r.item_id is not null and i.id is null
    """,
)
TALLIES = _at_every_moment(
    "tallies",
    "I1",
    "what people are told stands where is what stands there",
    f"select from ({PLACES}) p",
    f"""
    with told as (
      select state, sum(n) as n from (
        select batch_id, state, n from waybill.tallies
        union all select batch_id, state, n from waybill.tally_changes) t
       where batch_id <> 0 and state not in ('item', 'duplicate', 'quarantined')
       group by 1),
    there as (select place as state, count(*) as n from ({PLACES}) p group by 1)
    select coalesce(told.state, there.state) || ': told ' || coalesce(told.n, 0)
           || ', there are ' || coalesce(there.n, 0) as example
      from told full join there using (state)
     where coalesce(told.n, 0) <> coalesce(there.n, 0)
    """,
)
NO_GAPS = _at_every_moment(
    "no-gaps",
    "I3",
    "an item's checkpoints are numbered from 0 without gaps",
    "select from waybill.checkpoints",
    """
    select 'item ' || item_id || ' has ' || count(*) || ' checkpoints numbered '
           || min(seq) || ' to ' || max(seq) as example
      from waybill.checkpoints group by item_id
    having min(seq) <> 0 or max(seq) + 1 <> count(*)
    """,
)
LEGAL_PATH = _at_every_moment(
    "legal-path",
    "I3",
    "each checkpoint is of the stage that the one before leads to, in the order of its"
    " pipeline",
    "select from waybill.checkpoints",
    f"""
    with path as (
      select c.item_id, c.seq, c.stage, c.step, c.next_stage, c.worker_id, p.stages,
             i.parent_id, i.id,
             lag(case when c.step is null then c.next_stage else c.stage end)
               over (partition by c.item_id order by c.seq) as due
        from waybill.checkpoints c
        join waybill.items i on i.id = c.item_id
        join waybill.pipelines p on p.id = i.pipeline_id
       where not {RETRIED.format("c.item_id")})
    select 'item ' || item_id || ' checkpoint ' || seq as example from path
     where stage <> coalesce(due, case when parent_id is null then stages[1]
                                       else stage end)
        or not stage = any(stages)
        or (step is not null and next_stage is not null)
        or (step is null and next_stage is distinct from
              coalesce(stages[array_position(stages, stage) + 1], '')
            and not (worker_id is null and next_stage = stage)
            and not (next_stage = '' and exists (
              select from waybill.outcomes o where o.item_id = path.item_id
                 and o.stage = path.stage and o.state = 'rejected')))
    """,
)
DONE_AT_LAST = _at_every_moment(
    "done-at-last",
    "I3",
    "what is done has passed its pipeline's last stage",
    "select from waybill.outcomes where state = 'done'",
    """
    select 'item ' || o.item_id as example from waybill.outcomes o
      left join lateral (select c.next_stage from waybill.checkpoints c
                          where c.item_id = o.item_id
                          order by c.seq desc limit 1) last on true
     where o.state = 'done' and last.next_stage is distinct from ''
    """,
)
ONE_OWNER = _at_every_moment(
    "one-owner",
    "I4",
    "whatever is at work is in the hands of one worker, and that worker has a lease",
    "select from waybill.running",
    """
    select 'item ' || u.item_id || ' is with ' || u.worker_id || ', which is gone'
           as example
      from waybill.running u left join waybill.workers w on w.id = u.worker_id
     where w.id is null
    union all
    select 'item ' || item_id || ' is with ' || count(*) || ' workers'
      from waybill.running group by item_id having count(*) > 1
    """,
)
DEAD_WRITE = _at_every_moment(
    "dead-write",
    "I5",
    f"a worker that was found dead wrote nothing from {AFTER_S:.0f} s after that on",
    "select from waybill.audit where event = 'worker_died'",
    f"""
    with dead as (
      select code as worker, min(at) + interval '{AFTER_S} seconds' as since
        from waybill.audit where event = 'worker_died' group by 1)
    select 'item ' || c.item_id || ' checkpoint ' || c.seq || ' by ' || d.worker
           as example
      from dead d join waybill.checkpoints c on c.worker_id = d.worker::uuid
     where c.at > d.since
    union all
    select 'attempt ' || t.id || ' by ' || d.worker
      from dead d join waybill.attempts t on t.worker_id = d.worker::uuid
     where t.at > d.since
    """,
)
STEP_ONCE = _at_every_moment(
    "step-once",
    "I9",
    "the result of a stage's step was written once",
    "select from waybill.checkpoints where step is not null",
    f"""
    select 'item ' || c.item_id || ' has ' || count(*) || ' results of a step of '
           || c.stage || ', the last one checkpoint ' || max(c.seq) as example
      from waybill.checkpoints c
     where c.step is not null and not {RETRIED.format("c.item_id")}
     group by c.item_id, c.stage, c.step having count(*) > 1
    """,
)
STAGE_ONCE = _at_every_moment(
    "stage-once",
    "I9",
    "a worker finished each stage of an item once; again only when a person asked",
    "select from waybill.checkpoints where step is null and worker_id is not null",
    f"""
    select 'item ' || c.item_id || ' finished ' || c.stage || ' ' || count(*)
           || ' times' as example
      from waybill.checkpoints c
     where c.step is null and c.worker_id is not null
       and not {RETRIED.format("c.item_id")}
     group by c.item_id, c.stage having count(*) > 1
    """,
)
ONE_DECISION = _at_every_moment(
    "one-decision",
    "I12",
    "a hold that was decided is closed, by one decision, on what was shown; one that is"
    " closed was decided, or its item was cancelled or put back in line",
    "select from waybill.holds",
    """
    select 'hold ' || h.id as example
      from waybill.holds h left join waybill.decisions d on d.hold_id = h.id
     where (d.hold_id is not null and (h.open or d.digest <> h.digest))
        or (d.hold_id is null and not h.open and not exists (
              select from waybill.audit a where a.item_id = h.item_id
                 and a.event in ('cancelled', 'retried')))
    union all
    select 'hold ' || hold_id || ' has ' || count(*) || ' decisions'
      from waybill.decisions group by hold_id having count(*) > 1
    union all
    select 'hold ' || h.id || ' was decided and its item knows nothing of it'
      from waybill.decisions d join waybill.holds h on h.id = d.hold_id
     where d.verb in ('approve', 'edit') and not exists (
       select from waybill.checkpoints c
        where c.item_id = h.item_id and c.seq = h.seq and c.worker_id is null)
    """,
)
AUDITED_ENDS = _at_every_moment(
    "audited-ends",
    "I14",
    "every end has its record in the audit, and every such record its end",
    "select from waybill.outcomes",
    """
    with ends as (
      select item_id,
             count(*) filter (where event in ('done', 'failed', 'rejected', 'cancelled')
               or event like 'decided@_%' escape '@') as ended,
             count(*) filter (where event in ('done', 'failed', 'rejected',
                                              'cancelled')) as by_itself,
             count(*) filter (where event = 'retried') as retried
        from waybill.audit group by item_id)
    select 'item ' || coalesce(o.item_id, e.item_id)
           || case when o.item_id is null then ' has the record of an end, and no end'
                   when coalesce(e.ended, 0) = 0
                   then ' ended, and no record says so'
                   else ' ended once, and ' || e.by_itself || ' records say so' end
           as example
      from waybill.outcomes o full join ends e on e.item_id = o.item_id
     where (o.item_id is not null and coalesce(e.ended, 0) = 0)
        or (coalesce(e.retried, 0) = 0 and e.by_itself > (o.item_id is not null)::int)
    """,
)
AUDITED_MOVES = _at_every_moment(
    "audited-moves",
    "I14",
    "every hold, decision and effect has its record in the audit, and none too many",
    "select from waybill.holds union all select from waybill.effects",
    """
    with told as (
      select item_id, count(*) filter (where event = 'held') as held,
             count(*) filter (where event like 'decided@_%' escape '@') as decided
        from waybill.audit group by 1),
    there as (
      select h.item_id, count(*) as held, count(d.hold_id) as decided
        from waybill.holds h left join waybill.decisions d on d.hold_id = h.id
       group by 1)
    select 'item ' || coalesce(told.item_id, there.item_id) || ' has '
           || coalesce(there.held, 0) || ' holds and ' || coalesce(there.decided, 0)
           || ' decisions; told are ' || coalesce(told.held, 0) || ' and '
           || coalesce(told.decided, 0) as example
      from told full join there on told.item_id = there.item_id
     where (coalesce(told.held, 0), coalesce(told.decided, 0))
           is distinct from (coalesce(there.held, 0), coalesce(there.decided, 0))
    union all
    select 'effect ' || e.id || ' is ' || e.state || ', and no record says so'
      from waybill.effects e
      left join waybill.audit a on a.item_id = e.item_id and a.code = e.id::text
                               and a.event = 'effect_' || e.state
     where a.id is null
    """,
)
TENANT_WALL = _at_every_moment(
    "tenant-wall",
    "I16",
    "every row of an item is of the item's tenant, batch and parent",
    "select from waybill.items",
    f"""
    select 'item ' || i.id || ' is of another tenant than its batch' as example
      from waybill.items i join waybill.batches b on b.id = i.batch_id
     where b.tenant_id <> i.tenant_id
    union all
    select 'item ' || i.id || ' is of another tenant ' || p.place
      from ({PLACES}) p join waybill.items i on i.id = p.item_id
     where p.tenant_id <> i.tenant_id
    union all
    select 'item ' || i.id || ' is of another tenant or batch than item ' || i.parent_id
      from waybill.items i join waybill.items p on p.id = i.parent_id
     where (p.tenant_id, p.batch_id) <> (i.tenant_id, i.batch_id)
    union all
    select 'effect ' || e.id || ' is of another tenant or batch than its item'
      from waybill.effects e join waybill.items i on i.id = e.item_id
     where (e.tenant_id, e.batch_id) <> (i.tenant_id, i.batch_id)
    union all
    select 'call ' || c.number || ' of item ' || i.id || ' is of another tenant'
      from waybill.calls c join waybill.items i on i.id = c.item_id
     where c.tenant_id <> i.tenant_id
    union all
    select 'receipt ' || r.id || ' leads to an item of another tenant'
      from waybill.receipts r join waybill.batches b on b.id = r.batch_id
      join waybill.items i on i.id = r.item_id where i.tenant_id <> b.tenant_id
    """,
)
NO_LEFTOVERS = _at_every_moment(
    "no-leftovers",
    "I21",
    "no effect, open call or part of a limit is in the hands of a worker that is gone",
    "select from waybill.effects where worker_id is not null"
    " union all select from waybill.calls where settled_at is null"
    " union all select from waybill.limit_leases",
    """
    with had as (
      select 'effect ' || id as what, worker_id from waybill.effects
       where worker_id is not null
      union all
      select 'call ' || number || ' of item ' || item_id, worker_id from waybill.calls
       where settled_at is null
      union all select 'limit ' || key, worker_id from waybill.limit_leases)
    select h.what || ' is with ' || h.worker_id || ', which is gone' as example
      from had h left join waybill.workers w on w.id = h.worker_id where w.id is null
    """,
)
SAME_BYTES = _at_every_moment(
    "same-bytes",
    "I24",
    "the same bytes from a tenant to a pipeline are one item, and every receipt of them"
    " leads there",
    "select from waybill.receipts where item_id is not null",
    """
    select 'items ' || string_agg(id::text, ', ' order by id) as example
      from waybill.items group by tenant_id, pipeline, key having count(*) > 1
    union all
    select 'receipt ' || r.id || ' leads to item ' || i.id || ', of other bytes'
      from waybill.receipts r join waybill.items i on i.id = r.item_id
     where r.key <> i.key
    """,
)
ONE_CLOCK = _at_every_moment(
    "one-clock",
    "I26",
    "no row is of a moment still to come: the database's clock alone is written",
    "select from waybill.checkpoints",
    " union all ".join(
        f"select '{table} of item ' || item_id as example from waybill.{table}"
        f" where {column} > clock_timestamp() + interval '{SKEW_S} seconds'"
        for table, column in (
            ("checkpoints", "at"),
            ("outcomes", "at"),
            ("attempts", "at"),
            ("audit", "at"),
            ("holds", "held_at"),
        )
    ),
)

SAFETY = (
    *(ONE_PLACE, ONE_RECEIPT, TALLIES, NO_GAPS, LEGAL_PATH, DONE_AT_LAST, ONE_OWNER),
    *(DEAD_WRITE, STEP_ONCE, STAGE_ONCE, ONE_DECISION, AUDITED_ENDS, AUDITED_MOVES),
    *(TENANT_WALL, NO_LEFTOVERS, SAME_BYTES, ONE_CLOCK),
)
