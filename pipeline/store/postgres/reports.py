"""
What people look at: lists, timelines, the state of the whole.

Reads only; each is one statement, bounded, and never on the hot path.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, NamedTuple

from pipeline.errors import NotFound
from pipeline.model import ItemId
from pipeline.store.database import Database
from pipeline.store.port import FinishedRow, ItemRow, WorkRow
from pipeline.store.postgres.holds import ITEM, item_row

STATES = {
    "ready": "r.item_id is not null",
    "running": "u.item_id is not null",
    "waiting": "(w.item_id is not null or j.item_id is not null)",
    "held": "h.item_id is not null",
    "done": "o.state = 'done'",
    "rejected": "o.state = 'rejected'",
    "failed": "o.state = 'failed'",
    "cancelled": "o.state = 'cancelled'",
}


class BatchRow(NamedTuple):
    """A batch as `batches ls` shows it."""

    id: int
    tenant: str
    name: str
    created_at: datetime
    deadline_at: datetime


class RefusedRow(NamedTuple):
    """A quarantined file."""

    id: int
    tenant: str
    batch: str
    name: str
    code: str
    why: str
    kept_at: str
    size_bytes: int
    at: datetime


class StageRow(NamedTuple):
    """One line of `status`: a stage and what stands there."""

    stage: str
    ready: int
    running: int
    waiting: int
    held: int


class Event(NamedTuple):
    """One line of an item's timeline."""

    at: datetime
    event: str
    stage: str
    actor: str
    detail: str
    took_s: float | None


class PostgresReads:
    """Reports over the tables; a part of the PostgreSQL store."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def items(
        self,
        *,
        state: str | None = None,
        batch_id: int | None = None,
        tenant: str | None = None,
        parent: ItemId | None = None,
        limit: int = 50,
    ) -> list[ItemRow]:
        """Newest first; `state` is one of the eight words."""
        where = "true" if state is None else STATES[state]
        rows = await self._db.fetch(
            ITEM
            + f" where {where}"
            + " and ($1::bigint is null or i.batch_id = $1)"
            + " and ($2::text is null or t.name = $2)"
            + " and ($4::bigint is null or i.parent_id = $4)"
            + " order by i.id desc limit $3",
            batch_id,
            tenant,
            limit,
            parent,
        )
        return [item_row(r) for r in rows]

    async def children(self, parent: ItemId) -> dict[str, int]:
        """How many children of an item are in which state; {} when it has none."""
        rows = await self._db.fetch(
            """
            with k as (select id from items where parent_id = $1)
            select state, count(*) as n
              from (select 'ready' as state from ready r join k on k.id = r.item_id
                    union all
                    select 'running' from running u join k on k.id = u.item_id
                    union all
                    select 'waiting' from waiting w join k on k.id = w.item_id
                    union all
                    select 'waiting' from joining j join k on k.id = j.item_id
                    union all
                    select 'held' from holds h join k on k.id = h.item_id and h.open
                    union all
                    select o.state from outcomes o join k on k.id = o.item_id) s
             group by state
            """,
            parent,
        )
        found = {r["state"]: r["n"] for r in rows}
        return {state: found[state] for state in STATES if state in found}

    async def joining(self, batch_id: int) -> int:
        """How many items of a batch wait for children that are not final."""
        return int(
            await self._db.fetchval(
                """
                select count(*) from joining j join items i on i.id = j.item_id
                 where i.batch_id = $1
                   and exists (select from open_children k
                                where k.parent_id = j.item_id)
                """,
                batch_id,
            )
        )

    async def in_work(
        self, *, batch_id: int | None = None, longer_than: int = 0, limit: int = 5
    ) -> list[WorkRow]:
        """The longest that are worked on now, and how far they are."""
        rows = await self._db.fetch(
            """
            select r.item_id, i.name, r.stage, p.done, p.total
              from running_now r
              join progress p on p.item_id = r.item_id and p.stage = r.stage
              join items i on i.id = r.item_id
             where p.total > $2 and ($1::bigint is null or i.batch_id = $1)
             order by p.total desc, r.item_id limit $3
            """,
            batch_id,
            longer_than,
            limit,
        )
        return [WorkRow(*r.values()) for r in rows]

    async def batches(self, *, limit: int = 50) -> list[BatchRow]:
        """Newest first."""
        rows = await self._db.fetch(
            """
            select b.id, t.name as tenant, b.name, b.created_at, b.deadline_at
              from batches b join tenants t on t.id = b.tenant_id
             order by b.id desc limit $1
            """,
            limit,
        )
        return [BatchRow(*r.values()) for r in rows]

    async def find_batch(self, name: str) -> BatchRow:
        """
        By number, by `tenant/name`, or by a name that only one tenant has.

        Raises:
            NotFound: none, or several, are called so.
        """
        tenant, slash, rest = name.rpartition("/")
        rows = await self._db.fetch(
            """
            select b.id, t.name as tenant, b.name, b.created_at, b.deadline_at
              from batches b join tenants t on t.id = b.tenant_id
             where (b.name = $1 and ($2::text is null or t.name = $2))
                or b.id::text = $3
            """,
            rest if slash else name,
            tenant if slash else None,
            name,
        )
        if len(rows) != 1:
            what = "no batch" if not rows else f"{len(rows)} batches are called"
            raise NotFound(
                f"{what} {name}",
                hint="`waybill batches ls` lists them; name one as TENANT/NAME",
            )
        return BatchRow(*rows[0].values())

    async def batch(self, batch_id: int) -> BatchRow:
        """One batch by its number; raises NotFound."""
        rows = await self._db.fetch(
            """
            select b.id, t.name as tenant, b.name, b.created_at, b.deadline_at
              from batches b join tenants t on t.id = b.tenant_id where b.id = $1
            """,
            batch_id,
        )
        if not rows:
            raise NotFound(f"no batch {batch_id}")
        return BatchRow(*rows[0].values())

    async def quarantined(
        self, *, batch_id: int | None = None, limit: int = 50
    ) -> list[RefusedRow]:
        """Files that could not be taken, newest first."""
        rows = await self._db.fetch(
            """
            select r.id, t.name as tenant, b.name as batch, r.name, r.code, r.why,
                   r.kept_at, r.size_bytes, r.at
              from receipts r
              join batches b on b.id = r.batch_id
              join tenants t on t.id = b.tenant_id
             where r.disposal = 'quarantined'
               and ($1::bigint is null or r.batch_id = $1)
             order by r.id desc limit $2
            """,
            batch_id,
            limit,
        )
        return [RefusedRow(*r.values()) for r in rows]

    async def stages(self, batch_id: int | None = None) -> list[StageRow]:
        """What stands at each stage now."""
        rows = await self._db.fetch(
            """
            with p as (
              select item_id, stage, 'ready' as state from ready
              union all
              select item_id, stage, 'running' from running_now
              union all select item_id, stage, 'waiting' from waiting
              union all select item_id, stage, 'waiting' from joining
              union all select item_id, stage, 'held' from holds where open)
            select p.stage,
                   count(*) filter (where state = 'ready') as ready,
                   count(*) filter (where state = 'running') as running,
                   count(*) filter (where state = 'waiting') as waiting,
                   count(*) filter (where state = 'held') as held
              from p
             where $1::bigint is null
                or exists (select from items i
                            where i.id = p.item_id and i.batch_id = $1)
             group by p.stage order by p.stage
            """,
            batch_id,
        )
        return [StageRow(*r.values()) for r in rows]

    async def timeline(self, item: ItemId, *, limit: int = 500) -> list[Event]:
        """Everything recorded about one item, oldest first."""
        rows = await self._db.fetch(
            """
            select at, event, stage, actor, code as detail, null::real as took_s
              from audit where item_id = $1
            union all
            select at, case when step is not null then 'step'
                            when worker_id is null then 'ruled' else 'stage' end,
                   stage, coalesce(worker_id::text, 'reviewer'),
                   coalesce(step, case when next_stage = '' then 'end'
                                       else '→ ' || next_stage end), took_s
              from checkpoints where item_id = $1
            union all
            select at, case when charged then 'attempt' else 'setback' end, stage,
                   coalesce(worker_id::text, ''), code || ': ' || message, null
              from attempts where item_id = $1
            union all
            select d.decided_at, d.verb, h.stage, d.author, d.reason, null
              from decisions d join holds h on h.id = d.hold_id where h.item_id = $1
            order by at limit $2
            """,
            item,
            limit,
        )
        return [Event(*r.values()) for r in rows]

    async def facts(self, item: ItemId) -> tuple[int, str]:
        """The item's pipeline id and its input as JSON text; raises NotFound."""
        rows = await self._db.fetch(
            "select pipeline_id, input from items where id = $1", item
        )
        if not rows:
            raise NotFound(f"no item {item}", hint="`waybill items ls` lists the items")
        return rows[0]["pipeline_id"], rows[0]["input"]

    async def ahead(self, item: ItemId) -> int:
        """How many ready items of its tenant and stage come before this one."""
        return int(
            await self._db.fetchval(
                """
                select count(*) from ready me
                  join ready r on r.stage = me.stage and r.tenant_id = me.tenant_id
                   and (r.deadline_at, r.item_id) < (me.deadline_at, me.item_id)
                 where me.item_id = $1
                """,
                item,
            )
        )

    async def finished(self, batch_id: int, product: str) -> list[FinishedRow]:
        """Done items of a batch, each with its product of this name."""
        rows = await self._db.fetch(
            """
            select i.id, i.name, o.at, p.artifact, coalesce(p.facts, '{}') as facts
              from items i join outcomes o on o.item_id = i.id
              left join products p on p.item_id = i.id and p.name = $2
             where i.batch_id = $1 and o.state = 'done' order by i.id
            """,
            batch_id,
            product,
        )
        return [
            FinishedRow(
                r["id"], r["name"], r["at"], r["artifact"], json.loads(r["facts"])
            )
            for r in rows
        ]

    async def health(self) -> dict[str, Any]:
        """What `doctor` asks the server."""
        [row] = await self._db.fetch(
            """
            select current_setting('server_version') as server,
                   current_setting('fsync') as fsync,
                   current_setting('synchronous_commit') as synchronous_commit,
                   current_user::text as role,
                   (select rolsuper or rolbypassrls from pg_roles
                     where rolname = current_user) as bypasses,
                   extract(epoch from clock_timestamp())::float8 as now_s,
                   (select count(*) from workers where lease_until > clock())
                     as workers
            """
        )
        return dict(row)

    async def schema_version(self) -> int:
        """The newest applied migration's number; 0 on an empty database."""
        if await self._db.fetchval("select to_regclass('waybill.migrations')") is None:
            return 0
        newest = await self._db.fetchval("select max(number) from migrations")
        return int(newest or 0)
