"""
Does what people and workers ask cost the same with a million items?

A database of its own is filled with finished items, holds, and the tenants that wait
in line, by SQL; triggers and all.  Then the store's functions are called that the
commands call, and the commands themselves.  The database stays warm between calls, as
a service's is.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import asyncpg

from pipeline.store import embedded
from pipeline.store.database import Connection
from pipeline.store.migrate import migrate
from pipeline.store.postgres import PostgresStore
from pipeline.store.rows import Origin, Share, Sought

Say = Callable[[str], None]

FEW = 20  # tenants at the stage against which that of many is measured
CLAIM = 500
CALLS = 15
READY = 50_000  # at each of the two stages
TAKEN = 1000  # holds that one reviewer claims first

FILL = """
insert into waybill.tenants (name)
  select 'tenant-' || n from generate_series(1, {tenants}) n;
insert into waybill.pipelines (name, version, stages, files)
  values ('p', 'v', '{{many,few,check,write}}', '{{}}');
insert into waybill.batches (tenant_id, name, deadline_at)
  select id, 'b' || id, now() + interval '1 day' from waybill.tenants order by id;
insert into waybill.items (tenant_id, batch_id, pipeline_id, pipeline, name, key,
                           deadline_at, input)
  select t, t, 1, 'p', 'n' || n, 'k' || n,
         now() + make_interval(secs => 80000 + n % 977), '{{}}'
    from (select n, 1 + (n % case when n <= {items} + {holds} + {ready} then {tenants}
                             else {few} end)::int as t
            from generate_series(1, {items} + {holds} + 2 * {ready}) n) i
   order by n;
insert into waybill.receipts (batch_id, token, name, key, size_bytes, disposal, item_id)
  select batch_id, 't' || id, name, key, 1000, 'item', id from waybill.items;
insert into waybill.outcomes (item_id, state, stage, code, why)
  select id, case when id % 1000 = 0 then 'failed' else 'done' end, 'write', '', ''
    from waybill.items where id <= {items};
insert into waybill.checkpoints (item_id, seq, stage, update, next_stage, took_s)
  select id, s, 'write', '{{"n": 1}}', '', 1
    from waybill.items, generate_series(0, 1) s where id <= {items};
insert into waybill.holds (item_id, stage, tenant_id, deadline_at, seq, code, why,
                           shown, proposal, digest, again, next_stage)
  select id, 'check', tenant_id, deadline_at, 2, 'LOOK', 'why not',
         jsonb_build_object('evidence', null, 'state', repeat('x', 2000)),
         '{{"text": "proposed"}}', 'd', false, 'write'
    from waybill.items where id > {items} and id <= {items} + {holds};
insert into waybill.ready (item_id, stage, tenant_id, deadline_at, seq)
  select id, case when id <= {items} + {holds} + {ready} then 'many' else 'few' end,
         tenant_id, deadline_at, 0
    from waybill.items where id > {items} + {holds};
"""


async def scale(
    store: PostgresStore, owner_url: str, say: Say, items: int, holds: int, tenants: int
) -> dict[str, Any]:
    """Fill, then ask."""
    begun = time.perf_counter()
    con = await asyncpg.connect(owner_url)
    sizes = {"items": items, "holds": holds, "tenants": tenants}
    ready = max(2 * CLAIM, min(READY, items))
    for step in FILL.format(**sizes, few=FEW, ready=ready).split(";"):
        if step.strip():
            await con.execute(step, timeout=900)
    await con.execute("vacuum analyze", timeout=900)
    await con.execute("checkpoint", timeout=900)
    await con.close()
    await store.fold()
    filled_s = time.perf_counter() - begun
    say(f"filled in {filled_s:.0f} s")
    found = {
        **await claims(store, tenants),
        **await reviews(store, holds),
        **await reports(store),
    }
    say("every item is looked up")
    begun = time.perf_counter()
    audit = await store.audit(note=lambda n: None)
    return {
        **found,
        "reconcile": "ok" if audit.sound else f"{audit}",
        "reconcile_s": round(time.perf_counter() - begun, 1),
        "fill_s": round(filled_s),
        **sizes,
    }


async def claims(store: PostgresStore, tenants: int) -> dict[str, Any]:
    """
    A claim among all tenants against one among few: the same worker, the same size,
    in turns, what was taken put back each time.
    """
    worker = await store.join(Origin("bench", 1, "1"), lease_s=3600)
    shares = {f"tenant-{n}": Share(float(n % 7), 1.0) for n in range(1, tenants + 1)}
    took: dict[str, list[float]] = {"many": [], "few": []}
    for _ in range(CALLS):
        for stage, times in took.items():
            begun = time.perf_counter()
            claimed = await store.claim(worker, stage, CLAIM, shares)
            times.append(time.perf_counter() - begun)
            assert len(claimed) == CLAIM, f"{len(claimed)} at {stage}"
            await store.disown(worker, [])
            await store.fold()
    await store.leave(worker)
    many_s, few_s = (statistics.median(times) for times in took.values())
    return {
        "claim_ratio_20_tenants": round(many_s / few_s, 2),
        "claim_ms": round(1000 * many_s, 1),
        "claim_of_20_ms": round(1000 * few_s, 1),
    }


async def reviews(store: PostgresStore, holds: int) -> dict[str, Any]:
    """The next hold, while one reviewer has many; each call is another reviewer's."""
    taken = min(TAKEN, holds // 10)

    async def take(con: Connection) -> None:
        await con.execute(
            "update waybill.holds set claimed_by = 'ann',"
            " claimed_until = now() + interval '1 hour' where id in (select id from"
            " waybill.holds where open order by deadline_at, id limit $1)",
            taken,
        )

    await store.database.tx(take)
    took, seen = [], set()
    for n in range(200):
        begun = time.perf_counter()
        hold = await store.claim_next(f"reviewer-{n}", lease_s=900)
        took.append(time.perf_counter() - begun)
        assert hold is not None
        seen.add(hold.id)
    assert len(seen) == len(took), "two reviewers have one hold"
    return {
        "review_next_p99_ms": round(1000 * statistics.quantiles(took, n=100)[98], 1)
    }


async def reports(store: PostgresStore) -> dict[str, Any]:
    """What the commands ask the store, each as often; milliseconds."""

    async def status() -> None:
        await store.counts()
        await store.stages()
        await store.in_work(longer_than=3)
        await store.pace()
        await store.limited()
        await store.waiting()
        await store.sessions()

    async def batches() -> None:
        await store.counts_of([b.id for b in await store.batches()])

    asked: dict[str, Callable[[], Awaitable[Any]]] = {
        "status_ms": status,
        "items_ls_ms": store.items,
        "items_ls_done_ms": lambda: store.items(state="done"),
        "items_ls_failed_ms": lambda: store.items(state="failed"),
        "items_ls_held_ms": lambda: store.items(state="held"),
        "items_ls_batch_ms": lambda: store.items(batch_id=1, state="failed"),
        "items_ls_tenant_ms": lambda: store.items(tenant="tenant-1"),
        "items_ls_name_ms": lambda: store.find(sought=Sought(name="n5")),
        "items_ls_no_such_name_ms": lambda: store.find(sought=Sought(name="zebra")),
        "items_ls_code_ms": lambda: store.find(sought=Sought(code="NONE")),
        "review_ls_no_such_name_ms": lambda: store.holds(sought=Sought(name="zebra")),
        "batches_ls_ms": batches,
        "review_ls_ms": store.holds,
        "quarantine_ls_ms": store.quarantined,
    }
    return {
        name: round(1000 * statistics.median([await _timed(ask) for _ in range(7)]), 1)
        for name, ask in asked.items()
    }


async def _timed(ask: Callable[[], Awaitable[Any]]) -> float:
    begun = time.perf_counter()
    await ask()
    return time.perf_counter() - begun


def commands(urls: embedded.Embedded, home: Path, say: Say) -> dict[str, float]:
    """The wall of whole commands, in seconds: a process, its imports, the answer."""
    environment = os.environ | {
        "WAYBILL_HOME": str(home),
        "WAYBILL_DATABASE_URL": urls.app_url,
    }
    walls = {}
    for words in ("status", "items ls", "batches ls", "review ls", "batches reconcile"):
        say(f"waybill {words}")
        begun = time.perf_counter()
        argv = [sys.executable, "-m", "waybill", *words.split(), "--json"]
        subprocess.run(
            argv, env=environment, check=True, capture_output=True, timeout=600
        )
        walls[words] = round(time.perf_counter() - begun, 2)
    return walls


def measure(
    say: Say, *, items: int = 1_000_000, holds: int = 100_000, tenants: int = 5000
) -> dict[str, Any]:
    """Run on a database of its own; `good` when every figure is within its bound."""
    with tempfile.TemporaryDirectory(prefix="waybill-bench-") as place:
        folder = Path(place)
        server = embedded.start(folder / "pg")

        async def main() -> dict[str, Any]:
            await migrate(server.owner_url)
            async with PostgresStore(server.app_url) as store:
                return await scale(store, server.owner_url, say, items, holds, tenants)

        try:
            found = anyio.run(main, backend_options={"use_uvloop": True})
            found["commands_s"] = commands(server, folder / "home", say)
        finally:
            embedded.end(folder / "pg")
    found["good"] = found["reconcile"] == "ok" and all(
        found[name] <= bound for name, bound in BOUNDS.items()
    )
    return found


BOUNDS = {
    "claim_ratio_20_tenants": 2,
    "review_next_p99_ms": 50,
    "status_ms": 200,
    "items_ls_ms": 200,
    "batches_ls_ms": 200,
}
