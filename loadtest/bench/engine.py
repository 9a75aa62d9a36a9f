"""
Benchmarks of the engine: `steps`, `waiting`, `backlog`.

Absolute times mean nothing on a shared machine, so each prints a ratio against a
baseline measured in the same run, and the baseline's own figure.  Everything is
on: fsync, leases, audit, deadlines, validation.  Each run has a PostgreSQL of its
own under a temporary folder and stops it at the end.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import asyncpg

from loadtest.bench.noop import BUILTIN, NOOP, PAUSE, TEXT, write_pipeline
from pipeline.agents.declared import ModelSpec
from pipeline.artifacts.files import FileArtifacts
from pipeline.folder import Builtin, Catalogue
from pipeline.jail.pool import JailPool
from pipeline.model import Submission
from pipeline.run.services import Services
from pipeline.run.session import Session, WorkerSettings
from pipeline.run.slate import Slate
from pipeline.run.watchdog import Watchdog
from pipeline.run.worker import Worker
from pipeline.store import embedded
from pipeline.store.database import Connection
from pipeline.store.migrate import migrate
from pipeline.store.postgres import PostgresStore
from pipeline.store.postgres.commits import CHECKPOINTS
from pipeline.vendors.declared import VendorSpec
from pipeline.vendors.door import Door

TENANTS = 20
RAW_BATCH = 500

Benchmark = Callable[..., Awaitable[dict[str, Any]]]


@dataclass(frozen=True)
class Bed:
    """A database, a worker's surroundings, and a place for files."""

    store: PostgresStore
    folder: Path
    owner_url: str
    app_url: str = ""

    def worker(
        self,
        items_max: int,
        door: Door | None = None,
        vendors: Mapping[str, VendorSpec] | None = None,
        *,
        models: Mapping[str, ModelSpec] | None = None,
        builtin: Builtin = BUILTIN,
    ) -> Worker:
        """A real worker over this store; it may call `vendors` through a door."""
        artifacts = FileArtifacts(self.folder / "objects")
        catalogue = Catalogue(artifacts, self.folder / "cache", builtin)
        services = Services(
            artifacts,
            JailPool(1),
            door or Door(),
            self.folder / "out",
            vendors=vendors or {},
            models=models or {},
        )
        settings = WorkerSettings(items_max=items_max)
        return Worker(self.store, catalogue, services, settings)

    async def submit(
        self,
        stages: list[str],
        items: int,
        label: str,
        *,
        root: Path | None = None,
        builtin: Builtin = BUILTIN,
    ) -> int:
        """
        Admit `items` for a pipeline of `stages`, or that of the folder `root`; returns
        the last batch's id.
        """
        artifacts = FileArtifacts(self.folder / "objects")
        catalogue = Catalogue(artifacts, self.folder / "cache", builtin)
        root = root or write_pipeline(self.folder / label, label, stages)
        number, _ = await catalogue.publish(root, self.store)
        for tenant in range(TENANTS):
            batch = await self.store.open_batch(
                f"tenant-{tenant}", label, deadline_s=86_400
            )
            mine = range(tenant, items, TENANTS)
            for first in range(0, len(mine), 5000):
                rows = [
                    Submission(f"n{i}", f"{label}-{i}", f"{label}-{i}", 200, {})
                    for i in mine[first : first + 5000]
                ]
                await self.store.admit(batch, number, rows)
        return batch.id


@asynccontextmanager
async def bed(folder: Path, server: embedded.Embedded) -> AsyncIterator[Bed]:
    """An empty, migrated database."""
    await migrate(server.owner_url)
    async with PostgresStore(server.app_url) as store:
        yield Bed(store, folder, server.owner_url, server.app_url)


async def until_done(
    bed: Bed, worker: Worker, items: int, dog: Watchdog | None = None
) -> float:
    """Run `worker` until `items` more are done; seconds it took."""
    begun = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        if dog is not None:
            dog.stand()
            tasks.start_soon(dog.run)
        tasks.start_soon(worker.run)
        sessions: list[Session] = []  # more than one where a lease ran out
        while sum(session.done for session in sessions) < items:
            await anyio.sleep(0.005)
            if worker.session is not None and worker.session not in sessions:
                sessions.append(worker.session)
        wall_s = time.perf_counter() - begun
        worker.drain()
        await worker.finished.wait()
        tasks.cancel_scope.cancel()
    return wall_s


async def raw_rows(bed: Bed, rows: int) -> float:
    """
    The baseline: the same checkpoint rows, `RAW_BATCH` a transaction, by unnest
    on one connection.  Rows a second.
    """
    update = json.dumps({"text": TEXT, "n": 1})
    writer = uuid4()
    first = -1_000_000_000

    async def work(con: Connection, at: int) -> None:
        ids = list(range(first + at, first + at + RAW_BATCH))
        n = RAW_BATCH
        await con.execute(
            CHECKPOINTS,
            ids,
            [0] * n,
            ["noop1"] * n,
            [None] * n,
            [update] * n,
            [None] * n,
            ["noop2"] * n,
            [0.001] * n,
            writer,
        )

    begun = time.perf_counter()
    for at in range(0, rows, RAW_BATCH):
        await bed.store.database.tx(lambda con, at=at: work(con, at))  # type: ignore[misc]
    return rows / (time.perf_counter() - begun)


async def steps_once(
    bed: Bed, items: int, in_flight: int, label: str, dog: Watchdog | None = None
) -> float:
    """Steps a second of `items` through five no-op stages."""
    await bed.submit([s.name for s in NOOP], items, label)
    worker = bed.worker(in_flight)
    wall_s = await until_done(bed, worker, items, dog)
    return len(NOOP) * items / wall_s


async def steps(bed: Bed, items: int, in_flight: int) -> dict[str, float]:
    """
    Five no-op stages through the real worker, against raw inserts.

    `watched` is the ratio with the watchdog of a worker process standing by, which
    looks at each turn of a stage: some microseconds, whatever the stage takes.
    """
    await raw_rows(bed, 20_000)  # warm
    await steps_once(bed, 500, in_flight, "warm")
    before = await raw_rows_fresh(bed)
    rate = await steps_once(bed, items, in_flight, "steps")
    after = await raw_rows_fresh(bed)
    raw = (before + after) / 2
    dog = Watchdog(Slate(), blocked_s=60, memory_bytes=1 << 34, recycle=lambda _: None)
    watched = await steps_once(bed, items, in_flight, "watched", dog)
    return {
        "steps_per_s": round(rate),
        "raw_rows_per_s": round(raw),
        "ratio": round(rate / raw, 3),
        "watched": round(watched / raw, 3),
        "items": items,
        "in_flight": in_flight,
        "peak_rss_mb": rss_mb(),
    }


async def raw_rows_fresh(bed: Bed, rows: int = 100_000) -> float:
    """`raw_rows` after removing what an earlier round wrote."""
    await bed.store.database.fetch("delete from waybill.checkpoints where item_id < 0")
    return await raw_rows(bed, rows)


async def waiting(bed: Bed, items: int) -> dict[str, float]:
    """Items that each wait two seconds in a stage: does waiting cost anything?"""
    await bed.submit([PAUSE.name], items, "waiting")
    worker = bed.worker(items)
    wall_s = await until_done(bed, worker, items)
    assert worker.session is not None
    return {
        "wall_s": round(wall_s, 2),
        "ideal_s": 2.0,
        "peak_rss_mb": rss_mb(),
        "in_flight_max": worker.session.windows.total_max,
        "items": items,
    }


HISTORY = """
insert into waybill.items (tenant_id, batch_id, pipeline_id, pipeline, name, key,
                           deadline_at, input)
select 1 + g % {tenants}, (select min(id) from waybill.batches), 1, 'history', 'h',
       'h-' || g, now() + interval '9 days', '{{}}'
  from generate_series(1, {done} + {waiting}) g;
create temp table made as
  select id, row_number() over (order by id) as n from waybill.items
   where pipeline = 'history';
insert into waybill.outcomes (item_id, state, stage, code, why, at)
select id, 'done', 'noop5', '', '', now() - interval '1 day'
  from made where n <= {done};
insert into waybill.checkpoints (item_id, seq, stage, update, next_stage, took_s)
select id, s, 'noop' || s, '{{"n": 1}}', 'noop' || s + 1, 0.001
  from made, generate_series(1, 5) s where n <= {done};
insert into waybill.ready (item_id, stage, tenant_id, deadline_at, seq)
select id, 'later', 1 + n % {tenants}, now() + interval '9 days', 5
  from made where n > {done} and n <= {done} + {waiting} * 3 / 4;
insert into waybill.waiting (item_id, stage, tenant_id, deadline_at, seq, attempt,
                             until, why)
select id, 'later', 1 + n % {tenants}, now() + interval '9 days', 5, 0,
       now() + interval '2 days', 'later'
  from made where n > {done} + {waiting} * 3 / 4;
"""


async def backlog(
    bed: Bed, items: int, in_flight: int, done: int, waiting: int
) -> dict[str, float]:
    """`steps` with a million finished and 200,000 waiting items, against none."""

    await raw_rows(bed, 20_000)
    await steps_once(bed, 500, in_flight, "warm")
    empty = await steps_once(bed, items, in_flight, "empty")
    con = await asyncpg.connect(bed.owner_url)
    sql = HISTORY.format(tenants=TENANTS, done=done, waiting=waiting)
    await con.execute(sql, timeout=900)
    await con.execute("vacuum analyze", timeout=900)
    await con.execute("checkpoint", timeout=900)
    await con.close()
    # The 150,000 ready ones are at a stage of a pipeline nobody here may run.
    full = await steps_once(bed, items, in_flight, "full")
    return {
        "ratio": round(full / empty, 3),
        "steps_per_s_full": round(full),
        "steps_per_s_empty": round(empty),
        "finished": done,
        "waiting": waiting,
    }


def rss_mb() -> int:
    """Peak resident memory of this process, MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (1024 * 1024 if sys.platform == "darwin" else 1024)


def measure(benchmark: Benchmark, **sizes: float) -> dict[str, Any]:
    """Run `steps`, `waiting` or `backlog` on a database of its own."""
    with tempfile.TemporaryDirectory(prefix="waybill-bench-") as place:
        folder = Path(place)
        server = embedded.start(folder / "pg")

        async def main() -> dict[str, Any]:
            async with bed(folder, server) as it:
                return await benchmark(it, **sizes)

        try:
            return anyio.run(main, backend_options={"use_uvloop": True})
        finally:
            embedded.end(folder / "pg")
