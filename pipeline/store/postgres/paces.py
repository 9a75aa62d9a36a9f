"""
How quickly items move, and what keeps them from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.store.database import Topic
from pipeline.store.rows import KeptRow, Pace

# Seconds that are looked back: the first in which enough happened tells today's pace.
WINDOWS_S = (10.0, 60.0, 600.0, 3600.0)
ENOUGH = 30  # items; arbitrary
# Tables that grow at their end: what came last stands in the last blocks, and that much
# is read however many rows there are.  Two megabytes are some milliseconds.
TAIL_BYTES = 2 << 20
HOLDS_MAX = 5000  # the newest ones
WAITING_MAX = 10_000  # of those that wait, the next ones to go on
OF_BATCH = "(select i.batch_id from waybill.items i where i.id = x.item_id) = {batch}"

TAILS = """
select greatest(0, (pg_relation_size('waybill.checkpoints') - $1)
                   / current_setting('block_size')::int) as checkpoints,
       greatest(0, (pg_relation_size('waybill.outcomes') - $1)
                   / current_setting('block_size')::int) as outcomes
"""
AGE_S = "extract(epoch from waybill.clock() - {at})::float8"
# What a reviewer decided is no stage's work.
THROUGH = f"""
select stage, count(*) as n, max(age_s) as for_s
  from (select x.stage, {AGE_S.format(at="x.at")} as age_s from waybill.checkpoints x
         where x.ctid >= $1 and x.step is null and x.worker_id is not null
           and {{of}}) t
 where age_s <= $2 group by stage
"""
LEFT = f"""
select count(*) as n, coalesce(max(age_s), 0) as for_s
  from (select {AGE_S.format(at="x.at")} as age_s from waybill.outcomes x
         where x.ctid >= $1 and {{of}}
         union all
        select {AGE_S.format(at="x.held_at")} from (
          select h.item_id, h.held_at from waybill.holds h
           order by h.id desc limit $3) x
         where {{of}}) t
 where age_s <= $2
"""

# Looked up for each that runs, of which there are no more than workers carry.
LIMITED = """
select x.stage, p.waits_for as name, count(*) as n, null::timestamptz as until
  from waybill.running_now x
 cross join lateral (
   select waits_for from waybill.progress
    where item_id = x.item_id and stage = x.stage limit 1) p
 where p.waits_for <> '' and {of}
 group by 1, 2 order by 3 desc, 1, 2
"""
WAITING = """
select x.stage, case when x.code = 'SIGNAL' then x.code else x.why end as name,
       count(*) as n, min(x.until) as until
  from (select * from waybill.waiting order by until limit $1) x where {of}
 group by 1, 2 order by 3 desc, 1, 2
"""
IN_LINE = """
select s.stage, (select i.pipeline_id from waybill.items i where i.id =
                  (select r.item_id from waybill.ready r
                    where r.stage = s.stage and r.strikes < 2
                    order by r.tenant_id, r.deadline_at, r.item_id limit 1))
         as pipeline_id
  from unnest($1::text[]) s(stage)
"""


class PostgresPaces(Topic):
    """What moves, and what waits for what."""

    async def pace(self, batch_id: int | None = None) -> Pace:
        """Of one batch, or of everything, as it was just now."""
        [blocks] = await self._db.fetch(TAILS, TAIL_BYTES)
        of, batch = _of(batch_id, "$3")
        sql, tail = THROUGH.format(of=of), (blocks["checkpoints"], 0)
        for window_s in WINDOWS_S:
            through = await self._db.fetch(sql, tail, window_s, *batch)
            if sum(row["n"] for row in through) >= ENOUGH:
                break
        of, batch = _of(batch_id, "$4")
        sql, tail = LEFT.format(of=of), (blocks["outcomes"], 0)
        [left] = await self._db.fetch(sql, tail, window_s, HOLDS_MAX, *batch)
        # From the first that came through: before, there was nothing to do.
        for_s = max([1.0, *(row["for_s"] for row in through)])
        a_minute = {row["stage"]: 60 * row["n"] / for_s for row in through}
        return Pace(for_s, a_minute, 60 * left["n"] / max(1.0, left["for_s"]))

    async def limited(self, batch_id: int | None = None) -> list[KeptRow]:
        """What waits in its stage for a permit, by limit; the most first."""
        of, batch = _of(batch_id, "$1")
        rows = await self._db.fetch(LIMITED.format(of=of), *batch)
        return [KeptRow(*row.values()) for row in rows]

    async def waiting(self, batch_id: int | None = None) -> list[KeptRow]:
        """What waits before its stage, by why; of the next `WAITING_MAX` to go on."""
        of, batch = _of(batch_id, "$2")
        rows = await self._db.fetch(WAITING.format(of=of), WAITING_MAX, *batch)
        return [KeptRow(*row.values()) for row in rows]

    async def in_line(self, stages: Sequence[str]) -> dict[str, int]:
        """The pipeline version of one of those in line, by stage."""
        rows = await self._db.fetch(IN_LINE, list(stages))
        return {r["stage"]: r["pipeline_id"] for r in rows if r["pipeline_id"]}


def _of(batch_id: int | None, name: str) -> tuple[str, tuple[Any, ...]]:
    if batch_id is None:
        return "true", ()
    return OF_BATCH.format(batch=name), (batch_id,)
