"""
What moderation let pass and held, by week, and what people found of it.
"""

from __future__ import annotations

from pipeline.store.database import Topic
from pipeline.store.moderated import ModeratedRow, RoleLine, SampledRow
from pipeline.store.postgres.holds import OF_TENANT
from pipeline.store.postgres.seeking import Parameters, all_of

STAGE = "moderation"

ROLE_LINES = """
select h.role, count(*) as holds, min(least(h.due_at, h.deadline_at)) as due_at
  from waybill.holds h
 where h.open and not h.trial and h.role <> '' and {of}
 group by h.role order by due_at
"""
WEEK = "date_trunc('week', {at} at time zone 'UTC')::date"

# A worker's checkpoint of the stage stands beside what it let pass, and what it ended.
# Of what a person answered `answer_by` says whether it was a false alarm.
MODERATED = f"""
with moderated as (
  select {WEEK.format(at="c.at")} as week, c.item_id,
         exists (select from waybill.outcomes o
                  where o.item_id = c.item_id and o.state = 'rejected'
                    and o.stage = $1) as blocked,
         null as code, null as verb, null as answer_by
    from waybill.checkpoints c
   where c.stage = $1 and c.step is null and c.worker_id is not null
  union all
  select {WEEK.format(at="h.held_at")}, h.item_id, false, h.code,
         coalesce(nullif(d.verb, 'expired'), ''), k.update ->> 'answer_by'
    from waybill.holds h
    left join waybill.decisions d on d.hold_id = h.id
    left join waybill.checkpoints k
      on k.item_id = h.item_id and k.seq = h.seq and d.verb = 'edit'
   where h.stage = $1 and not h.trial and (h.open or d.verb is not null)),
theirs as (
  select j.* from moderated j
    join waybill.items i on i.id = j.item_id
    join waybill.batches b on b.id = i.batch_id and b.trial is null
   where {{of}}),
ruled as (
  select *, code is not null and code <> $2 as held from theirs)
select week,
       count(distinct item_id) filter (where not held and not blocked) as passed,
       count(distinct item_id) filter (where blocked) as blocked,
       count(*) filter (where held) as held,
       count(*) filter (where held and (verb = 'reject' or verb = 'edit'
         and answer_by is distinct from 'machine')) as right,
       count(*) filter (where held and verb = '') as undecided
  from ruled group by week order by week
"""
SAMPLES = f"""
select {WEEK.format(at="h.held_at")} as week,
       (h.shown #>> '{{{{evidence,odds}}}}')::float8 as odds, h.shown_ref,
       coalesce(nullif(d.verb, 'expired'), '') as verb,
       case when k.ref is null then coalesce(k.update ->> 'missed', '') end as missed,
       k.ref
  from waybill.holds h
  join waybill.items i on i.id = h.item_id
  left join waybill.decisions d on d.hold_id = h.id
  left join waybill.checkpoints k
    on k.item_id = h.item_id and k.seq = h.seq and d.verb = 'edit'
 where h.stage = $1 and h.code = $2 and not h.trial
   and (h.open or d.verb is not null) and {{of}}
 order by h.id
"""


class PostgresModerated(Topic):
    """What becomes of what moderation judges."""

    async def role_lines(self, tenant: str | None = None) -> list[RoleLine]:
        """The lines of roles in which holds stand, the most urgent first."""
        of = "true" if tenant is None else OF_TENANT.format(tenant="$1")
        given = () if tenant is None else (tenant,)
        rows = await self._db.fetch(ROLE_LINES.format(of=of), *given)
        return [RoleLine(*r.values()) for r in rows]

    async def moderated(
        self,
        code: str,
        *,
        tenant: str | None = None,
        batch_id: int | None = None,
        pipeline: str = "",
    ) -> list[ModeratedRow]:
        """
        Each week in which something was moderated.

        Args:
            code: Of holds of what passed, and is read all the same.
        """
        of = Parameters(STAGE, code)
        theirs = _theirs(tenant, batch_id, pipeline, of)
        rows = await self._db.fetch(MODERATED.format(of=theirs), *of.values)
        return [ModeratedRow(*r.values()) for r in rows]

    async def sampled(
        self,
        code: str,
        *,
        tenant: str | None = None,
        batch_id: int | None = None,
        pipeline: str = "",
    ) -> list[SampledRow]:
        """Every item that was drawn by lot, in order; the arguments are those above."""
        of = Parameters(STAGE, code)
        theirs = _theirs(tenant, batch_id, pipeline, of)
        rows = await self._db.fetch(SAMPLES.format(of=theirs), *of.values)
        return [SampledRow(*r.values()) for r in rows]


def _theirs(
    tenant: str | None, batch_id: int | None, pipeline: str, of: Parameters
) -> str:
    """What must be so of an item `i`."""
    facts = []
    if tenant is not None:
        named = f"select t.id from waybill.tenants t where t.name = {of(tenant)}"
        facts.append(f"i.tenant_id = ({named})")
    if batch_id is not None:
        facts.append(f"i.batch_id = {of(batch_id)}")
    if pipeline:
        facts.append(f"i.pipeline = {of(pipeline)}")
    return all_of(facts)
