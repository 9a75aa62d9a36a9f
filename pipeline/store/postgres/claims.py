"""Taking items out of the line in PostgreSQL, fairly and never twice."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import asyncpg

from pipeline.errors import DeadlinePassed, LeaseLost, NotFound
from pipeline.model import Checkpoint, Claim, Item, ItemId, WorkerId
from pipeline.store.database import Database, Topic
from pipeline.store.port import HISTORY_BYTES, TENANTS_MIN
from pipeline.store.postgres.budgets import Rested
from pipeline.store.postgres.counts import FOLD
from pipeline.store.postgres.holds import let_lapse
from pipeline.store.postgres.sessions import ALIVE
from pipeline.store.postgres.suspects import NEXT, WAITING
from pipeline.store.rows import KinRow, PipelineRow, Share

# Some of the tenants in line, by loose index scan from $2 on: as many as there is room
# for, however many there are.
IN_LINE = """
with recursive line as (
  (select tenant_id, 1 as n from waybill.ready
    where stage = $1 and strikes < 2 and tenant_id > $2
    order by tenant_id limit 1)
  union all
  select (select r.tenant_id from waybill.ready r
           where r.stage = $1 and r.strikes < 2 and r.tenant_id > l.tenant_id
           order by r.tenant_id limit 1), l.n + 1
    from line l where l.tenant_id is not null and l.n < $3)
select l.tenant_id as id,
       (select t.name from waybill.tenants t where t.id = l.tenant_id) as name
  from line l where l.tenant_id is not null
"""

# What was locked leaves the line for this worker's hands.
TAKEN = """
gone as (
  delete from waybill.ready r using locked k where r.item_id = k.item_id returning r.*),
taken as (
  insert into waybill.running (item_id, stage, tenant_id, deadline_at, seq, attempt,
                       strikes, solo, worker_id)
  select item_id, stage, tenant_id, deadline_at, seq, attempt, strikes, {solo}, {worker}
    from gone)
select g.item_id, g.stage, g.seq, g.attempt, i.pipeline_id, i.name, i.input,
       t.name as tenant, b.name as batch, b.trial is not null as trial,
       extract(epoch from g.deadline_at - waybill.clock())::float8 as left_s
  from gone g
  join waybill.items i on i.id = g.item_id
  join waybill.tenants t on t.id = g.tenant_id
  join waybill.batches b on b.id = i.batch_id
"""

# Each tenant's most urgent by lateral top-k (twice its fair part: others may have less
# than theirs), then a FIXED set locked: `limit` with `skip locked` past a head, or
# `in (select … limit)`, may take more than it was asked.
CLAIM = """
with alive as materialized (
  select 1 from waybill.workers
    where id = $3 and lease_until > waybill.clock() for key share),
standing as (
  select s.tenant_id, s.served, s.weight, sum(s.weight) over () as weights
    from unnest($4::int[], $5::float8[], $6::float8[]) s(tenant_id, served, weight)
   where exists (select from alive)),
head as (
  select h.item_id, h.deadline_at, t.served + h.n / t.weight as turn
    from standing t
   cross join lateral (
     select r.item_id, r.deadline_at,
            row_number() over (order by r.deadline_at, r.item_id) as n
       from (select item_id, deadline_at from waybill.ready
              where stage = $1 and tenant_id = t.tenant_id and strikes < 2
              order by deadline_at, item_id
              limit greatest(4, ceil(2 * $2 * t.weight / t.weights)::bigint)
            ) r) h),
pick as materialized (
  select item_id from head order by turn, deadline_at limit $2),
locked as materialized (
  select r.item_id from waybill.ready r where r.item_id in (select item_id from pick)
     for update skip locked),
""" + TAKEN.format(solo="false", worker="$3")

# What is late stands first in line, and more of it comes in an overload than a worker
# can take and end one by one: it would do nothing else.
END_LATE = """
with late as materialized (
  select r.item_id
    from unnest($2::int[]) t(tenant_id)
   cross join lateral (
     select item_id from waybill.ready
      where stage = $1 and tenant_id = t.tenant_id and strikes < 2
        and deadline_at <= waybill.clock()
      order by deadline_at, item_id limit $3 for update skip locked) r
   where exists (select from waybill.workers
                  where id = $4 and lease_until > waybill.clock())),
gone as (
  delete from waybill.ready r using late l where r.item_id = l.item_id
  returning r.item_id, r.stage),
ended as (
  insert into waybill.outcomes (item_id, state, stage, code, why)
  select item_id, 'failed', stage, $5, $6 from gone),
noted as (
  insert into waybill.audit (item_id, event, stage, actor, code)
  select item_id, 'failed', stage, $4::uuid::text, $5 from gone)
select count(*) from gone
"""
LATE_MAX = 1000  # of a tenant, at once
LATE_TIMES = 20  # in a claim; the next one ends more

CLAIM_SUSPECTS = NEXT + TAKEN.format(
    solo="(select count(*) = 1 from locked)", worker="$2"
)

# One slice of histories.  How large an update is as it is stored says its column,
# without reading it.
HISTORY = """
select item_id, seq, stage, step, update, ref, next_stage, took_s, there
  from (select c.*, count(*) over () as there,
               sum(size) over (order by item_id, seq) - size as before
          from (select item_id, seq, stage, step, update, ref, next_stage, took_s,
                       coalesce(pg_column_size(update), 0) as size
                  from waybill.checkpoints
                 where item_id = any($1::bigint[]) and (item_id, seq) > ($2, $3)
                 order by item_id, seq limit 2000) c) s
 where before < $4 order by item_id, seq
"""
HISTORY_ROWS = 2000  # of a slice: none is larger than an update may be

KIN = """
select i.id, i.name, i.input, o.state, coalesce(o.stage, '') as stage,
       coalesce(o.code, '') as code
  from waybill.items i left join waybill.outcomes o on o.item_id = i.id
 where i.parent_id = $1 and {only}
 order by i.id
"""


class PostgresClaims(Topic):
    """Taking items out of the line, and what a worker must know to go on with them."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._looked_at: dict[str, int] = {}  # the last tenant of each line
        self._rested = Rested(database)

    async def claim(
        self,
        worker: WorkerId,
        stage: str,
        limit: int,
        shares: Mapping[str, Share],
        *,
        suspects: bool = False,
    ) -> list[Claim]:
        """Take items; see the port."""
        if suspects:
            rows = await self._db.fetch(CLAIM_SUSPECTS, stage, worker, limit)
        else:
            tenants = await self._in_line(stage, max(limit, TENANTS_MIN))
            floor = min((s.served for s in shares.values()), default=0.0)
            level = Share(floor, 1.0)
            standing = [shares.get(name, level) for name in tenants.values()]
            rows = await self._db.fetch(
                CLAIM,
                stage,
                limit,
                worker,
                list(tenants),
                [s.served for s in standing],
                [s.weight for s in standing],
            )
            if any(r["left_s"] <= 0 for r in rows):
                await self._end_late(worker, stage, list(tenants))
        if not rows and await self._db.fetchval(ALIVE, worker) is None:
            raise LeaseLost("this worker's lease ran out")
        solo = suspects and len(rows) == 1
        return [
            Claim(
                Item(
                    r["item_id"],
                    r["tenant"],
                    r["batch"],
                    r["pipeline_id"],
                    r["name"],
                    json.loads(r["input"]),
                    r["trial"],
                ),
                r["stage"],
                r["seq"],
                r["attempt"],
                r["left_s"],
                solo,
            )
            for r in rows
        ]

    async def _end_late(
        self, worker: WorkerId, stage: str, tenants: Sequence[int]
    ) -> None:
        """End what these tenants have in line that is past its deadline."""
        why = (DeadlinePassed.code, DeadlinePassed.in_line)
        for _ in range(LATE_TIMES):
            ended = await self._db.fetchval(
                END_LATE, stage, tenants, LATE_MAX, worker, *why
            )
            if ended < LATE_MAX:
                return

    async def _in_line(self, stage: str, most: int) -> dict[int, str]:
        """Tenants who have something in line: `most` after those of the last time."""
        after = self._looked_at.get(stage, 0)
        rows = await self._db.fetch(IN_LINE, stage, after, most)
        if after and len(rows) < most:
            again = await self._db.fetch(IN_LINE, stage, 0, most - len(rows))
            rows += [r for r in again if r["id"] <= after]
        found = {r["id"]: r["name"] for r in rows}
        self._looked_at[stage] = rows[-1]["id"] if len(rows) == most else 0
        return found

    async def lines(self) -> list[str]:
        """The stages at which something is ready, by loose index scan."""
        rows = await self._db.fetch(
            """
            with recursive line as (
              (select stage from waybill.ready where strikes < 2 order by stage limit 1)
              union all
              select (select r.stage from waybill.ready r
                       where r.strikes < 2 and r.stage > l.stage
                       order by r.stage limit 1)
                from line l where l.stage is not null)
            select stage from line where stage is not null
            """
        )
        return [r["stage"] for r in rows]

    async def suspects(self) -> list[tuple[str, float]]:
        """Ready items that run beside no others, longest waiting first."""
        rows = await self._db.fetch(WAITING)
        return [(r["stage"], r["age_s"]) for r in rows]

    async def wake(self, limit: int = 1000) -> tuple[int, float | None]:
        """Due items go back in line, and those whose children are final."""
        rows = await self._db.fetch(
            """
            with due as materialized (
              select item_id from waybill.waiting where until <= waybill.clock()
               order by until limit $1 for update skip locked),
            joined as materialized (
              select j.item_id from waybill.joining j
               where not exists (select from waybill.open_children k
                                  where k.parent_id = j.item_id)
               limit $1 for update of j skip locked),
            late as materialized (
              select item_id from waybill.joining where deadline_at <= waybill.clock()
               order by deadline_at limit $1 for update skip locked),
            gone as (
              delete from waybill.waiting w using due d where w.item_id = d.item_id
              returning w.item_id, w.stage, w.tenant_id, w.deadline_at, w.seq,
                        w.attempt, w.strikes),
            met as (
              delete from waybill.joining j
               using (select * from joined union select * from late) d
               where j.item_id = d.item_id
              returning j.item_id, j.stage, j.tenant_id, j.deadline_at, j.seq,
                        j.attempt, 0),
            back as (
              insert into waybill.ready (item_id, stage, tenant_id, deadline_at, seq,
                attempt, strikes)
              select * from gone union all select * from met
              returning 1)
            select (select count(*) from back) as moved,
                   extract(epoch from least(
                     (select min(until) from waybill.waiting
                       where until > waybill.clock()),
                     (select min(deadline_at) from waybill.joining
                       where deadline_at > waybill.clock()))
                         - waybill.clock())::float8 as next_s
            """,
            limit,
        )
        await self._db.fetch(FOLD)
        rested = await self._rested.wake(limit)
        lapsed, lapse_s = await let_lapse(self._db, limit)
        moved = rows[0]["moved"] + rested + lapsed
        times = [s for s in (rows[0]["next_s"], lapse_s) if s is not None]
        return moved, min(times, default=None)

    async def history(
        self, items: Sequence[ItemId], *, slices: int | None = None
    ) -> dict[ItemId, list[Checkpoint]]:
        """Checkpoints of these items, in order; see the port."""
        ids = sorted(set(items))
        found: dict[ItemId, list[Checkpoint]] = {item: [] for item in ids}
        last = (0, -1)
        read = 0
        while ids and read != slices:
            rows = await self._db.fetch(HISTORY, ids, *last, HISTORY_BYTES)
            read += 1
            for row in rows:
                item, *facts, _ = row.values()
                found[item].append(Checkpoint(*facts))
            if not rows or len(rows) == rows[0]["there"] < HISTORY_ROWS:
                return found
            last = rows[-1]["item_id"], rows[-1]["seq"]
            ids = [item for item in ids if item >= last[0]]
        return {item: kept for item, kept in found.items() if item not in ids}

    async def result_of(self, item: ItemId, seq: int) -> str:
        """The update of a checkpoint."""
        found = await self._db.fetchval(
            "select update from waybill.checkpoints where item_id = $1 and seq = $2",
            item,
            seq,
        )
        if found is None:
            raise NotFound(f"item {item} has no checkpoint {seq} with an update")
        return str(found)

    async def open_children(self, parent: ItemId) -> int:
        """How many children of this item are not final."""
        return int(
            await self._db.fetchval(
                "select count(*) from waybill.open_children where parent_id = $1",
                parent,
            )
        )

    async def kin(
        self, parent: ItemId, only: Sequence[ItemId] | None = None
    ) -> list[KinRow]:
        """The children of this item, by id."""
        rows = (
            await self._db.fetch(KIN.format(only="true"), parent)
            if only is None
            else await self._db.fetch(
                KIN.format(only="i.id = any($2::bigint[])"), parent, list(only)
            )
        )
        return [
            KinRow(
                r["id"],
                r["name"],
                json.loads(r["input"]),
                r["state"],
                r["stage"],
                r["code"],
            )
            for r in rows
        ]

    async def pipeline(self, pipeline_id: int) -> PipelineRow:
        """A pinned pipeline version."""
        rows = await self._db.fetch(f"{PIPELINE} where id = $1", pipeline_id)
        if not rows:
            raise NotFound(f"no pipeline {pipeline_id}")
        return pipeline_row(rows[0])

    async def pipelines(self) -> list[PipelineRow]:
        """Every pinned version there is."""
        return [pipeline_row(r) for r in await self._db.fetch(PIPELINE)]

    async def weights(self) -> dict[str, float]:
        """Every tenant's weight."""
        rows = await self._db.fetch("select name, weight from waybill.tenants")
        return {r["name"]: r["weight"] for r in rows}


PIPELINE = "select id, name, version, stages, files from waybill.pipelines"


def pipeline_row(r: asyncpg.Record) -> PipelineRow:
    """A row of `PIPELINE`."""
    files = json.loads(r["files"])
    return PipelineRow(r["id"], r["name"], r["version"], list(r["stages"]), files)
