"""
What people look at: what is worked on, batches, quarantine, the server.

Reads only, of bounded statements, and never on the hot path.
"""

from __future__ import annotations

import json
from typing import Any

from pipeline.errors import NotFound
from pipeline.store.database import Topic
from pipeline.store.postgres.counts import SLICE
from pipeline.store.rows import BatchRow, FinishedRow, RefusedRow, WorkRow

BATCH = """
select b.id, t.name as tenant, b.name, b.created_at, b.deadline_at
  from waybill.batches b join waybill.tenants t on t.id = b.tenant_id
"""

# In work are no more than workers carry, whatever stands in the other tables.
IN_WORK = """
select r.item_id, i.name, r.stage, p.done, p.total
  from waybill.running_now r
  join waybill.progress p on p.item_id = r.item_id and p.stage = r.stage
  join waybill.items i on i.id = r.item_id
 where p.total > $1 and {of}
 order by p.total desc, r.item_id limit $2
"""

# `limit 1`: look-ups by key, whatever the planner believes a slice to be.
FINISHED = """
with slice as materialized (
  select id, name from waybill.items where batch_id = $1 and id > $3
   order by id limit $4)
select i.id, i.name, o.state, o.at, p.artifact, coalesce(p.facts, '{}') as facts
  from slice i
  left join lateral (select state, at from waybill.outcomes
                      where item_id = i.id limit 1) o on true
  left join lateral (select artifact, facts from waybill.products
                      where item_id = i.id and name = $2 limit 1) p on true
 order by i.id
"""

REFUSED = """
select r.id, t.name as tenant, b.name as batch, r.name, r.code, r.why, r.kept_at,
       r.size_bytes, r.at
  from waybill.receipts r
  join waybill.batches b on b.id = r.batch_id
  join waybill.tenants t on t.id = b.tenant_id
 where r.disposal = 'quarantined' and {of}
 order by r.id desc limit $1
"""


class PostgresReports(Topic):
    """The state of the whole."""

    async def in_work(
        self, *, batch_id: int | None = None, longer_than: int = 0, limit: int = 5
    ) -> list[WorkRow]:
        """The longest that are worked on now, and how far they are."""
        rows = (
            await self._db.fetch(IN_WORK.format(of="true"), longer_than, limit)
            if batch_id is None
            else await self._db.fetch(
                IN_WORK.format(of="i.batch_id = $3"), longer_than, limit, batch_id
            )
        )
        return [WorkRow(*r.values()) for r in rows]

    async def finished(self, batch_id: int, product: str) -> list[FinishedRow]:
        """Done items of a batch, each with its product of this name; in slices."""
        found: list[FinishedRow] = []
        last = 0
        while rows := await self._db.fetch(FINISHED, batch_id, product, last, SLICE):
            last = rows[-1]["id"]
            found += [
                FinishedRow(
                    r["id"], r["name"], r["at"], r["artifact"], json.loads(r["facts"])
                )
                for r in rows
                if r["state"] == "done"
            ]
        return found

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
        called = [rest, tenant] if slash else [name]
        rows = await self._db.fetch(
            f"{BATCH} where b.name = $1 {'and t.name = $2' if slash else ''}", *called
        )
        if name.isdecimal() and len(name) < 19:
            rows += await self._db.fetch(f"{BATCH} where b.id = $1", int(name))
        rows = list({row["id"]: row for row in rows}.values())
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
        rows = (
            await self._db.fetch(REFUSED.format(of="true"), limit)
            if batch_id is None
            else await self._db.fetch(
                REFUSED.format(of="r.batch_id = $2"), limit, batch_id
            )
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
        """
        The newest applied migration's number.

        Raises:
            StoreUnavailable: the database holds no Waybill, or this role sees none.
        """
        newest = await self._db.fetchval("select max(number) from waybill.migrations")
        return int(newest or 0)
