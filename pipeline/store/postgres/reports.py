"""
What people look at: the stages, what is worked on, batches, quarantine, the server.

Reads only; each is one statement, bounded, and never on the hot path.
"""

from __future__ import annotations

import json
from typing import Any

from pipeline.errors import NotFound
from pipeline.store.database import Topic
from pipeline.store.rows import BatchRow, FinishedRow, RefusedRow, StageRow, WorkRow

BATCH = """
select b.id, t.name as tenant, b.name, b.created_at, b.deadline_at
  from waybill.batches b join waybill.tenants t on t.id = b.tenant_id
"""


class PostgresReports(Topic):
    """The state of the whole."""

    async def stages(self, batch_id: int | None = None) -> list[StageRow]:
        """What stands at each stage now."""
        rows = await self._db.fetch(
            """
            with p as (
              select item_id, stage, 'ready' as state from waybill.ready
              union all
              select item_id, stage, 'running' from waybill.running_now
              union all select item_id, stage, 'waiting' from waybill.waiting
              union all select item_id, stage, 'waiting' from waybill.joining
              union all select item_id, stage, 'held' from waybill.holds where open)
            select p.stage,
                   count(*) filter (where state = 'ready') as ready,
                   count(*) filter (where state = 'running') as running,
                   count(*) filter (where state = 'waiting') as waiting,
                   count(*) filter (where state = 'held') as held
              from p
             where $1::bigint is null
                or exists (select from waybill.items i
                            where i.id = p.item_id and i.batch_id = $1)
             group by p.stage order by p.stage
            """,
            batch_id,
        )
        return [StageRow(*r.values()) for r in rows]

    async def in_work(
        self, *, batch_id: int | None = None, longer_than: int = 0, limit: int = 5
    ) -> list[WorkRow]:
        """The longest that are worked on now, and how far they are."""
        rows = await self._db.fetch(
            """
            select r.item_id, i.name, r.stage, p.done, p.total
              from waybill.running_now r
              join waybill.progress p on p.item_id = r.item_id and p.stage = r.stage
              join waybill.items i on i.id = r.item_id
             where p.total > $2 and ($1::bigint is null or i.batch_id = $1)
             order by p.total desc, r.item_id limit $3
            """,
            batch_id,
            longer_than,
            limit,
        )
        return [WorkRow(*r.values()) for r in rows]

    async def finished(self, batch_id: int, product: str) -> list[FinishedRow]:
        """Done items of a batch, each with its product of this name."""
        rows = await self._db.fetch(
            """
            select i.id, i.name, o.at, p.artifact, coalesce(p.facts, '{}') as facts
              from waybill.items i join waybill.outcomes o on o.item_id = i.id
              left join waybill.products p on p.item_id = i.id and p.name = $2
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

    async def batches(self, *, limit: int = 50) -> list[BatchRow]:
        """Newest first."""
        rows = await self._db.fetch(BATCH + " order by b.id desc limit $1", limit)
        return [BatchRow(*r.values()) for r in rows]

    async def find_batch(self, name: str) -> BatchRow:
        """
        By number, by `tenant/name`, or by a name that only one tenant has.

        Raises:
            NotFound: none, or several, are called so.
        """
        tenant, slash, rest = name.rpartition("/")
        rows = await self._db.fetch(
            BATCH + " where (b.name = $1 and ($2::text is null or t.name = $2))"
            " or b.id::text = $3",
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
        rows = await self._db.fetch(BATCH + " where b.id = $1", batch_id)
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
              from waybill.receipts r
              join waybill.batches b on b.id = r.batch_id
              join waybill.tenants t on t.id = b.tenant_id
             where r.disposal = 'quarantined'
               and ($1::bigint is null or r.batch_id = $1)
             order by r.id desc limit $2
            """,
            batch_id,
            limit,
        )
        return [RefusedRow(*r.values()) for r in rows]

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
                   (select count(*) from waybill.workers
                     where lease_until > waybill.clock())
                     as workers
            """
        )
        return dict(row)

    async def schema_version(self) -> int:
        """The newest applied migration's number; 0 on an empty database."""
        if await self._db.fetchval("select to_regclass('waybill.migrations')") is None:
            return 0
        newest = await self._db.fetchval("select max(number) from waybill.migrations")
        return int(newest or 0)
