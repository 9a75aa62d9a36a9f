"""
What became of everything that a batch received: for exports and manifests.

In slices, each of one snapshot: an item's place and its state belong together, and a
hundred thousand of them are never in memory at once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from pipeline.model import Checkpoint, Disposal, ItemId
from pipeline.store.database import Connection, Topic
from pipeline.store.postgres.items import ITEM, item_row
from pipeline.store.rows import ProductRow, ReceivedRow, Standing, StandsRow

RECEIVED = """
select id, name, disposal, code, item_id from waybill.receipts
 where batch_id = $1 and id > $2 order by id limit $3
"""
PLACED = f"{ITEM} where i.id = any($1::bigint[])"
INPUTS = "select id, input from waybill.items where id = any($1::bigint[])"
UPDATES = """
select item_id, seq, stage, step, update, ref, next_stage, took_s
  from waybill.checkpoints where item_id = any($1::bigint[]) and step is null
 order by item_id, seq
"""
PRODUCTS = """
select item_id, name, artifact, facts, stage from waybill.products
 where item_id = any($1::bigint[]) order by item_id, name
"""
PIPELINES = """
select distinct pipeline_id as id from waybill.items where batch_id = $1 order by 1
"""


# Whatever moves is left out: it changes all the time, and is no result yet.
STANDS = """
select b.id, t.name as tenant, b.name, e.stands
  from (select batch_id, string_agg(state || ' ' || n, ', ' order by state) as stands
          from (select batch_id, state, sum(n)::bigint as n
                  from (select batch_id, state, n from waybill.tallies where {of}
                        union all
                        select batch_id, state, n from waybill.tally_changes
                         where {of}) c
                 where state <> all(array['ready', 'running', 'waiting', 'joining'])
                 group by batch_id, state) s
         where n <> 0 group by batch_id) e
  join waybill.batches b on b.id = e.batch_id and b.trial is null
  join waybill.tenants t on t.id = b.tenant_id
 order by b.id
"""
NEWEST = "batch_id > (select coalesce(max(id), 0) from waybill.batches) - $1"
THESE = "batch_id = any($1::bigint[])"
BATCHES_MAX = 10_000  # that are looked at; arbitrary: older ones have ended


class PostgresResults(Topic):
    """What came out, so far."""

    async def stands(self, batches: Sequence[int] = ()) -> list[StandsRow]:
        """How these batches stand, or the newest `BATCHES_MAX`; empty ones do not."""
        of, given = (THESE, list(batches)) if batches else (NEWEST, BATCHES_MAX)
        rows = await self._db.fetch(STANDS.format(of=of), given)
        return [StandsRow(*row.values()) for row in rows]

    async def received(
        self, batch_id: int, *, after: int = 0, limit: int = 100
    ) -> list[ReceivedRow]:
        """
        The batch's receipts numbered above `after`, oldest first, and what became of
        each.
        """

        async def work(con: Connection) -> list[ReceivedRow]:
            rows = await con.fetch(RECEIVED, batch_id, after, limit)
            became = [r["item_id"] for r in rows if r["disposal"] == Disposal.ITEM]
            there = await _standings(con, became)
            return [
                ReceivedRow(
                    r["id"],
                    r["name"],
                    Disposal(r["disposal"]),
                    r["code"],
                    r["item_id"],
                    there[r["item_id"]] if r["disposal"] == Disposal.ITEM else None,
                )
                for r in rows
            ]

        return await self._db.tx(work, snapshot=True)

    async def pipelines_of(self, batch_id: int) -> list[int]:
        """The pipeline versions that the batch's items are pinned to."""
        return [r["id"] for r in await self._db.fetch(PIPELINES, batch_id)]


async def _standings(
    con: Connection, items: Sequence[ItemId]
) -> dict[ItemId, Standing]:
    inputs = {r["id"]: r["input"] for r in await con.fetch(INPUTS, items)}
    found = {
        r["id"]: Standing(item_row(r), inputs[r["id"]], [], [])
        for r in await con.fetch(PLACED, items)
    }
    for r in await con.fetch(UPDATES, items):
        item, *facts = r.values()
        found[item].updates.append(Checkpoint(*facts))
    for r in await con.fetch(PRODUCTS, items):
        item, name, artifact, facts, stage = r.values()
        kept = ProductRow(name, artifact, json.loads(facts), stage)
        found[item].products.append(kept)
    return found
