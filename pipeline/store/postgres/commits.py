"""
What a commit writes: checkpoints, attempts, progress, products and moves of many
items at once, the children of some, and what calls did cost.

Each kind of row is one `unnest` insert, each kind of move one delete + insert that
names its owner: where the item is no longer this worker's, the move is void and the
others stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from pipeline.errors import LeaseLost
from pipeline.model import (
    Attempt,
    Entry,
    Finish,
    ItemId,
    Move,
    ToHeld,
    ToJoining,
    ToReady,
    ToWaiting,
    WorkerId,
)
from pipeline.store.database import Connection, Topic
from pipeline.store.postgres.births import write_spawns
from pipeline.store.postgres.cancels import end_cancelled
from pipeline.store.postgres.outbox import write_effects
from pipeline.store.postgres.purses import write_draws
from pipeline.store.postgres.sessions import ALIVE
from pipeline.store.postgres.settling import write_settled
from pipeline.store.postgres.signals import write_asks
from pipeline.store.strikes import ALONE

M = TypeVar("M", bound=Move)
LAST_SEQ = (1 << 31) - 1  # the largest that the column takes


CHECKPOINTS = """
insert into waybill.checkpoints (item_id, seq, stage, step, update, ref, next_stage,
                         took_s, worker_id)
select t.*, $9
  from unnest($1::bigint[], $2::int[], $3::text[], $4::text[], $5::jsonb[],
              $6::text[], $7::text[], $8::real[]) t
"""

ATTEMPTS = """
insert into waybill.attempts (item_id, stage, attempt, code, message, charged,
  frames, worker_id)
select t.*, $8
  from unnest($1::bigint[], $2::text[], $3::smallint[], $4::text[], $5::text[],
              $6::boolean[], $7::text[]) t
"""

# Sorted: two commits of one worker lock these rows in one order.
PROGRESS = """
insert into waybill.progress (item_id, stage, done, total, waits_for)
select t.*
  from unnest($1::bigint[], $2::text[], $3::int[], $4::int[], $5::text[])
       t(item_id, stage, done, total, waits_for)
  join waybill.running u on u.item_id = t.item_id and u.worker_id = $6
 order by t.item_id
on conflict (item_id) do update
   set stage = excluded.stage, done = excluded.done, total = excluded.total,
       waits_for = excluded.waits_for
"""

PRODUCTS = """
insert into waybill.products (item_id, name, artifact, facts, stage)
select t.*
  from unnest($1::bigint[], $2::text[], $3::text[], $4::jsonb[], $5::text[])
       t(item_id, name, artifact, facts, stage)
  join waybill.running u on u.item_id = t.item_id and u.worker_id = $6
 order by t.item_id, t.name
on conflict (item_id, name) do update
   set artifact = excluded.artifact, facts = excluded.facts, stage = excluded.stage
"""

TO_READY = """
with gone as (
  delete from waybill.running where item_id = any($1::bigint[]) and worker_id = $5
  returning item_id, tenant_id, deadline_at)
insert into waybill.ready (item_id, stage, tenant_id, deadline_at, seq, attempt)
select g.item_id, t.stage, g.tenant_id, g.deadline_at, t.seq, t.attempt
  from gone g
  join unnest($1::bigint[], $2::text[], $3::int[], $4::smallint[])
       t(item_id, stage, seq, attempt) using (item_id)
returning item_id
"""

TO_WAITING = f"""
with gone as (
  delete from waybill.running where item_id = any($1::bigint[]) and worker_id = $9
  returning item_id, tenant_id, deadline_at)
insert into waybill.waiting (item_id, stage, tenant_id, deadline_at, seq, attempt,
  until, why, strikes, listens)
select g.item_id, t.stage, g.tenant_id, g.deadline_at, t.seq, t.attempt,
       least(waybill.clock() + make_interval(secs => t.for_s), g.deadline_at), t.why,
       case when t.alone then {ALONE} else 0 end,
       array_remove(string_to_array(t.listens, ','), '')
  from gone g
  join unnest($1::bigint[], $2::text[], $3::int[], $4::smallint[], $5::float8[],
              $6::text[], $7::boolean[], $8::text[])
       t(item_id, stage, seq, attempt, for_s, why, alone, listens) using (item_id)
returning item_id
"""

TO_JOINING = """
with gone as (
  delete from waybill.running where item_id = any($1::bigint[]) and worker_id = $5
  returning item_id, tenant_id, deadline_at)
insert into waybill.joining (item_id, stage, tenant_id, deadline_at, seq, attempt)
select g.item_id, t.stage, g.tenant_id, g.deadline_at, t.seq, t.attempt
  from gone g
  join unnest($1::bigint[], $2::text[], $3::int[], $4::smallint[])
       t(item_id, stage, seq, attempt) using (item_id)
returning item_id
"""

TO_HELD = """
with gone as (
  delete from waybill.running where item_id = any($1::bigint[]) and worker_id = $17
  returning item_id, tenant_id, deadline_at),
held as (
  insert into waybill.holds (item_id, stage, tenant_id, deadline_at, seq, code, why,
                             shown, shown_ref, proposal, proposal_ref, needs, again,
                             next_stage, lapse, lapses_at, role, due_at,
                             trial)
  select g.item_id, t.stage, g.tenant_id, g.deadline_at, t.seq, t.code, t.why,
         t.shown, t.shown_ref, t.proposal, t.proposal_ref,
         array_remove(string_to_array(t.needs, ','), ''), t.again, t.next_stage,
         t.lapse, waybill.clock() + make_interval(secs => t.lapse_s),
         t.role, waybill.clock() + make_interval(secs => t.within_s),
         (select b.trial is not null from waybill.items i
            join waybill.batches b on b.id = i.batch_id where i.id = g.item_id)
    from gone g
    join unnest($1::bigint[], $2::text[], $3::int[], $4::text[], $5::text[],
                $6::json[], $7::text[], $8::json[], $9::text[], $10::text[],
                $11::boolean[], $12::text[], $13::json[], $14::float8[],
                $15::text[], $16::float8[])
         t(item_id, stage, seq, code, why, shown, shown_ref, proposal, proposal_ref,
           needs, again, next_stage, lapse, lapse_s, role, within_s) using (item_id)
  returning item_id, stage, code),
noted as (
  insert into waybill.audit (item_id, event, stage, actor, code)
  select item_id, 'held', stage, $17::uuid::text, code from held)
select item_id from held
"""

FINISH = """
with gone as (
  delete from waybill.running where item_id = any($1::bigint[]) and worker_id = $6
  returning item_id),
ended as (
  insert into waybill.outcomes (item_id, state, stage, code, why)
  select g.item_id, t.state, t.stage, t.code, t.why
    from gone g
    join unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[])
         t(item_id, state, stage, code, why) using (item_id)
  returning item_id, state, stage, code),
noted as (
  insert into waybill.audit (item_id, event, stage, actor, code)
  select item_id, state, stage, $6::uuid::text, code from ended),
let_go as (
  delete from waybill.cancels where item_id in (select item_id from gone))
select item_id from ended
"""


class PostgresCommits(Topic):
    """What a worker's journal writes."""

    async def commit(self, worker: WorkerId, entries: Sequence[Entry]) -> list[bool]:
        """Checkpoints, attempts and moves of all entries in one transaction."""

        async def work(con: Connection) -> set[ItemId]:
            if await con.fetchval(ALIVE, worker) is None:
                raise LeaseLost("this worker's lease ran out")
            drawn = await write_draws(con, worker, entries)
            written = await write_spawns(con, worker, drawn)
            await write_checkpoints(con, worker, written)
            await write_attempts(con, worker, written)
            await write_progress(con, worker, written)
            await write_products(con, worker, written)
            await write_effects(con, worker, written)
            answered = await write_asks(con, worker, written)
            stood = await write_moves(con, worker, written, answered)
            await end_cancelled(con, written, stood)
            settled = [e.settled for e in written if e.settled is not None]
            await write_settled(con, worker, settled)
            return stood

        stood = await self._db.tx(work)
        return [e.move is None or e.item_id in stood for e in entries]

    async def recorded(self, worker: WorkerId, item: ItemId, seq: int) -> bool:
        """Whether this worker's checkpoint (item, seq) stands."""
        return bool(
            await self._db.fetchval(
                """
                select exists (select from waybill.checkpoints
                  where item_id = $1 and seq = $2 and worker_id = $3)
                """,
                item,
                seq,
                worker,
            )
        )

    async def owns(
        self, worker: WorkerId, item: ItemId, seq: int | None = None
    ) -> bool:
        """Whether the item is this worker's; see the port."""
        return bool(
            await self._db.fetchval(
                "select exists (select from waybill.running"
                " where item_id = $1 and worker_id = $2 and seq <= $3)",
                item,
                worker,
                LAST_SEQ if seq is None else seq,
            )
        )


async def write_checkpoints(
    con: Connection, worker: WorkerId, entries: Sequence[Entry]
) -> None:
    rows = [(e.item_id, *e.checkpoint) for e in entries if e.checkpoint is not None]
    if rows:
        await con.execute(CHECKPOINTS, *map(list, zip(*rows, strict=True)), worker)


async def write_attempts(
    con: Connection, worker: WorkerId, entries: Sequence[Entry]
) -> None:
    tried: list[tuple[ItemId, Attempt]] = [
        (e.item_id, e.attempt) for e in entries if e.attempt is not None
    ]
    if tried:
        await con.execute(
            ATTEMPTS,
            [i for i, _ in tried],
            [a.stage for _, a in tried],
            [a.attempt for _, a in tried],
            [a.code for _, a in tried],
            [a.message for _, a in tried],
            [a.charged for _, a in tried],
            [a.frames for _, a in tried],
            worker,
        )


async def write_progress(
    con: Connection, worker: WorkerId, entries: Sequence[Entry]
) -> None:
    newest = {e.item_id: e.progress for e in entries if e.progress is not None}
    if newest:
        rows = [(item, *progress) for item, progress in newest.items()]
        await con.execute(PROGRESS, *map(list, zip(*rows, strict=True)), worker)


async def write_products(
    con: Connection, worker: WorkerId, entries: Sequence[Entry]
) -> None:
    made = {(e.item_id, p.name): (e.item_id, *p) for e in entries for p in e.products}
    if made:
        columns = map(list, zip(*made.values(), strict=True))
        await con.execute(PRODUCTS, *columns, worker)


async def write_moves(
    con: Connection, worker: WorkerId, entries: Sequence[Entry], answered: set[ItemId]
) -> set[ItemId]:
    """
    Every move of the entries; the ids of those that stood.

    What was `answered` while it parked waits no time.
    """
    stood: list[ItemId] = []
    if ready := _of(entries, ToReady):
        columns = [(i, m.stage, m.seq, m.attempt) for i, m in ready]
        stood += await _run(con, TO_READY, columns, worker)
    if waiting := _of(entries, ToWaiting):
        rows = [
            (
                i,
                m.stage,
                m.seq,
                m.attempt,
                0.0 if i in answered else m.for_s,
                m.why,
                m.alone,
                ",".join(ask.name for ask in m.asks),
            )
            for i, m in waiting
        ]
        stood += await _run(con, TO_WAITING, rows, worker)
    if joining := _of(entries, ToJoining):
        columns = [(i, m.stage, m.seq, m.attempt) for i, m in joining]
        stood += await _run(con, TO_JOINING, columns, worker)
    if held := _of(entries, ToHeld):
        parked = [
            (
                i,
                m.stage,
                m.seq,
                m.code,
                m.why,
                m.shown,
                m.shown_ref,
                m.proposal,
                m.proposal_ref,
                ",".join(m.needs),
                m.again,
                m.next_stage,
                m.lapse,
                m.lapse_s,
                m.role,
                m.within_s,
            )
            for i, m in held
        ]
        stood += await _run(con, TO_HELD, parked, worker)
    if finished := _of(entries, Finish):
        ends = [(i, m.state.value, m.stage, m.code, m.why) for i, m in finished]
        stood += await _run(con, FINISH, ends, worker)
    return set(stood)


def _of(entries: Sequence[Entry], kind: type[M]) -> list[tuple[ItemId, M]]:
    return [(e.item_id, e.move) for e in entries if isinstance(e.move, kind)]


async def _run(
    con: Connection, sql: str, rows: Sequence[tuple[object, ...]], worker: WorkerId
) -> list[ItemId]:
    columns = [list(column) for column in zip(*rows, strict=True)]
    return [r["item_id"] for r in await con.fetch(sql, *columns, worker)]
