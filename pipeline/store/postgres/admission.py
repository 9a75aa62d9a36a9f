"""
What becomes of documents that arrive: items, receipts, duplicates, quarantine.

Files that were dropped; the parts that a stage found in one are born in births.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pipeline.model import Batch, Disposal, ItemId, Receipt, Submission
from pipeline.store.database import Connection, Topic
from pipeline.store.refusals import (
    check_names,
    check_trial,
    key_in_trial,
    looked_at_again,
)

NEW_ITEMS = """
with pinned as (select name, stages[1] as first from waybill.pipelines where id = $2),
made as (
  insert into waybill.items (tenant_id, batch_id, pipeline_id, pipeline, name, key,
                     deadline_at, input, parent_id)
  select b.tenant_id, b.id, $2, p.name, t.name, t.key, b.deadline_at, t.input, $6
    from waybill.batches b, pinned p,
         unnest($3::text[], $4::text[], $5::jsonb[]) t(name, key, input)
   where b.id = $1
  on conflict (tenant_id, pipeline, key) do nothing
  returning id, deadline_at, tenant_id, key),
line as (
  insert into waybill.ready (item_id, stage, tenant_id, deadline_at, seq)
  select m.id, coalesce($7, p.first), m.tenant_id, m.deadline_at, 0
    from made m, pinned p),
kin as (
  insert into waybill.open_children (child_id, parent_id)
  select id, $6 from made where $6::bigint is not null),
noted as (
  insert into waybill.audit (item_id, event, stage, actor)
  select m.id, 'received', coalesce($7, p.first),
         coalesce('item ' || $6::bigint, 'admission')
    from made m, pinned p)
select key, id from made
"""

# A key can be an item of this batch only once; every other receipt of it is a
# duplicate, in this call or a later one.
RECEIPTS = """
insert into waybill.receipts (batch_id, token, name, key, size_bytes, disposal, item_id,
                      code, why, kept_at)
select $1, t.* from unnest($2::text[], $3::text[], $4::text[], $5::bigint[],
                           $6::text[], $7::bigint[], $8::text[], $9::text[],
                           $10::text[]) t
on conflict (token) do nothing
"""

KNOWN = """
select i.key, i.id from waybill.items i
  join waybill.pipelines p on p.name = i.pipeline
 where p.id = $1 and i.key = any($2::text[])
   and i.tenant_id = (select tenant_id from waybill.batches where id = $3)
"""

IS_TRIAL = "select trial is not null from waybill.batches where id = $1"


class PostgresAdmission(Topic):
    """The way in, for files."""

    async def register_pipeline(
        self, name: str, version: str, stages: Sequence[str], files: Mapping[str, str]
    ) -> int:
        """Pin a version; the same version twice is one row."""
        await self._db.fetch(
            """
            insert into waybill.pipelines (name, version, stages, files)
            values ($1, $2, $3, $4) on conflict (name, version) do nothing
            """,
            name,
            version,
            list(stages),
            json.dumps(dict(files)),
        )
        return int(
            await self._db.fetchval(
                "select id from waybill.pipelines where name = $1 and version = $2",
                name,
                version,
            )
        )

    async def open_batch(
        self, tenant: str, name: str, *, deadline_s: float, trial: str = ""
    ) -> Batch:
        """The batch of this name, made when it is new."""
        check_names(tenant, name)

        async def work(con: Connection) -> Batch:
            await con.execute(
                "insert into waybill.tenants (name) values ($1) on conflict do nothing",
                tenant,
            )
            await con.execute(
                """
                insert into waybill.batches (tenant_id, name, deadline_at, trial)
                select id, $2, waybill.clock() + make_interval(secs => $3),
                       nullif($4, '')
                  from waybill.tenants where name = $1
                on conflict (tenant_id, name) do nothing
                """,
                tenant,
                name,
                deadline_s,
                trial,
            )
            row = await con.fetchrow(
                """
                select b.id, t.name as tenant, b.name, b.deadline_at,
                       coalesce(b.trial, '') as trial
                  from waybill.batches b join waybill.tenants t on t.id = b.tenant_id
                 where t.name = $1 and b.name = $2
                """,
                tenant,
                name,
            )
            assert row is not None
            return check_trial(Batch(*row.values()), trial)

        return await self._db.tx(work)

    async def admit(
        self, batch: Batch, pipeline_id: int, submissions: Sequence[Submission]
    ) -> list[Receipt]:
        """Receive files in one transaction; see the port."""

        async def work(con: Connection) -> list[Receipt]:
            return await receive(con, batch.id, pipeline_id, submissions)

        return await self._db.tx(work)


async def receive(
    con: Connection,
    batch_id: int,
    pipeline_id: int,
    submissions: Sequence[Submission],
    *,
    parent: ItemId | None = None,
    stage: str | None = None,
) -> list[Receipt]:
    """
    A receipt for each, and an item for each that is new.

    A token that was seen before gets its first receipt, but for what
    `looked_at_again` makes a delivery of its own.  Items begin at `stage`,
    or at the pipeline's first one.
    """
    if await con.fetchval(IS_TRIAL, batch_id):
        submissions = [key_in_trial(batch_id, s, parent) for s in submissions]
    seen = await receipts_of(con, [s.token for s in submissions])
    submissions = [looked_at_again(s, seen.get(s.token), batch_id) for s in submissions]
    tokens = [s.token for s in submissions]
    if seen and any(token not in seen for token in tokens):
        seen |= await receipts_of(con, tokens)
    before = set(seen)
    new = list({s.token: s for s in submissions if s.token not in seen}.values())
    if new:
        wanted = [s for s in new if not s.refused_code]
        first = {s.key: s for s in reversed(wanted)}
        # Sorted keys: two that receive the same files lock them in one order.  Parts
        # keep theirs, so that a child's number says where it stood; two bundles with
        # the same parts turned round are a deadlock, found and tried again.
        keys = sorted(first) if parent is None else list({s.key: None for s in wanted})
        made = await con.fetch(
            NEW_ITEMS,
            batch_id,
            pipeline_id,
            [first[k].name for k in keys],
            keys,
            [json.dumps(dict(first[k].input)) for k in keys],
            parent,
            stage,
        )
        fresh = {r["key"] for r in made}
        known = await con.fetch(KNOWN, pipeline_id, [s.key for s in new], batch_id)
        rows = receipt_rows(new, fresh, {r["key"]: r["id"] for r in known})
        columns = [list(column) for column in zip(*rows, strict=True)]
        await con.execute(RECEIPTS, batch_id, *columns)
        seen = await receipts_of(con, tokens)
    return [replace(seen[token][1], again=token in before) for token in tokens]


async def receipts_of(
    con: Connection, tokens: Sequence[str]
) -> dict[str, tuple[int, Receipt]]:
    """Of those that were seen: the batch, and the receipt."""
    rows = await con.fetch(
        "select token, batch_id, name, disposal, item_id from waybill.receipts"
        " where token = any($1::text[])",
        list(tokens),
    )
    return {
        r["token"]: (
            r["batch_id"],
            Receipt(r["name"], Disposal(r["disposal"]), r["item_id"]),
        )
        for r in rows
    }


def receipt_rows(
    new: Sequence[Submission], fresh: set[str], known: dict[str, ItemId]
) -> list[tuple[object, ...]]:
    """Receipts; the first of a fresh key is its item's, others are duplicates."""
    written: list[tuple[object, ...]] = []
    for s in new:
        item: ItemId | None = None
        if s.refused_code:
            disposal = Disposal.QUARANTINED
        else:
            item = known[s.key]
            disposal = Disposal.ITEM if s.key in fresh else Disposal.DUPLICATE
            fresh.discard(s.key)
        why = (s.refused_code, s.refused_why, s.kept_at)
        written.append(
            (s.token, s.name, s.key, s.size_bytes, disposal.value, item, *why)
        )
    return written
