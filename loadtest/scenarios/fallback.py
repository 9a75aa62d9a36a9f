"""
The first vendor is down: everything is done by the second, and paid once.

Items ask a simulated model several times; the first vendor of the chain refuses every
call, the second answers, and loses some of its answers after it billed them.  Workers
are killed with calls under way.  Who answered is read from the steps' own records, what
was paid from the vendors' own book, which knows a repeated call by its key.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from loadtest.scenarios.chaos import Scene, finished, scene, stop
from loadtest.trial import Progress
from loadtest.vendors.playing import Steered, playing
from pipeline.model import Submission
from pipeline.store import embedded

PIPELINE = Path(__file__).parent / "budget_pipeline"
CALLS = 4  # of each item, as its stage asks by default
WORLD: dict[str, dict[str, Any]] = {
    "llm": {"latency": {"low_s": 0.02, "high_s": 0.1}, "faults": {"error_503": 1.0}},
    "second": {
        "kind": "chat",
        "latency": {"low_s": 0.05, "high_s": 0.3},
        "faults": {"lost": 0.03},
    },
}
VENDORS = """
[vendor.llm]
kind = "openai"
url = "{first}/v1"
inside = true
model = "large"
timeout_s = 5
idempotency_header = "idempotency-key"
fallbacks = ["second"]

[vendor.second]
kind = "openai"
url = "{second}/v1"
inside = true
model = "small"
timeout_s = 5
idempotency_header = "idempotency-key"
"""
ENDS_S = 180.0
# Who answered each step that is a call, as its record says.
ANSWERED = """
select c.item_id, c.update ->> 'vendor' as vendor from waybill.checkpoints c
 where c.step like 'ask-%' and c.step not like '%/try-%'
"""
# A vendor's key that was billed more than once.
PAID_TWICE = """
select count(*) from (
  select key from calls where billed group by vendor, key having count(*) > 1)
"""


async def fall_back(
    it: Scene, world: Steered, say: Progress, *, items: int, kills: int, seed: int
) -> dict[str, Any]:
    """Everybody asks; the first vendor answers nobody."""
    rng = random.Random(seed)
    batch = await it.store.open_batch("acme", "fallback", deadline_s=86_400)
    names = [f"item-{n}" for n in range(items)]
    await it.store.admit(
        batch, it.pipeline_id, [Submission(name, name, name, 1, {}) for name in names]
    )
    fleet = it.start("worker", "--processes", "3", WAYBILL_CORES="1")
    try:
        for number in range(kills):
            asked = (number + 1) * items * CALLS // (kills + 1)
            await it.until(partial(_called, it, asked), 120, "calls under way")
            os.kill(rng.choice(await it.in_company()), signal.SIGKILL)
            say(f"kill {number + 1} of {kills}")
        await it.until(partial(finished, it), ENDS_S, "the end of all items")
    finally:
        stop(fleet)
    counts = await it.store.counts()
    by: dict[int, set[str]] = {}
    steps = await it.con.fetch(ANSWERED)
    for row in steps:
        by.setdefault(row["item_id"], set()).add(row["vendor"])
    [(twice,)] = world.rows(PAID_TWICE)
    return {
        "done": counts.done,
        "by_fallback": sum(vendors == {"second"} for vendors in by.values()),
        "paid_twice": twice,
        "steps": len(steps),
        "billed": world.counts("second")["billed"],
        "first_asked": world.counts("llm")["calls"],
        "killed": kills,
        "failed": counts.failed,
        "conserved": counts.conserved and not await it.store.astray(),
    }


async def _called(it: Scene, calls: int) -> bool:
    made = await it.con.fetchval("select count(*) from waybill.calls")
    return made >= calls and bool(await it.workers())


def run(say: Progress, *, items: int, kills: int, seed: int) -> dict[str, Any]:
    """On a server, with vendors and in a folder of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="waybill-fallback-") as place,
        playing(WORLD, seed=seed, for_s=ENDS_S + 600) as world,
    ):
        folder = Path(place)
        pipeline = folder / "spending"
        shutil.copytree(PIPELINE, pipeline)
        (folder / "home").mkdir()
        declared = VENDORS.format(first=world.url("llm"), second=world.url("second"))
        (folder / "home" / "vendors.toml").write_text(declared)
        server = embedded.start(folder / "pg")

        async def main() -> dict[str, Any]:
            async with scene(folder, server, pipeline) as it:
                return await fall_back(
                    it, world, say, items=items, kills=kills, seed=seed
                )

        try:
            return anyio.run(main)
        finally:
            embedded.end(folder / "pg")
