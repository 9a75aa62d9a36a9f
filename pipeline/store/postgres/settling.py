"""
Settling calls in PostgreSQL: with a commit, by itself, and for workers that are gone.

Budgets are locked last of all in a transaction, in the order of their key: nobody
waits for one another in a ring.  Of each family's batch the row is among them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import asyncpg

from pipeline.calls import Settled
from pipeline.model import WorkerId
from pipeline.state import clean_text
from pipeline.store.database import Connection
from pipeline.store.ledger import Change, Closed, Key, Where, changes_of, tokens_of
from pipeline.store.outside import UNKNOWN_END

SETTLE = """
update waybill.calls c
   set settled_at = waybill.clock(), cost = coalesce(t.cost, c.reserved),
       code = t.code, model = t.model, finish = t.finish, took_s = t.took_s,
       input_tokens = t.input, cached_input_tokens = t.cached,
       output_tokens = t.output, reasoning_tokens = t.reasoning
  from unnest($1::bigint[], $2::int[], $3::numeric[], $4::text[], $5::text[],
              $6::text[], $7::real[], $8::bigint[], $9::bigint[], $10::bigint[],
              $11::bigint[])
       t(item_id, number, cost, code, model, finish, took_s, input, cached, output,
         reasoning)
 where c.item_id = t.item_id and c.number = t.number and c.worker_id = $12
   and c.settled_at is null
returning c.*
"""

SETTLE_LOST = """
update waybill.calls set settled_at = waybill.clock(), cost = reserved, code = $2
 where worker_id = any($1::uuid[]) and settled_at is null
returning *
"""

LOCK = """
select 1 from waybill.budgets b
  join unnest($1::text[], $2::bigint[], $3::text[]) t(scope, of, currency)
       using (scope, of, currency)
 order by b.scope, b.of, b.currency for update of b
"""

CHANGE = """
update waybill.budgets b
   set reserved = b.reserved + t.reserved, spent = b.spent + t.spent,
       calls = b.calls + t.calls, failed = b.failed + t.failed,
       input_tokens = b.input_tokens + t.input,
       cached_input_tokens = b.cached_input_tokens + t.cached,
       output_tokens = b.output_tokens + t.output,
       reasoning_tokens = b.reasoning_tokens + t.reasoning
  from unnest($1::text[], $2::bigint[], $3::text[], $4::numeric[], $5::numeric[],
              $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[],
              $11::bigint[])
       t(scope, of, currency, reserved, spent, calls, failed, input, cached, output,
         reasoning)
 where b.scope = t.scope and b.of = t.of and b.currency = t.currency
"""


async def write_settled(
    con: Connection, worker: WorkerId, settled: Sequence[Settled]
) -> None:
    """Settle calls, last of all in a transaction: until its end budgets are locked."""
    if not settled:
        return
    rows = [
        (
            *s.call,
            s.cost,
            clean_text(s.code),
            clean_text(s.model),
            clean_text(s.finish),
            s.took_s,
            *tokens_of(s.usage),
        )
        for s in settled
    ]
    await _charge(con, await con.fetch(SETTLE, *columns(rows), worker))


async def settle_lost(con: Connection, workers: Sequence[WorkerId]) -> None:
    """Nobody knows how these workers' open calls ended: they cost the most."""
    await _charge(con, await con.fetch(SETTLE_LOST, list(workers), UNKNOWN_END))


async def _charge(con: Connection, rows: Sequence[asyncpg.Record]) -> None:
    closed = [
        Closed(
            Where(r["root_id"], r["batch_id"], r["tenant_id"], r["day"]),
            r["currency"],
            r["reserved"],
            r["cost"],
            r["code"],
            (
                r["input_tokens"],
                r["cached_input_tokens"],
                r["output_tokens"],
                r["reasoning_tokens"],
            ),
        )
        for r in rows
    ]
    await lock_and_change(con, changes_of(closed))


async def lock_and_change(con: Connection, changes: Mapping[Key, Change]) -> None:
    """Add to budgets, last of all in a transaction."""
    if changes:
        # Families are changed under the lock of their batch; and in a statement of its
        # own, which sees those that began while the lock was waited for.
        shared = [key for key in changes if key.scope != "item"]
        await con.execute(LOCK, *columns(shared))
    await change(con, changes)


async def change(con: Connection, changes: Mapping[Key, Change]) -> None:
    """Add to budgets that are locked."""
    if changes:
        await con.execute(CHANGE, *columns((*k, *c) for k, c in changes.items()))


def columns(rows: Iterable[Iterable[object]]) -> list[list[object]]:
    """Rows as the columns that `unnest` takes."""
    return [list(column) for column in zip(*rows, strict=True)]
