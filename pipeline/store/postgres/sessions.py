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
from pipeline.store.postgres.outbox import return_effects
from pipeline.store.postgres.settling import settle_lost
from pipeline.store.postgres.suspects import suspect_those_with_it
from pipeline.store.rows import Origin, TroubleRow, WorkerRow
from pipeline.store.strikes import ALONE, DEATHS, KILLED_WHY, Blame

ALIVE = """
select 1 from waybill.workers
  where id = $1 and lease_until > waybill.clock() for key share
"""

# Waits for whatever this worker has under way: a claim that nobody hears of must be
# seen by whoever puts back what nobody knows of.
ALIVE_AND_IDLE = """
select 1 from waybill.workers
  where id = $1 and lease_until > waybill.clock() for update
"""

# The new snapshot of this second statement is the point: claims and commits that
# held their worker's row while the first waited for it are visible here.
PUT_BACK = f"""
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
              when g.solo then greatest(g.strikes, {ALONE}) + 1
              else least(g.strikes + 1, {ALONE}) end as strikes,
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
    from found where cancelled_by is null and strikes < {DEATHS}),
ended as (
  insert into waybill.outcomes (item_id, state, stage, code, why)
  select item_id,
         case when cancelled_by is null then 'failed' else 'cancelled' end, stage,
         case when cancelled_by is null then 'WORKER_KILLED' else 'CANCELLED' end,
         case when cancelled_by is null
              then $4::text
              else 'cancelled by ' || cancelled_by end
    from found where cancelled_by is not null or strikes >= {DEATHS}
  returning item_id, state, stage, code),
noted as (
  insert into waybill.audit (item_id, event, stage, actor, code)
  select item_id, state, stage, 'reaper', code from ended
  union all
  select item_id, case when $2 or item_id = $5 then 'worker_died' else 'put_back' end,
         stage, 'reaper', worker_id::text from found),
let_go as (
  delete from waybill.cancels where item_id in (select item_id from gone))
select count(*) from gone
"""


# After PUT_BACK, in the same transaction: what one of the items has to answer for.
MINE = """
select 1 from waybill.running where item_id = $1 and worker_id = $2 for update
"""
CHARGE = f"""
with tried as (
  insert into waybill.attempts (item_id, stage, attempt, code, message, charged,
    worker_id)
  values ($1, $2, $3, $4, $5, $6, $7))
update waybill.ready set strikes = {ALONE}, attempt = $3 + 1 where item_id = $1
"""
# Its stage was on the loop as its worker died: one more, alone, and it ends.
STRIKE = f"""
update waybill.ready set strikes = greatest(strikes + 1, {DEATHS - 1})
 where item_id = $1 returning strikes
"""
FAIL = """
with gone as (
  delete from waybill.ready where item_id = $1 returning item_id, stage),
ended as (
  insert into waybill.outcomes (item_id, state, stage, code, why)
  select item_id, 'failed', stage, $2, $3 from gone)
insert into waybill.audit (item_id, event, stage, actor, code)
select item_id, 'failed', stage, 'supervisor', $2 from gone
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

    async def leave(
        self, worker: WorkerId, *, died: bool = False, blamed: Blame | None = None
    ) -> int:
        """Close the session; its items go back in line, uncharged but for one."""

        async def work(con: Connection) -> int:
            await con.execute("delete from waybill.workers where id = $1", worker)
            await return_effects(con, [worker])
            # Here or there: whoever reaped it first has said what became of it.
            mine = blamed and await con.fetchval(MINE, blamed.item, worker)
            alike = died and blamed is None
            named = blamed and blamed.item
            moved = await con.fetchval(PUT_BACK, [worker], alike, [], KILLED_WHY, named)
            if blamed and mine:
                await _answers_for(con, worker, blamed)
            await settle_lost(con, [worker])
            return int(moved)

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
            ids = [r["id"] for r in gone]
            await return_effects(con, ids)
            moved = await con.fetchval(PUT_BACK, ids, died, [], KILLED_WHY, None)
            await settle_lost(con, ids)
            return int(moved)

        return await self._db.tx(work)

    async def disown(self, worker: WorkerId, keep: Sequence[ItemId]) -> int:
        """Put back what this worker owns but does not know of."""

        async def work(con: Connection) -> int:
            if await con.fetchval(ALIVE_AND_IDLE, worker) is None:
                raise LeaseLost("this worker's lease ran out")
            return int(
                await con.fetchval(
                    PUT_BACK, [worker], False, list(keep), KILLED_WHY, None
                )
            )

        return await self._db.tx(work)


async def _answers_for(con: Connection, worker: WorkerId, blamed: Blame) -> None:
    """It is back in line; unless somebody has cancelled it, and nothing is found."""
    item, failed = blamed.item, blamed.failed
    code, why, over = "WORKER_KILLED", KILLED_WHY, blamed.last
    if failed is None:
        over = (await con.fetchval(STRIKE, item) or 0) >= DEATHS
    else:
        code, why = failed.code, failed.message
        tried = (failed.stage, failed.attempt, code, why, failed.charged)
        await con.execute(CHARGE, item, *tried, worker)
    await suspect_those_with_it(con, item)
    if over:
        await con.execute(FAIL, item, code, why)
