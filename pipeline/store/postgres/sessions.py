"""
Workers in PostgreSQL: who may act, until when, and the reaper.

Every write for a worker first locks that worker's row against the reaper (`for key
share`), so that a replaced worker's commit and its replacement can never both win.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import uuid4

from pipeline.errors import LeaseLost
from pipeline.model import ItemId, WorkerId
from pipeline.state import clean_text
from pipeline.store.database import Connection, Topic
from pipeline.store.rows import Origin, TroubleRow, WorkerRow

ALIVE = """
select 1 from waybill.workers
  where id = $1 and lease_until > waybill.clock() for key share
"""

# The new snapshot of this second statement is the point: claims and commits that
# held their worker's row while the first waited for it are visible here.
PUT_BACK = """
with gone as (
  delete from waybill.running
   where worker_id = any($1::uuid[]) and not item_id = any($3::bigint[])
  returning *),
found as (
  select g.item_id, g.tenant_id, g.deadline_at, g.solo, g.worker_id,
         coalesce(s.stage, g.stage) as stage,
         coalesce(c.seq + 1, 0) as seq,
         case when s.stage is null then g.attempt else 0 end as attempt,
         case when not $2::boolean then g.strikes
              when coalesce(c.seq + 1, 0) > g.seq then 1
              when g.solo then g.strikes + 1
              else least(g.strikes + 1, 2) end as strikes,
         x.author as cancelled_by
    from gone g
    left join waybill.cancels x on x.item_id = g.item_id
    left join lateral (select seq from waybill.checkpoints where item_id = g.item_id
                        order by seq desc limit 1) c on true
    left join lateral waybill.reached(g.item_id, g.seq) s on true),
back as (
  insert into waybill.ready (item_id, stage, tenant_id, deadline_at, seq, attempt,
    strikes)
  select item_id, stage, tenant_id, deadline_at, seq, attempt, strikes
    from found where cancelled_by is null and strikes < 3),
ended as (
  insert into waybill.outcomes (item_id, state, stage, code, why)
  select item_id,
         case when cancelled_by is null then 'failed' else 'cancelled' end, stage,
         case when cancelled_by is null then 'WORKER_KILLED' else 'CANCELLED' end,
         case when cancelled_by is null
              then 'three workers died while they had this item, the last with '
                   || 'nothing else in hand'
              else 'cancelled by ' || cancelled_by end
    from found where cancelled_by is not null or strikes >= 3
  returning item_id, state, stage, code),
noted as (
  insert into waybill.audit (item_id, event, stage, actor, code)
  select item_id, state, stage, 'reaper', code from ended
  union all
  select item_id, case when $2 then 'worker_died' else 'put_back' end, stage,
         'reaper', worker_id::text from found),
let_go as (
  delete from waybill.cancels where item_id in (select item_id from gone))
select count(*) from gone
"""


class PostgresSessions(Topic):
    """Rows of `workers`, and what becomes of the items of those that are gone."""

    async def join(self, origin: Origin, *, lease_s: float) -> WorkerId:
        """Open a session under a fresh random id."""
        worker = uuid4()
        await self._db.fetch(
            """
            insert into waybill.workers (id, host, pid, born, lease_until)
            values ($1, $2, $3, $4, waybill.clock() + make_interval(secs => $5))
            """,
            worker,
            *origin,
            lease_s,
        )
        return worker

    async def renew(
        self, worker: WorkerId, *, lease_s: float, troubles: Sequence[TroubleRow] = ()
    ) -> list[ItemId]:
        """Extend the lease; learn which of its items people cancelled."""
        # An expired lease is lost even if nobody has reaped it yet: giving up
        # early is safe, carrying on is not.
        rows = await self._db.fetch(
            """
            with kept as (
              update waybill.workers set lease_until = waybill.clock()
                + make_interval(secs => $2), troubles = $3
               where id = $1 and lease_until > waybill.clock() returning id)
            select k.id, array(select r.item_id from waybill.cancels c
                                 join waybill.running r on r.item_id = c.item_id
                                where r.worker_id = $1) as cancelled
              from kept k
            """,
            worker,
            lease_s,
            json.dumps(
                [
                    (clean_text(what), clean_text(where), at.timestamp())
                    for what, where, at in troubles
                ]
            ),
        )
        if not rows:
            raise LeaseLost("this worker's lease ran out")
        return list(rows[0]["cancelled"])

    async def leave(self, worker: WorkerId, *, died: bool = False) -> int:
        """Close the session; its items go back in line, uncharged."""

        async def work(con: Connection) -> int:
            await con.execute("delete from waybill.workers where id = $1", worker)
            return int(await con.fetchval(PUT_BACK, [worker], died, []))

        return await self._db.tx(work)

    async def sessions(self) -> list[WorkerRow]:
        """Every worker row, with the seconds its lease has left."""
        rows = await self._db.fetch(
            """
            select id, host, pid, born, troubles,
                   extract(epoch from lease_until - waybill.clock())::float8 as left_s
              from waybill.workers order by started_at
            """
        )
        return [
            WorkerRow(
                r["id"],
                Origin(r["host"], r["pid"], r["born"]),
                r["left_s"],
                tuple(
                    TroubleRow(what, where, datetime.fromtimestamp(at, UTC))
                    for what, where, at in json.loads(r["troubles"])
                ),
            )
            for r in rows
        ]

    async def reap(self, workers: Sequence[WorkerId], *, died: bool) -> int:
        """Remove sessions and put their items back, in one transaction."""

        async def work(con: Connection) -> int:
            gone = await con.fetch(
                """
                delete from waybill.workers
                 where id = any($1::uuid[]) and ($2 or lease_until <= waybill.clock())
                returning id
                """,
                list(workers),
                died,
            )
            if not gone:
                return 0
            moved = await con.fetchval(PUT_BACK, [r["id"] for r in gone], died, [])
            return int(moved)

        return await self._db.tx(work)

    async def disown(self, worker: WorkerId, keep: Sequence[ItemId]) -> int:
        """Put back what this worker owns but does not know of."""

        async def work(con: Connection) -> int:
            if await con.fetchval(ALIVE, worker) is None:
                raise LeaseLost("this worker's lease ran out")
            return int(await con.fetchval(PUT_BACK, [worker], False, list(keep)))

        return await self._db.tx(work)
