"""
What admission, reviewers and the CLI ask of PostgreSQL.

Each method is one transaction.  A decision takes the hold's row first, so that
two reviewers who press at the same instant get one decision and one `Conflict`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import asyncpg

from pipeline.errors import Conflict, NotFound, Usage
from pipeline.model import Batch, HoldId, ItemId, Receipt, State, Submission
from pipeline.names import is_component, is_text
from pipeline.store.database import Connection, Database
from pipeline.store.port import Counts, Decision, HoldRow, ItemRow
from pipeline.store.postgres.admission import receive

COUNTS = """
with i as (select id from items where $1::bigint is null or batch_id = $1),
r as (select disposal, count(*) as n from receipts
       where $1::bigint is null or batch_id = $1 group by disposal),
o as (select o.state, count(*) as n from outcomes o join i on i.id = o.item_id
       group by o.state)
select coalesce((select sum(n) from r), 0)::bigint as received,
       (select count(*) from ready x join i on i.id = x.item_id)
     + (select count(*) from running x join i on i.id = x.item_id)
     + (select count(*) from waiting x join i on i.id = x.item_id)
     + (select count(*) from joining x join i on i.id = x.item_id) as live,
       (select count(*) from holds x join i on i.id = x.item_id where x.open) as held,
       coalesce((select n from o where state = 'done'), 0) as done,
       coalesce((select n from o where state = 'rejected'), 0) as rejected,
       coalesce((select n from o where state = 'failed'), 0) as failed,
       coalesce((select n from o where state = 'cancelled'), 0) as cancelled,
       coalesce((select n from r where disposal = 'duplicate'), 0) as duplicates,
       coalesce((select n from r where disposal = 'quarantined'), 0) as quarantined
"""

ASTRAY = """
select i.id from items i
 where ($1::bigint is null or i.batch_id = $1)
   and (select count(*) from ready x where x.item_id = i.id)
     + (select count(*) from running x where x.item_id = i.id)
     + (select count(*) from waiting x where x.item_id = i.id)
     + (select count(*) from joining x where x.item_id = i.id)
     + (select count(*) from holds x where x.item_id = i.id and x.open)
     + (select count(*) from outcomes x where x.item_id = i.id) <> 1
 order by i.id limit 100
"""

HOLD = """
select h.id, h.item_id, i.name as item_name, t.name as tenant, b.name as batch,
       i.pipeline_id, h.stage, h.code, h.why, h.shown, h.proposal, h.digest, h.needs,
       h.again, h.seq, h.next_stage, h.held_at, h.deadline_at,
       case when h.claimed_until > clock() then h.claimed_by end as claimed_by,
       case when h.claimed_until > clock() then h.claimed_until end as claimed_until,
       d.verb, d.author, d.reason, d.decided_at
  from holds h
  join items i on i.id = h.item_id
  join tenants t on t.id = h.tenant_id
  join batches b on b.id = i.batch_id
  left join decisions d on d.hold_id = h.id
"""

DECIDE = """
with noted as (
  insert into decisions (hold_id, verb, author, reason, digest)
  values ($1, $2, $3, $4, $5)),
closed as (
  update holds set open = false, claimed_by = null, claimed_until = null
   where id = $1 returning *),
kept as (
  insert into checkpoints (item_id, seq, stage, update, next_stage, took_s)
  select item_id, seq, stage, $6::jsonb,
         case when again then stage else next_stage end, 0
    from closed where $2 <> 'reject'),
line as (
  insert into ready (item_id, stage, tenant_id, deadline_at, seq)
  select item_id, case when again then stage else next_stage end, tenant_id,
         deadline_at, seq + 1
    from closed where $2 <> 'reject' and (again or next_stage <> '')),
ended as (
  insert into outcomes (item_id, state, stage, code, why)
  select item_id, case when $2 = 'reject' then 'rejected' else 'done' end, stage,
         case when $2 = 'reject' then 'REVIEW_REJECTED' else '' end,
         case when $2 = 'reject' then $4 else '' end
    from closed where $2 = 'reject' or (not again and next_stage = ''))
insert into audit (item_id, event, stage, actor, code)
select item_id, 'decided_' || $2, stage, $3, code from closed
"""

# Also what the end of a parent does to its children; see the schema.
CANCEL_PARKED = "select cancel_parked($1::bigint[], $2) as item_id"

# The row lock makes the worker's move wait, or us for it; see `_end_cancelled`.
CANCEL_RUNNING = """
insert into cancels (item_id, author)
select item_id, $2
  from (select item_id from running where item_id = any($1::bigint[])
         order by item_id for update) r
on conflict (item_id) do update set author = cancels.author
returning item_id
"""

UNENDED = """
select id from items i
 where id = any($1::bigint[])
   and not exists (select from outcomes o where o.item_id = i.id)
"""

CANCEL_LOOKS = 5  # arbitrary: each needs a claim and a commit within a millisecond

RETRY = """
with gone as (
  delete from outcomes
   where item_id = any($1::bigint[]) and state <> 'done'
  returning item_id, stage),
line as (
  insert into ready (item_id, stage, tenant_id, deadline_at, seq)
  select g.item_id, g.stage, i.tenant_id, i.deadline_at,
         coalesce((select max(seq) + 1 from checkpoints c
                    where c.item_id = g.item_id), 0)
    from gone g join items i on i.id = g.item_id),
noted as (
  insert into audit (item_id, event, stage, actor)
  select item_id, 'retried', stage, $2 from gone),
forgotten as (
  delete from cancels where item_id in (select item_id from gone))
select item_id from gone
"""

ITEM = """
select i.id, i.name, t.name as tenant, b.name as batch, i.pipeline_id, i.key,
       i.created_at, i.deadline_at,
       case when r.item_id is not null then 'ready'
            when u.item_id is not null then 'running'
            when w.item_id is not null or j.item_id is not null then 'waiting'
            when h.item_id is not null then 'held'
            else o.state end as state,
       coalesce(r.stage, u.stage, w.stage, j.stage, h.stage, o.stage, '') as stage,
       coalesce(r.attempt, u.attempt, w.attempt, j.attempt, 0) as attempt,
       coalesce(h.code, o.code, '') as code,
       case when j.item_id is not null then 'its children'
            else coalesce(w.why, h.why, o.why, '') end as why,
       coalesce(r.since, u.claimed_at, w.since, j.since, h.held_at, o.at,
                i.created_at) as since,
       coalesce(w.until, j.deadline_at) as until, i.parent_id,
       j.item_id is not null as joining
  from items i
  join tenants t on t.id = i.tenant_id
  join batches b on b.id = i.batch_id
  left join ready r on r.item_id = i.id
  left join running_now u on u.item_id = i.id
  left join waiting w on w.item_id = i.id
  left join joining j on j.item_id = i.id
  left join holds h on h.item_id = i.id and h.open
  left join outcomes o on o.item_id = i.id
"""


def hold_row(r: asyncpg.Record) -> HoldRow:
    """A row of `HOLD`."""
    decision = None
    if r["verb"] is not None:
        decision = Decision(r["verb"], r["author"], r["reason"], r["decided_at"])
    facts = {name: r[name] for name in HoldRow._fields if name != "decision"}
    facts["shown"] = json.loads(r["shown"])
    facts["proposal"] = json.loads(r["proposal"])
    return HoldRow(**facts, decision=decision)


def item_row(r: asyncpg.Record) -> ItemRow:
    """A row of `ITEM`."""
    return ItemRow(
        id=r["id"],
        name=r["name"],
        tenant=r["tenant"],
        batch=r["batch"],
        pipeline_id=r["pipeline_id"],
        key=r["key"],
        state=State(r["state"]),
        stage=r["stage"],
        attempt=r["attempt"],
        code=r["code"],
        why=r["why"],
        received_at=r["created_at"],
        deadline_at=r["deadline_at"],
        since=r["since"],
        until=r["until"],
        parent_id=r["parent_id"],
        joining=r["joining"],
    )


def decided_before(hold: HoldRow) -> Conflict:
    """The error a second decision gets: it names the first."""
    first = hold.decision
    if first is None:
        return Conflict(f"hold h{hold.id} is closed: its item was cancelled")
    return Conflict(
        f"hold h{hold.id} was decided before: {first.verb} by {first.author} "
        f"at {first.decided_at:%Y-%m-%d %H:%M:%S %Z}",
        code="DECIDED",
        hint=f"the first decision stands; see `waybill items show {hold.item_id}`",
    )


def check_names(tenant: str, batch: str) -> None:
    """
    Names become folders of the output: they must not lead out of it.

    Raises:
        Usage: BAD_NAME.
    """
    good = (
        all(is_component(name) for name in (tenant, *batch.split("/")))
        and is_text(tenant + batch)
        and len(tenant) <= 200
        and len(batch) <= 200
    )
    if not good:
        raise Usage(
            "a tenant or batch has a name that cannot be a folder",
            code="BAD_NAME",
            hint="use letters, digits, dots and dashes",
        )


class PostgresDesk:
    """The `Desk` half of the PostgreSQL store."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def register_pipeline(
        self, name: str, version: str, stages: Sequence[str], files: Mapping[str, str]
    ) -> int:
        """Pin a version; the same version twice is one row."""
        await self._db.fetch(
            """
            insert into pipelines (name, version, stages, files)
            values ($1, $2, $3, $4) on conflict (name, version) do nothing
            """,
            name,
            version,
            list(stages),
            json.dumps(dict(files)),
        )
        return int(
            await self._db.fetchval(
                "select id from pipelines where name = $1 and version = $2",
                name,
                version,
            )
        )

    async def open_batch(self, tenant: str, name: str, *, deadline_s: float) -> Batch:
        """The batch of this name, made when it is new."""
        check_names(tenant, name)

        async def work(con: Connection) -> Batch:
            await con.execute(
                "insert into tenants (name) values ($1) on conflict do nothing", tenant
            )
            await con.execute(
                """
                insert into batches (tenant_id, name, deadline_at)
                select id, $2, clock() + make_interval(secs => $3)
                  from tenants where name = $1
                on conflict (tenant_id, name) do nothing
                """,
                tenant,
                name,
                deadline_s,
            )
            row = await con.fetchrow(
                """
                select b.id, t.name as tenant, b.name, b.deadline_at
                  from batches b join tenants t on t.id = b.tenant_id
                 where t.name = $1 and b.name = $2
                """,
                tenant,
                name,
            )
            assert row is not None
            return Batch(*row.values())

        return await self._db.tx(work)

    async def admit(
        self, batch: Batch, pipeline_id: int, submissions: Sequence[Submission]
    ) -> list[Receipt]:
        """Receive files in one transaction; see the port."""

        async def work(con: Connection) -> list[Receipt]:
            return await receive(con, batch.id, pipeline_id, submissions)

        return await self._db.tx(work)

    async def counts(self, batch_id: int | None = None) -> Counts:
        """The conservation law's terms, from one snapshot."""
        [row] = await self._db.fetch(COUNTS, batch_id)
        return Counts(*(int(v) for v in row.values()))

    async def astray(self, batch_id: int | None = None) -> list[ItemId]:
        """Items in no state table, or in several; at most 100."""
        return [r["id"] for r in await self._db.fetch(ASTRAY, batch_id)]

    async def holds(
        self, *, decided: bool = False, tenant: str | None = None, limit: int = 100
    ) -> list[HoldRow]:
        """Open holds by deadline, or decided ones, newest first."""
        order = (
            " where d.hold_id is not null and ($1::text is null or t.name = $1)"
            " order by d.decided_at desc limit $2"
            if decided
            else " where h.open and ($1::text is null or t.name = $1)"
            " order by h.deadline_at, cardinality(h.needs) > 0, h.id limit $2"
        )
        return [hold_row(r) for r in await self._db.fetch(HOLD + order, tenant, limit)]

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

    async def claim_hold(
        self, hold_id: HoldId, author: str, *, lease_s: float
    ) -> HoldRow:
        """Lease an open hold to a reviewer; renews the reviewer's own lease."""
        rows = await self._db.fetch(
            """
            update holds set claimed_by = $2,
                   claimed_until = clock() + make_interval(secs => $3)
             where id = $1 and open
               and (claimed_by is null or claimed_by = $2 or claimed_until <= clock())
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
            "update holds set claimed_by = null, claimed_until = null"
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
    ) -> HoldRow:
        """Rule on a hold; see the port."""

        async def work(con: Connection) -> None:
            await con.fetchval("select 1 from holds where id = $1 for update", hold_id)
            rows = await con.fetch(HOLD + " where h.id = $1", hold_id)
            if not rows:
                raise NotFound(f"no hold h{hold_id}")
            hold = hold_row(rows[0])
            still = await con.fetchval("select open from holds where id = $1", hold_id)
            if hold.decision is not None or not still:
                raise decided_before(hold)
            if hold.claimed_by not in (None, author):
                raise taken(hold)
            if hold.digest != digest:
                raise stale(hold)
            await con.execute(DECIDE, hold_id, verb, author, reason, digest, update)

        await self._db.tx(work)
        return await self.hold(hold_id)

    async def cancel(self, items: Sequence[ItemId], author: str) -> dict[ItemId, str]:
        """Cancel what is parked; ask the workers of what is running."""

        async def work(con: Connection) -> dict[ItemId, str]:
            ids = sorted(set(items))
            said = dict.fromkeys(ids, "final")
            left = ids
            # An item may move on between two statements: what neither found and
            # nothing ended is looked for again.
            for _ in range(CANCEL_LOOKS):
                for row in await con.fetch(CANCEL_PARKED, left, author):
                    said[row["item_id"]] = "cancelled"
                for row in await con.fetch(CANCEL_RUNNING, left, author):
                    said[row["item_id"]] = "cancelling"
                left = [i for i in left if said[i] == "final"]
                rows = await con.fetch(UNENDED, left) if left else []
                left = [row["id"] for row in rows]
                if not left:
                    break
            return said

        return await self._db.tx(work)

    async def retry(self, items: Sequence[ItemId], author: str) -> dict[ItemId, str]:
        """Put finished-but-not-done items back in line."""
        rows = await self._db.fetch(RETRY, sorted(set(items)), author)
        moved = {r["item_id"] for r in rows}
        return {i: "ready" if i in moved else "not final" for i in items}

    async def item(self, item_id: ItemId) -> ItemRow:
        """One item; raises NotFound."""
        rows = await self._db.fetch(ITEM + " where i.id = $1", item_id)
        if not rows:
            raise NotFound(
                f"no item {item_id}", hint="`waybill items ls` lists the items"
            )
        return item_row(rows[0])


def taken(hold: HoldRow) -> Conflict:
    """Another reviewer is reading this hold."""
    return Conflict(
        f"hold h{hold.id} is claimed by {hold.claimed_by} until "
        f"{hold.claimed_until:%H:%M:%S %Z}",
        code="CLAIMED",
        hint="`waybill review next` gives you another",
    )


def stale(hold: HoldRow) -> Conflict:
    """What was shown is not what is held now."""
    return Conflict(
        f"hold h{hold.id} is not what you were shown: its digest is {hold.digest[:12]}",
        code="STALE",
        hint=f"look again: `waybill review show h{hold.id}`",
    )
