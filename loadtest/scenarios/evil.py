"""
The evil run: one item of each kind that harms its worker, among good ones.

A real `waybill worker`, with one process and with two, is given them as a service is:
one after the other, each evil one with its share of the good.  What became of each,
and how long the good ones took, is read from the database; how often workers were
replaced, from the service's own log.
"""

from __future__ import annotations

import json
import random
import resource
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from loadtest.scenarios.chaos import Scene, scene, stop
from loadtest.trial import Progress
from pipeline.model import Submission
from pipeline.store import embedded

PIPELINE = Path(__file__).parent / "evil_pipeline"
END_S = 180.0
MEMORY_BYTES = 400 << 20  # of a worker; an ordinary one here has a third of it
DESCRIPTORS = 512  # of a process; an ordinary worker has a tenth of it open
# A worker is replaced by a stage in company, and for each try of it alone.
DEATHS_MAX = 4
ENDS = {
    **dict.fromkeys(
        ("exits", "exits-in-a-task", "is-interrupted", "is-closed", "is-odd"),
        "STAGE_RAISED",
    ),
    "plays-cancelled": "STAGE_RAISED",
    **dict.fromkeys(("is-gone", "kills-itself", "crashes"), "WORKER_KILLED"),
    **dict.fromkeys(
        ("sleeps", "sleeps-in-a-task", "matches", "spins", "computes"), "LOOP_BLOCKED"
    ),
    "swallows-and-sleeps": "LOOP_BLOCKED",
    "computes-in-a-task": "LOOP_BLOCKED",
    **dict.fromkeys(
        ("swallows", "shields", "hangs-in-a-thread", "hangs-in-finally"),
        "STAGE_TIMEOUT",
    ),
    "outgrows": "WORKER_MEMORY",
    "leaks-descriptors": "DESCRIPTORS_LEAKED",
}
LEAVES = {"leaves-threads": "threads_left", "lowers-limits": "limits_mended"}

ITEMS = """
select i.name, o.state, o.code,
       extract(epoch from o.at - i.created_at)::float8 as took_s,
       (select count(*) from waybill.attempts a
         where a.item_id = i.id and a.charged) as charged
  from waybill.items i left join waybill.outcomes o on o.item_id = i.id
"""


def run(
    say: Progress,
    *,
    good: int,
    kinds: list[str],
    processes: list[int],
    every_s: float,
    seed: int,
) -> dict[str, Any]:
    """The figures of the worst of the worker counts, and of each."""
    found = {}
    for count in processes:
        with tempfile.TemporaryDirectory(prefix="waybill-evil-") as place:
            folder = Path(place)
            server = embedded.start(folder / "pg")
            try:
                found[str(count)] = anyio.run(
                    _with, folder, server, good, kinds, count, every_s, seed, say
                )
            finally:
                embedded.end(folder / "pg")
    figures = list(found.values())
    return {
        "good_done": min(f["good_done"] for f in figures),
        "good_p99_s": max(f["good_p99_s"] for f in figures),
        "evil_named": min(f["evil_named"] for f in figures),
        "innocents_charged": sum(f["innocents_charged"] for f in figures),
        "crash_loops": sum(f["crash_loops"] for f in figures),
        "good": good,
        "evil": len(kinds),
        "by_workers": found,
    }


async def _with(
    folder: Path,
    server: embedded.Embedded,
    good: int,
    kinds: list[str],
    processes: int,
    every_s: float,
    seed: int,
    say: Progress,
) -> dict[str, Any]:
    async with scene(folder, server, PIPELINE) as it:
        fleet = it.start(
            "worker",
            "--processes",
            str(processes),
            WAYBILL_WORKER_MEMORY_BYTES=str(MEMORY_BYTES),
        )
        hard = resource.prlimit(fleet.pid, resource.RLIMIT_NOFILE)[1]
        bounds = (min(DESCRIPTORS, hard), hard)
        resource.prlimit(fleet.pid, resource.RLIMIT_NOFILE, bounds)
        try:
            await it.until(partial(it.up, processes), 60, "the workers")
            say(f"{processes} workers: {good} good items, {len(kinds)} evil ones")
            began = time.monotonic()
            for wave in _waves(good, kinds, seed):
                batch = await it.store.open_batch("t0", "evil", deadline_s=86_400)
                rows = [Submission(n, n, n, 1, {}) for n in wave]
                await it.store.admit(batch, it.pipeline_id, rows)
                await anyio.sleep(every_s)
            await it.until(lambda: _over(it), END_S, "the end of all items")
            say(f"{processes} workers: all over after {time.monotonic() - began:.1f} s")
        finally:
            stop(fleet)
        return await _figures(it, kinds, say)


def _waves(good: int, kinds: list[str], seed: int) -> list[list[str]]:
    """The names of what arrives together: an evil one among its share of the good."""
    rng = random.Random(seed)
    evil = rng.sample(kinds, len(kinds))
    waves = [
        [f"good-{n}" for n in range(good)][k :: len(evil)] for k in range(len(evil))
    ]
    for wave, kind in zip(waves, evil, strict=True):
        wave.insert(rng.randint(0, len(wave)), kind)
    return waves


async def _over(it: Scene) -> bool:
    return (await it.store.counts()).live == 0


async def _figures(it: Scene, kinds: list[str], say: Progress) -> dict[str, Any]:
    rows = {r["name"]: r for r in await it.con.fetch(ITEMS)}
    log = (it.folder / "worker.log").read_text(encoding="utf-8", errors="replace")
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    events = [line.get("event") for line in lines]
    good = [row for name, row in rows.items() if name not in kinds]
    done = [row for row in good if row["state"] == "done"]
    took = sorted(row["took_s"] for row in done) or [END_S]
    named = []
    for kind in kinds:
        row = rows[kind]
        if kind in ENDS:
            named.append((row["state"], row["code"]) == ("failed", ENDS[kind]))
        else:  # its work is done; what it left is in the log
            named.append(row["state"] == "done" and LEAVES[kind] in events)
        say(f"{kind}: {row['state']} {row['code']}, {row['charged']} charged")
    deaths = events.count("worker_died")
    return {
        "good_done": len(done),
        "good_p99_s": round(took[min(len(took) - 1, int(len(took) * 0.99))], 2),
        "good_p50_s": round(took[len(took) // 2], 2),
        "evil_named": sum(named),
        "innocents_charged": sum(row["charged"] > 0 for row in good),
        "crash_loops": max(0, deaths - DEATHS_MAX * len(kinds)),
        "workers_died": deaths,
        "workers_hung": events.count("worker_hangs"),
        "workers_recycled": events.count("worker_recycled"),
        "workers_started": events.count("worker_started"),
    }
