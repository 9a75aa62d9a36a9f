"""
What people look at: what is worked on, batches, quarantine, the server.

Reads only, of bounded statements, and never on the hot path.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from pipeline.errors import NotFound
from pipeline.model import ItemId
from pipeline.names import number_in
from pipeline.store.database import Topic
from pipeline.store.postgres.counts import counts_row
from pipeline.store.rows import BatchRow, Family, ProductRow, RefusedRow, WorkRow

BATCH = """
select b.id, t.name as tenant, b.name, b.created_at, b.deadline_at,
       b.trial is not null as trial
  from waybill.batches b join waybill.tenants t on t.id = b.tenant_id
"""

# In work are no more than workers carry, whatever stands in the other tables.
IN_WORK = """
select r.item_id, i.name, r.stage, p.done, p.total
  from waybill.running_now r
  join waybill.progress p on p.item_id = r.item_id and p.stage = r.stage
  join waybill.items i on i.id = r.item_id
 where p.total > $1 and p.waits_for = '' and {of}
 order by p.total desc, r.item_id limit $2
"""

UNDER_WAY = """
with place as (
  select item_id from waybill.ready
   union all select item_id from waybill.running
   union all select item_id from waybill.waiting
   union all select item_id from waybill.joining
   union all select item_id from waybill.holds where open),
version as (
  select i.pipeline_id, count(*) as n
    from place join waybill.items i on i.id = place.item_id group by 1)
select p.name, p.version, v.n from version v
  join waybill.pipelines p on p.id = v.pipeline_id order by 1, p.id
"""

# The item that a refused file has become since: by its delivery, looked at again, or
# by its bytes.  Few pipelines: a look into the index for each.  One that was itself
# refused for that, as the part of a bundle, took nothing in.
LATER = """
(select item_id from waybill.receipts
  where token = split_part(r.token, '/in/', 1) || '/again')
union all
(select i.id from waybill.items i
  where i.tenant_id = b.tenant_id and i.key = r.key
    and i.pipeline = any(array(select distinct name from waybill.pipelines))
    and i.created_at > r.at
    and not exists (select from waybill.outcomes o
                     where o.item_id = i.id and o.state = 'rejected'
                       and o.code = r.code)
  limit 1)
limit 1
"""

REFUSED = """
select r.id, t.name as tenant, b.name as batch, r.name, r.code, r.why, r.kept_at,
       r.size_bytes, r.at, l.item_id as item
  from waybill.receipts r
  join waybill.batches b on b.id = r.batch_id
  join waybill.tenants t on t.id = b.tenant_id
  left join lateral ({later}) l on true
 where r.disposal = 'quarantined' and ($2 or l.item_id is null) and {of}
 order by r.id desc limit $1
"""


# Of a part that became no item only the receipt is left: its token begins with its
# bundle's number, as `Spawn.token` says.
FAMILY = """
with recursive family(id) as (
  select unnest($1::bigint[])
   union
  select i.id from waybill.items i join family f on i.parent_id = f.id),
part as (
  select r.disposal from waybill.receipts r
   where r.batch_id in (select batch_id from waybill.items where id = any($1::bigint[]))
     and r.disposal <> 'item' and position('/' in r.token) > 0
     and split_part(r.token, '/', 1) in (select id::text from family)),
place as (
  select 'ready' as state from waybill.ready
   where item_id = any(array(select id from family))
   union all
  select 'running' from waybill.running
   where item_id = any(array(select id from family))
   union all
  select case when w.code = 'SIGNAL'
               and not coalesce((select true from waybill.signals s
                                  where s.item_id = w.item_id and s.delivery is null
                                    and s.name = any(w.listens)
                                    and s.poll_at is not null limit 1), false)
              then 'listening' else 'waiting' end
    from waybill.waiting w
   where w.item_id = any(array(select id from family))
   union all
  select case when (select true from waybill.open_children k
                     where k.parent_id = j.item_id limit 1)
              then 'joining' else 'waiting' end
    from waybill.joining j
   where j.item_id = any(array(select id from family))
   union all
  select 'held' from waybill.holds
   where item_id = any(array(select id from family)) and open
   union all
  select o.state from waybill.outcomes o
   where o.item_id = any(array(select id from family))
   union all select disposal from part)
select state, count(*) as n from place group by state
 union all select 'item', count(*) from family
"""


class UnderWay(NamedTuple):
    """How many items of one version of a pipeline are live or held."""

    pipeline: str
    version: str
    items: int


class PostgresReports(Topic):
    """The state of the whole."""

    async def family(self, roots: Sequence[ItemId]) -> Family:
        """These items and all that was found in them, counted like a batch."""
        rows = await self._db.fetch(FAMILY, list(roots))
        n = {r["state"]: r["n"] for r in rows}
        listening = n.get("listening", 0)
        counts = counts_row(rows)
        counts = counts._replace(live=counts.live + listening)
        return Family(counts, n.get("joining", 0), listening)

    async def products(self, item: ItemId) -> list[ProductRow]:
        """What stages made of an item, by name."""
        rows = await self._db.fetch(
            """
            select name, artifact, facts, stage from waybill.products
             where item_id = $1 order by name
            """,
            item,
        )
        return [
            ProductRow(r["name"], r["artifact"], json.loads(r["facts"]), r["stage"])
            for r in rows
        ]

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

    async def under_way(self) -> list[UnderWay]:
        """Of each version of a pipeline that has any, its live and held items."""
        rows = await self._db.fetch(UNDER_WAY)
        return [UnderWay(*r.values()) for r in rows]

    async def batches(self, *, limit: int = 50) -> list[BatchRow]:
        """Newest first."""
        rows = await self._db.fetch(BATCH + " order by b.id desc limit $1", limit)
        return [BatchRow(*r.values()) for r in rows]

    async def find_batch(self, name: str) -> BatchRow:
        """
        By `tenant/name`, by number, or by a name that only one tenant has; names of
        batches may have slashes as well.

        Raises:
            NotFound: none, or several, are called so; then it names them.
        """
        tenant, _, rest = name.partition("/")
        rows = await self._db.fetch(
            f"{BATCH} where t.name = $1 and b.name = $2", tenant, rest
        )
        if rows:  # what `batches ls` prints means one batch, whatever others are called
            return BatchRow(*rows[0].values())
        rows = await self._db.fetch(f"{BATCH} where b.name = $1 limit 10", name)
        number = number_in(name)
        if number is not None:
            rows += await self._db.fetch(f"{BATCH} where b.id = $1", number)
        found = list({row["id"]: BatchRow(*row.values()) for row in rows}.values())
        if len(found) == 1:
            return found[0]
        if not found:
            hint = "`waybill batches ls` lists them"
            raise NotFound(f"no batch {name}", hint=hint)
        called = ", ".join(f"{b.tenant}/{b.name} (number {b.id})" for b in found)
        raise NotFound(
            f"{len(found)} batches are called {name}: {called}",
            code="AMBIGUOUS",
            hint="name one as TENANT/NAME",
        )

    async def batch(self, batch_id: int) -> BatchRow:
        """One batch by its number; raises NotFound."""
        rows = await self._db.fetch(BATCH + " where b.id = $1", batch_id)
        if not rows:
            raise NotFound(f"no batch {batch_id}")
        return BatchRow(*rows[0].values())

    async def quarantined(
        self, *, batch_id: int | None = None, limit: int = 50, taken: bool = False
    ) -> list[RefusedRow]:
        """Files that could not be taken, newest first; also those `taken` since."""
        of, which = (
            ("b.trial is null", ())
            if batch_id is None
            else ("r.batch_id = $3", (batch_id,))
        )
        sql = REFUSED.format(of=of, later=LATER)
        rows = await self._db.fetch(sql, limit, taken, *which)
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
                   (select pg_has_role(current_user, nspowner, 'member')
                      from pg_namespace where nspname = 'waybill') as owns,
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
