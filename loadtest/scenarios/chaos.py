"""
Failure runs: real worker processes, killed or stopped while they work.

`kill` sends SIGKILL to workers of a real `waybill worker` at random moments and
measures how long their items lie idle.  `zombie` stops a worker beyond its lease,
lets another take over, lets it go on, and counts what it still managed to write.
The checker reads the database and the stages' own log, and shares no code with
what it checks.  Every run has its own server and folder, on loopback alone, and
ends by itself.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio
import asyncpg

from loadtest.trial import Progress
from pipeline.artifacts.files import FileArtifacts
from pipeline.folder import Builtin, Catalogue
from pipeline.model import Submission
from pipeline.run.origin import here, is_gone
from pipeline.run.spare import PARENT
from pipeline.store import embedded
from pipeline.store.migrate import migrate
from pipeline.store.postgres import PostgresStore
from pipeline.store.rows import Origin
from stages.document import Document

T = TypeVar("T")

PIPELINE = Path(__file__).parent / "chaos_pipeline"
STAGES = 5
END_S = 180.0  # after the last fault everything must be finished by then

Scenario = Callable[..., Awaitable[dict[str, Any]]]


@dataclass
class Scene:
    """A database, a folder, and the processes of one run."""

    store: PostgresStore
    con: asyncpg.Connection
    folder: Path
    env: dict[str, str]
    pipeline_id: int
    submitted: list[str] = field(default_factory=list)

    async def submit(self, count: int) -> None:
        """Admit `count` more items, over five tenants."""
        for tenant in range(5):
            batch = await self.store.open_batch(
                f"t{tenant}", "chaos", deadline_s=86_400
            )
            names = [f"item-{len(self.submitted) + n}" for n in range(tenant, count, 5)]
            rows = [Submission(n, n, n, 1, {}) for n in names]
            if rows:
                await self.store.admit(batch, self.pipeline_id, rows)
        self.submitted += [f"item-{len(self.submitted) + n}" for n in range(count)]

    def start(self, *command: str, **env: str) -> subprocess.Popen[bytes]:
        """A real `waybill` process, its log in the folder."""
        with (self.folder / "worker.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "waybill", *command],
                env={**self.env, **env},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def workers(self) -> dict[int, Any]:
        """Process id -> session of every live worker of this machine."""
        rows = await self.con.fetch(
            "select id, host, pid, born from waybill.workers where host = $1"
            " and lease_until > now()",
            here(),
        )
        return {
            r["pid"]: r["id"]
            for r in rows
            if not is_gone(Origin(r["host"], r["pid"], r["born"]))
        }

    async def held_by(self, worker: Any) -> list[int]:
        """Items this session has."""
        rows = await self.con.fetch(
            "select item_id from waybill.running where worker_id = $1", worker
        )
        return [r["item_id"] for r in rows]

    async def up(self, count: int) -> bool:
        """Whether so many workers are there."""
        return len(await self.workers()) >= count

    async def in_company(self) -> list[int]:
        """
        Workers with several items in hand, when there are some.

        One whose worker is killed while it runs alone is taken for what killed it.
        """
        while True:
            found = await self.workers()
            several = [p for p, w in found.items() if len(await self.held_by(w)) > 1]
            if several:
                return sorted(several)
            await anyio.sleep(0.05)

    async def until(
        self, what: Callable[[], Any], limit_s: float, name: str, every_s: float = 0.05
    ) -> None:
        """Wait for an awaitable condition; a run that hangs says where."""
        end = time.monotonic() + limit_s
        while not await what():
            if time.monotonic() > end:
                raise TimeoutError(f"waited {limit_s:.0f} s for {name}")
            await anyio.sleep(every_s)


@asynccontextmanager
async def scene(
    folder: Path, server: embedded.Embedded, pipeline: Path = PIPELINE
) -> AsyncIterator[Scene]:
    """Everything a run needs, made and removed."""
    await migrate(server.owner_url)
    env = {
        **os.environ,
        PARENT: str(os.getpid()),
        "WAYBILL_HOME": str(folder / "home"),
        "WAYBILL_DATABASE_URL": server.app_url,
        "WAYBILL_OWNER_URL": server.owner_url,
        "WAYBILL_CHAOS_LOG": str(folder / "begins.log"),
        "PYTHONPATH": str(PIPELINE.parents[2]),
    }
    (folder / "begins.log").touch()
    con = await asyncpg.connect(server.owner_url)
    try:
        async with PostgresStore(server.app_url) as store:
            artifacts = FileArtifacts(folder / "home" / "objects")
            catalogue = Catalogue(
                artifacts, folder / "home" / "pipelines", Builtin({}, Document)
            )
            number, _ = await catalogue.publish(pipeline, store)
            yield Scene(store, con, folder, env, number)
    finally:
        await con.close()


def played(folder: Path, pipeline: Path, work: Callable[[Scene], Awaitable[T]]) -> T:
    """What `work` makes of a scene whose database is started for it, and ended."""

    async def main() -> T:
        async with scene(folder, server, pipeline) as it:
            return await work(it)

    server = embedded.start(folder / "pg")
    try:
        return anyio.run(main)
    finally:
        embedded.end(folder / "pg")


def stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, then SIGKILL to the group this run started."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGCONT)
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


# -- kill -----------------------------------------------------------------------------


async def kill(
    it: Scene, items: int, kills: int, seed: int, say: Progress
) -> dict[str, Any]:
    """SIGKILL `kills` workers while `items` are on their way."""
    rng = random.Random(seed)
    recoveries: list[float] = []
    interrupted = 0
    fleet = it.start("worker", "--processes", "3", WAYBILL_CORES="3")
    try:
        await it.until(lambda: _at_least(it, 3), 60, "three workers")
        for number in range(kills):
            # Items arrive all the time, so that every kill meets some.
            await it.submit(items * (number + 1) // kills - items * number // kills)
            await anyio.sleep(rng.uniform(0.15, 0.9))
            # Struck often, all of them may be gone for a moment.
            await it.until(lambda: _at_least(it, 1), 60, "a worker")
            workers = await it.workers()
            pid = rng.choice(sorted(workers))
            victims = await it.held_by(workers[pid])
            struck = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            interrupted += len(victims)
            recoveries += await _recovered(it, workers[pid], victims, struck)
            say(f"kill {number + 1} of {kills}: {len(victims)} items interrupted")
        await it.until(lambda: finished(it), END_S, "the end of all items")
    finally:
        stop(fleet)
    recoveries.sort()
    p99 = recoveries[min(len(recoveries) - 1, int(len(recoveries) * 0.99))]
    return {
        **await audit(it),
        "kills": kills,
        "items": items,
        "interrupted": interrupted,
        "recovery_p50_s": round(recoveries[len(recoveries) // 2], 2),
        "recovery_p99_s": round(p99, 2),
    }


async def _at_least(it: Scene, count: int) -> bool:
    return len(await it.workers()) >= count


async def finished(it: Scene) -> bool:
    return (await it.store.counts()).live == 0


async def _recovered(
    it: Scene, dead: Any, victims: list[int], struck: float
) -> list[float]:
    """Seconds until each victim was in another worker's hands, or finished."""
    left = set(victims)
    took: list[float] = []
    while left and time.monotonic() - struck < 60:
        idle = await it.con.fetch(
            """
            select item_id from waybill.running
             where item_id = any($1::bigint[]) and worker_id = $2
            union all
            select item_id from waybill.ready
             where item_id = any($1::bigint[]) and strikes > 0
            """,
            list(left),
            dead,
        )
        now = time.monotonic() - struck
        gone = left - {r["item_id"] for r in idle}
        took += [now] * len(gone)
        left -= gone
        await anyio.sleep(0.01)
    return took + [60.0] * len(left)


# -- zombie ---------------------------------------------------------------------------


async def zombie(it: Scene, rounds: int, seed: int, say: Progress) -> dict[str, Any]:
    """SIGSTOP a worker beyond its lease, replace it, SIGCONT it, count its writes."""
    rng = random.Random(seed)
    accepted = noticed = taken_over = 0
    fleet = [it.start("work", WAYBILL_LEASE_S="1", WAYBILL_CORES="1") for _ in "ab"]
    try:
        await it.until(lambda: _at_least(it, 2), 60, "two workers")
        for number in range(rounds):
            await it.until(lambda: _at_least(it, 2), 60, "two workers")
            await it.submit(24)
            pid, worker, held = await _busy(it, rng, [p.pid for p in fleet])
            os.kill(pid, signal.SIGSTOP)
            before = await _written(it, worker)
            await it.until(partial(_reaped, it, worker), 30, "the replacement")
            taken_over += len(held)
            late = await _written(it, worker) - before
            os.kill(pid, signal.SIGCONT)
            await it.until(partial(_rejoined, it, pid, worker), 60, "a rejoin")
            noticed += 1
            # In flight at the stop may still have committed before it; what counts
            # is what came after the lease was gone.
            accepted += await _written(it, worker) - before - late
            say(f"round {number + 1} of {rounds}: {len(held)} items taken over")
        await it.until(lambda: finished(it), END_S, "the end of all items")
    finally:
        for process in fleet:
            stop(process)
    return {
        "late_writes_accepted": accepted,
        "rounds": rounds,
        "zombies_noticed": noticed,
        "items_taken_over": taken_over,
        **await audit(it),
    }


async def _busy(
    it: Scene, rng: random.Random, pids: list[int]
) -> tuple[int, Any, list[int]]:
    """A worker with items in hand."""
    for _ in range(600):
        workers = await it.workers()
        for pid in rng.sample(pids, len(pids)):
            held = await it.held_by(workers[pid]) if pid in workers else []
            # Not one that has a single item: it may be a suspect of the poison
            # guard, alone in its worker, and we would convict an innocent.
            if len(held) > 1:
                return pid, workers[pid], held
        await anyio.sleep(0.02)
    raise TimeoutError("no worker had anything to do")


async def _written(it: Scene, worker: Any) -> int:
    """Rows that carry this session's id."""
    return int(
        await it.con.fetchval(
            """
            select (select count(*) from waybill.checkpoints where worker_id = $1)
                 + (select count(*) from waybill.attempts where worker_id = $1)
                 + (select count(*) from waybill.audit
                     where actor = $1::uuid::text)
            """,
            worker,
        )
    )


async def _reaped(it: Scene, worker: Any) -> bool:
    there = "select exists (select from waybill.workers where id = $1)"
    return not await it.con.fetchval(there, worker)


async def _rejoined(it: Scene, pid: int, old: Any) -> bool:
    return bool((await it.workers()).get(pid, old) != old)


# -- the checker ----------------------------------------------------------------------


async def audit(it: Scene) -> dict[str, Any]:
    """What the database, the output folder and the stages' log say afterwards."""
    counts = await it.store.counts()
    done = {
        r["name"]
        for r in await it.con.fetch(
            "select i.name from waybill.items i join waybill.outcomes o"
            " on o.item_id = i.id where o.state = 'done'"
        )
    }
    ended = counts.done + counts.failed + counts.rejected + counts.cancelled
    finished_at = {
        (r["item_id"], r["stage"], r["step"] or "-"): r["at"].timestamp()
        for r in await it.con.fetch(
            "select item_id, stage, step, at from waybill.checkpoints"
        )
    }
    rerun = 0
    for line in (it.folder / "begins.log").read_text().splitlines():
        at, item, stage, step = line.split()
        end = finished_at.get((int(item), stage, step))
        # The database stamps a transaction's begin; one clock, one machine.
        if end is not None and float(at) > end + 0.001:
            rerun += 1
    files = list((it.folder / "home" / "out").rglob("*.label"))
    repeated = await it.con.fetchval(
        "select count(*) - count(distinct item_id) from waybill.checkpoints"
        " where stage = 'print_label' and step is null"
    )
    return {
        "lost": len(set(it.submitted) - done) - (ended - counts.done),
        "done": counts.done,
        "failed": counts.failed,
        "duplicate_outputs": len(files) - len({f.stem for f in files}) + repeated,
        "missing_outputs": len(done) - len(files),
        "finished_stages_rerun": rerun,
        "conserved": counts.conserved and not await it.store.astray(),
    }


def run(scenario: Scenario, say: Progress, **sizes: int) -> dict[str, Any]:
    """Run `kill` or `zombie` on a server and in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="waybill-chaos-") as place:

        async def work(it: Scene) -> dict[str, Any]:
            try:
                return await scenario(it, say=say, **sizes)
            except TimeoutError:
                tail = (it.folder / "worker.log").read_text()[-3000:]
                say(f"the workers' log ends with:\n{tail}")
                raise

        return played(Path(place), PIPELINE, work)
