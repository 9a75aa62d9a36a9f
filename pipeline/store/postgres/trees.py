"""
An item with all that was made of it: who runs, who waits, and what each did cost.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from pipeline.model import ItemId
from pipeline.store.database import Topic
from pipeline.store.outside import Spent
from pipeline.store.postgres.budgets import spent_row
from pipeline.store.postgres.items import LISTED, item_row
from pipeline.store.rows import ItemRow

DEPTH_MAX = 20  # arbitrary: a bundle in a bundle in a bundle …

# Breadth first: where it is cut off, those near the root are there.
PICKED = """
with recursive below (id, depth) as (
  select i.id, 1 from waybill.items i where i.parent_id = $1
  union all
  select i.id, b.depth + 1
    from below b join waybill.items i on i.parent_id = b.id
   where b.depth < $3),
picked as materialized (
  select id, depth from below order by depth, id limit $2)
"""
SPENT_EACH = """
select item_id, currency, count(*) as calls,
       count(*) filter (where code <> '') as failed, sum(cost) as spent,
       coalesce(sum(reserved) filter (where settled_at is null), 0) as reserved,
       sum(input_tokens)::bigint as input_tokens,
       sum(cached_input_tokens)::bigint as cached_input_tokens,
       sum(output_tokens)::bigint as output_tokens,
       sum(reasoning_tokens)::bigint as reasoning_tokens
  from waybill.calls where item_id = any($1::bigint[])
 group by item_id, currency order by item_id, currency
"""


class Node(NamedTuple):
    """A descendant; `spent` is its own calls, without those of its children."""

    row: ItemRow
    spent: list[Spent]


class PostgresTrees(Topic):
    """What was made of an item."""

    async def tree(self, item: ItemId, *, limit: int = 1000) -> list[Node]:
        """At most `limit` descendants, those nearest to the item first, by number."""
        sql = f"{PICKED} {LISTED} order by k.depth, i.id"
        rows = [item_row(r) for r in await self._db.fetch(sql, item, limit, DEPTH_MAX)]
        sums: dict[ItemId, list[Spent]] = defaultdict(list)
        for r in await self._db.fetch(SPENT_EACH, [row.id for row in rows]):
            sums[r["item_id"]].append(spent_row(r))
        return [Node(row, sums[row.id]) for row in rows]
