"""
Another deadline for a batch and what is not done of it, while workers move it.

In slices: a batch of a million items is no one transaction.  Whoever is interrupted
calls again.
"""

from __future__ import annotations

from datetime import datetime

from pipeline.errors import NotFound
from pipeline.store.database import Connection, Topic

SLICE = 5000  # items a transaction
LOOKS = 10  # arbitrary: each needs an item that moves on within milliseconds

BATCH = """
update waybill.batches set deadline_at = waybill.clock() + make_interval(secs => $2)
 where id = $1 returning deadline_at
"""

# Those that failed as well: they may be put back in line.
SLICE_OF = """
select i.id, exists (select from waybill.outcomes o where o.item_id = i.id) as ended
  from waybill.items i
 where i.batch_id = $1 and i.id > $2
   and not exists (select from waybill.outcomes o
                    where o.item_id = i.id and o.state = 'done')
 order by i.id limit $3
"""

ITEMS = "update waybill.items set deadline_at = $2 where id = any($1::bigint[])"

# Nobody waits past the deadline; the places are narrow and looked at by key.
PLACES = (
    """
    update waybill.ready set deadline_at = $2
     where item_id = any($1::bigint[]) and deadline_at <> $2 returning item_id
    """,
    """
    update waybill.running set deadline_at = $2
     where item_id = any($1::bigint[]) and deadline_at <> $2 returning item_id
    """,
    """
    update waybill.waiting set deadline_at = $2, until = least(until, $2)
     where item_id = any($1::bigint[]) and deadline_at <> $2 returning item_id
    """,
    """
    update waybill.joining set deadline_at = $2
     where item_id = any($1::bigint[]) and deadline_at <> $2 returning item_id
    """,
    """
    update waybill.holds set deadline_at = $2
     where item_id = any($1::bigint[]) and open and deadline_at <> $2
    returning item_id
    """,
)

NOTED = """
insert into waybill.audit (item_id, event, stage, actor)
select id, 'deadline', '', $2 from unnest($1::bigint[]) t(id)
"""


class PostgresDeadlines(Topic):
    """When batches are due."""

    async def set_deadline(
        self, batch_id: int, author: str, *, deadline_s: float
    ) -> int:
        """Move a batch's deadline; see the port."""
        due: datetime | None = await self._db.fetchval(BATCH, batch_id, deadline_s)
        if due is None:
            raise NotFound(f"no batch {batch_id}")
        moved, last = 0, 0
        while True:

            async def work(con: Connection, after: int = last) -> tuple[int, int]:
                return await _slice(con, batch_id, after, due, author)

            last, still = await self._db.tx(work)
            moved += still
            if not last:
                return moved


async def _slice(
    con: Connection, batch_id: int, after: int, due: datetime, author: str
) -> tuple[int, int]:
    """The last item's id, 0 when there is none; and how many are open."""
    rows = await con.fetch(SLICE_OF, batch_id, after, SLICE)
    if not rows:
        return 0, 0
    ids = [r["id"] for r in rows]
    await con.execute(ITEMS, ids, due)
    # An item may move on between two statements, and takes its old deadline along.
    for _ in range(LOOKS):
        found = [await con.fetch(place, ids, due) for place in PLACES]
        if not any(found):
            break
    still = [r["id"] for r in rows if not r["ended"]]
    await con.execute(NOTED, still, author)
    return ids[-1], len(still)
