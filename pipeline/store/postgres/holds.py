"""
Holds and decisions in PostgreSQL.

A decision takes the hold's row first, so that two reviewers who press at the same
instant get one decision and one `Conflict`.
"""

from __future__ import annotations

import json

import asyncpg

from pipeline.errors import NotFound
from pipeline.lapse import EXPIRED, LAPSED, NOBODY
from pipeline.model import HoldId, ItemId
from pipeline.store.database import Connection, Database, Topic
from pipeline.store.port import ANY, HOLDS_LOOKED_AT
from pipeline.store.postgres.seeking import Parameters, all_of, beside, of_items
from pipeline.store.refusals import changed, decided_before, lapsed, stale, taken
from pipeline.store.rows import Decision, HoldRow, Sought

# A hold that was decided before its row told its digest keeps the one of then.
FACTS = """
select h.id, h.item_id, i.name as item_name, t.name as tenant, b.name as batch,
       i.pipeline_id, i.pipeline, h.stage, h.code, h.why, h.shown, h.shown_ref,
       h.proposal, h.proposal_ref, h.digest, h.needs,
       h.again, h.seq, h.next_stage, h.held_at, h.deadline_at, h.lapse, h.lapses_at,
       h.role, least(h.due_at, h.deadline_at) as due_at,
       case when h.claimed_until > waybill.clock() then h.claimed_by end as claimed_by,
       case when h.claimed_until > waybill.clock() then h.claimed_until end
         as claimed_until,
       d.verb, d.author, d.reason, d.decided_at,
       h.digest <> waybill.hold_digest(h.code, h.why, h.shown, h.shown_ref, h.proposal,
         h.proposal_ref, h.needs, h.again, h.next_stage, h.lapse, h.lapses_at)
         and (h.open or coalesce(d.decided_at >= (
           select m.applied_at from waybill.migrations m where m.number = 7), false))
         as changed
"""
BESIDE = """
  join waybill.items i on i.id = h.item_id
  join waybill.tenants t on t.id = h.tenant_id
  join waybill.batches b on b.id = i.batch_id
  left join waybill.decisions d on d.hold_id = h.id
"""
HOLD = f"{FACTS} from waybill.holds h {BESIDE}"

# The order of the line, as its indexes have it.
LINE = "least(h.due_at, h.deadline_at), (cardinality(h.needs) > 0), h.id"
OF_TENANT = "h.tenant_id = (select t.id from waybill.tenants t where t.name = {tenant})"

# Whoever comes at the same moment walks past the row that is locked.
CLAIM_NEXT = f"""
with next as materialized (
  select h.id from waybill.holds h
   where h.open and not h.trial and {{of}} and h.role = $3
     and (h.claimed_by is null or h.claimed_by = $1
          or h.claimed_until <= waybill.clock())
   order by {LINE} limit 1 for update skip locked),
mine as (
  update waybill.holds h
     set claimed_by = $1, claimed_until = waybill.clock() + make_interval(secs => $2)
    from next where h.id = next.id returning h.*)
{FACTS} from mine h {BESIDE}
"""

# What is sought is sought among the first so many, in the order of the list.
OPEN = f"""
with looked_at as materialized (
  select h.id, h.item_id, h.stage, h.code, h.held_at, h.deadline_at, h.due_at,
         h.needs
    from waybill.holds h where h.open and {{of}} order by {LINE} limit $2),
line as materialized (
  select h.id from looked_at h where {{sought}} order by {LINE} limit $1)
{HOLD} where h.id in (select id from line) order by {LINE}
"""
DECIDED = f"""
with looked_at as materialized (
  select d.hold_id, d.decided_at from waybill.decisions d where {{of}}
   order by d.decided_at desc, d.hold_id desc limit $2),
newest as materialized (
  select l.hold_id as id from looked_at l where {{sought}}
   order by l.decided_at desc, l.hold_id desc limit $1)
{HOLD} where h.id in (select id from newest) order by d.decided_at desc, h.id desc
"""
DECIDED_OF_TENANT = """
(select h.tenant_id from waybill.holds h where h.id = d.hold_id)
  = (select t.id from waybill.tenants t where t.name = {tenant})
"""
DECIDED_NO_TRIAL = "not (select h.trial from waybill.holds h where h.id = d.hold_id)"

DECIDE = """
with noted as (
  insert into waybill.decisions (hold_id, verb, author, reason, digest)
  values ($1, $2, $3, $4, $5)),
closed as (
  update waybill.holds set open = false, claimed_by = null, claimed_until = null
   where id = $1 returning *),
kept as (
  insert into waybill.checkpoints (item_id, seq, stage, update, ref, next_stage,
    took_s)
  select item_id, seq, stage, $6::jsonb, $7,
         case when again then stage else next_stage end, 0
    from closed where $2 <> 'reject'),
line as (
  insert into waybill.ready (item_id, stage, tenant_id, deadline_at, seq)
  select item_id, case when again then stage else next_stage end, tenant_id,
         deadline_at, seq + 1
    from closed where $2 <> 'reject' and (again or next_stage <> '')),
ended as (
  insert into waybill.outcomes (item_id, state, stage, code, why)
  select item_id, case when $2 = 'reject' then 'rejected' else 'done' end, stage,
         case when $2 = 'reject' then 'REVIEW_REJECTED' else '' end,
         case when $2 = 'reject' then $4 else '' end
    from closed where $2 = 'reject' or (not again and next_stage = ''))
insert into waybill.audit (item_id, event, stage, actor, code)
select item_id, 'decided_' || $2, stage, $3, code from closed
"""


STILL = """
select open, coalesce(lapses_at <= waybill.clock(), false) as late
  from waybill.holds where id = $1
"""

# What somebody changed in the database is left to a person.
LAPSE = """
with due as materialized (
  select h.id from waybill.holds h
   where h.open and h.lapses_at <= waybill.clock()
     and h.digest = waybill.hold_digest(h.code, h.why, h.shown, h.shown_ref, h.proposal,
           h.proposal_ref, h.needs, h.again, h.next_stage, h.lapse, h.lapses_at)
   order by h.lapses_at limit $1 for update skip locked),
closed as (
  update waybill.holds h set open = false, claimed_by = null, claimed_until = null
    from due d where h.id = d.id
  returning h.id, h.item_id, h.seq, h.stage, h.tenant_id, h.deadline_at, h.digest,
            (h.lapse ->> 'ends')::boolean as ends, h.lapse -> 'update' as update,
            case when h.again then h.stage else h.next_stage end as after),
noted as (
  insert into waybill.decisions (hold_id, verb, author, reason, digest)
  select id, $2, $3, '', digest from closed),
kept as (
  insert into waybill.checkpoints (item_id, seq, stage, update, next_stage, took_s)
  select item_id, seq, stage, update::jsonb, after, 0 from closed where not ends),
line as (
  insert into waybill.ready (item_id, stage, tenant_id, deadline_at, seq)
  select item_id, after, tenant_id, deadline_at, seq + 1
    from closed where not ends and after <> ''),
ended as (
  insert into waybill.outcomes (item_id, state, stage, code, why)
  select item_id, case when ends then 'rejected' else 'done' end, stage,
         case when ends then $4 else '' end,
         case when ends then 'nobody decided in time' else '' end
    from closed where ends or after = ''),
audited as (
  insert into waybill.audit (item_id, event, stage, actor, code)
  select item_id, 'decided_' || $2, stage, $3, $4 from closed)
select (select count(*) from closed) as moved,
       extract(epoch from (select min(lapses_at) from waybill.holds
                            where open and lapses_at > waybill.clock())
                 - waybill.clock())::float8 as next_s
"""


async def let_lapse(database: Database, limit: int) -> tuple[int, float | None]:
    """
    Decide the holds that nobody decided in time; how many, and seconds to the next.
    """
    [row] = await database.fetch(LAPSE, limit, EXPIRED, NOBODY, LAPSED)
    return row["moved"], row["next_s"]


class PostgresHolds(Topic):
    """What reviewers ask."""

    async def holds(
        self,
        *,
        decided: bool = False,
        tenant: str | None = None,
        batch_id: int | None = None,
        sought: Sought = ANY,
        limit: int = 100,
    ) -> list[HoldRow]:
        """Open holds by deadline, or decided ones, newest first; see the port."""
        given = Parameters(limit, HOLDS_LOOKED_AT)
        facts = _sought(decided, batch_id, sought, given)
        if not facts:
            given.values[1] = limit
        sql, of = (DECIDED, DECIDED_OF_TENANT) if decided else (OPEN, OF_TENANT)
        theirs = "true" if tenant is None else of.format(tenant=given(tenant))
        if sought.role is not None and not decided:
            theirs += f" and h.role = {given(sought.role)}"
        if batch_id is None:
            theirs += f" and {DECIDED_NO_TRIAL if decided else 'not h.trial'}"
        rows = await self._db.fetch(
            sql.format(of=theirs, sought=all_of(facts)), *given.values
        )
        return [hold_row(r) for r in rows]

    async def hold(self, hold_id: HoldId) -> HoldRow:
        """One hold; raises NotFound."""
        rows = await self._db.fetch(HOLD + " where h.id = $1", hold_id)
        if not rows:
            raise NotFound(f"no hold h{hold_id}", hint="`waybill review ls` lists them")
        return hold_row(rows[0])

    async def hold_of(self, item_id: ItemId) -> HoldRow:
        """The item's newest hold; raises NotFound."""
        rows = await self._db.fetch(
            HOLD + " where h.item_id = $1 order by h.id desc limit 1", item_id
        )
        if not rows:
            raise NotFound(
                f"item {item_id} is not held and never was",
                hint="`waybill review ls` lists the holds",
            )
        return hold_row(rows[0])

    async def claim_next(
        self,
        author: str,
        *,
        lease_s: float,
        tenant: str | None = None,
        role: str = "",
    ) -> HoldRow | None:
        """Lease the first free hold of a role's line, or of a tenant's in it."""
        given = [author, lease_s, role]
        of = "true"
        if tenant is not None:
            of = OF_TENANT.format(tenant="$4")
            given.append(tenant)
        rows = await self._db.fetch(CLAIM_NEXT.format(of=of), *given)
        return hold_row(rows[0]) if rows else None

    async def claim_hold(
        self, hold_id: HoldId, author: str, *, lease_s: float
    ) -> HoldRow:
        """Lease an open hold to a reviewer; renews the reviewer's own lease."""
        rows = await self._db.fetch(
            """
            update waybill.holds set claimed_by = $2,
                   claimed_until = waybill.clock() + make_interval(secs => $3)
             where id = $1 and open
                 and (claimed_by is null or claimed_by = $2
                      or claimed_until <= waybill.clock())
            returning id
            """,
            hold_id,
            author,
            lease_s,
        )
        hold = await self.hold(hold_id)
        if not rows:
            if hold.claimed_by is not None and hold.decision is None:
                raise taken(hold)
            raise decided_before(hold)
        return hold

    async def release_hold(self, hold_id: HoldId, author: str) -> None:
        """Give a lease back."""
        hold = await self.hold(hold_id)
        if hold.claimed_by not in (None, author):
            raise taken(hold)
        await self._db.fetch(
            "update waybill.holds set claimed_by = null, claimed_until = null"
            " where id = $1 and claimed_by = $2",
            hold_id,
            author,
        )

    async def decide(
        self,
        hold_id: HoldId,
        *,
        verb: str,
        author: str,
        reason: str,
        digest: str,
        update: str | None,
        ref: str | None = None,
    ) -> HoldRow:
        """Rule on a hold; see the port."""

        async def work(con: Connection) -> None:
            await con.fetchval(
                "select 1 from waybill.holds where id = $1 for update", hold_id
            )
            rows = await con.fetch(HOLD + " where h.id = $1", hold_id)
            if not rows:
                raise NotFound(f"no hold h{hold_id}")
            hold = hold_row(rows[0])
            [(still, late)] = await con.fetch(STILL, hold_id)
            if hold.decision is not None or not still:
                raise decided_before(hold)
            if late:
                raise lapsed(hold)
            if hold.claimed_by not in (None, author):
                raise taken(hold)
            if hold.changed:
                raise changed(hold)
            if hold.digest != digest:
                raise stale(hold)
            ruled = (hold_id, verb, author, reason, digest, update, ref)
            await con.execute(DECIDE, *ruled)

        await self._db.tx(work)
        return await self.hold(hold_id)


def _sought(
    decided: bool, batch_id: int | None, sought: Sought, given: Parameters
) -> list[str]:
    """What must be so of a hold that is looked at."""
    here = []
    if sought.stage:
        here.append(f"h.stage = {given(sought.stage)}")
    if sought.code:
        here.append(f"h.code = {given(sought.code)}")
    if decided and sought.role is not None:
        here.append(f"h.role = {given(sought.role)}")
    here += beside("h.item_id", of_items(sought, batch_id, given))
    if not decided:
        since = "h.held_at"
    else:
        since = "l.decided_at"
        if here:
            hold = "from waybill.holds h where h.id = l.hold_id"
            here = [f"(select {all_of(here)} {hold})"]
    if sought.since is not None:
        here.append(f"{since} >= {given(sought.since)}")
    return here


def hold_row(r: asyncpg.Record) -> HoldRow:
    """A row of `HOLD`."""
    decision = None
    if r["verb"] is not None:
        decision = Decision(r["verb"], r["author"], r["reason"], r["decided_at"])
    facts = {name: r[name] for name in HoldRow._fields if name != "decision"}
    facts["shown"] = json.loads(r["shown"] or "{}")
    facts["proposal"] = json.loads(r["proposal"] or "{}")
    facts["lapse"] = None if r["lapse"] is None else json.loads(r["lapse"])
    return HoldRow(**facts, decision=decision)
