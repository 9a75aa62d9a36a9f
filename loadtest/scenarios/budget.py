"""
A budget under many callers at once, in several worker processes.

Items of one tenant ask a simulated model until its budget is used up; some calls are
lost after they were billed, some fail, and workers are killed with calls under way.
What was spent is counted twice: by the ledger, and by the vendor's own book, priced
here.  Then the budget is raised: whoever waited must go on, and pay for no finished
step again.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from loadtest.scenarios.chaos import Scene, finished, scene, stop
from loadtest.trial import Progress
from loadtest.vendors.playing import Steered, playing
from pipeline.calls import Money
from pipeline.model import Submission
from pipeline.store import embedded

PIPELINE = Path(__file__).parent / "budget_pipeline"
TENANT = "spender"
LIMIT, RAISED = Decimal("10.00"), Decimal("1000.00")
# A call costs some 0.045 and is reserved at some 0.06: 220 of them cost 10.00.
PER_CALL, PER_INPUT, PER_OUTPUT = Decimal("0.02"), Decimal("0.0001"), Decimal("0.0002")
WORLD = {
    "llm": {
        "latency": {"low_s": 0.05, "high_s": 0.3},
        "faults": {"lost": 0.03, "error_500": 0.03},
    }
}
VENDORS = """
[vendor.llm]
kind = "openai"
url = "{url}/v1"
inside = true
model = "small"
timeout_s = 5

[vendor.llm.price]
call = "{call}"
input = "{input}"
output = "{output}"
"""
STOPS_S, ENDS_S = 120.0, 180.0
LOOK_S = 0.1
RESTS = ["BUDGET_USED_UP", "BUDGET_RESERVED"]

# What stands where, and how much of it waits for money.
STANDING = """
select (select count(*) from waybill.ready) + (select count(*) from waybill.running)
         as moving,
       (select count(*) from waybill.waiting where why = any($1::text[])) as resting,
       (select count(*) from waybill.waiting where why <> all($1::text[])) as retrying,
       (select count(*) from waybill.calls where settled_at is null) as open
"""
SPENT = "select coalesce(sum(cost), 0) from waybill.calls"
# Steps that were finished at a moment, and called again afterwards.
CALLED_AGAIN = """
select count(*) from waybill.calls c
  join waybill.checkpoints k on k.item_id = c.item_id and k.step = c.step
 where k.at <= $1 and c.opened_at > $1
"""


async def spend(
    it: Scene,
    world: Steered,
    say: Progress,
    *,
    limit: Decimal,
    items: int,
    kills: int,
    processes: int,
) -> dict[str, Any]:
    """Use a budget up, raise it, see everybody go on."""
    batch = await it.store.open_batch(TENANT, "spending", deadline_s=86_400)
    names = [f"item-{n}" for n in range(items)]
    rows = [Submission(name, name, name, 1, {}) for name in names]
    await it.store.admit(batch, it.pipeline_id, rows)
    await it.store.set_budget(f"tenant/{TENANT}", Money(limit, "USD"))
    fleet = it.start("worker", "--processes", str(processes), WAYBILL_CORES="1")
    try:
        watch = Watch(it)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch.run)
            await _killed(it, kills, say)
            await it.until(partial(_stopped, it), STOPS_S, "the budget's end", 0.5)
            tasks.cancel_scope.cancel()
        at_stop = await it.con.fetchval("select clock_timestamp()")
        rested = await _resting(it)
        spent, billed = await _spent(it), _billed(world)
        say(f"used up: {spent} of {limit} spent, {billed} billed, {len(rested)} wait")
        await it.store.set_budget(f"tenant/{TENANT}", Money(RAISED, "USD"))
        await it.until(partial(finished, it), ENDS_S, "the end of all items")
    finally:
        stop(fleet)
    counts = await it.store.counts()
    over = max(spent, billed, watch.highest) - limit
    owed = _billed(world) - await _spent(it)
    return {
        "overspent": float(over) if over > 0 else 0,
        "resumed": await _done_of(it, rested),
        "waited": len(rested),
        "spent": f"{spent:.4f}",
        "billed": f"{billed:.4f}",
        "highest": f"{watch.highest:.4f}",
        "unpaid": float(owed) if owed > 0 else 0,
        "at_once_max": watch.at_once,
        "calls": await it.con.fetchval("select count(*) from waybill.calls"),
        "killed": kills,
        "finished_steps_called_again": await it.con.fetchval(CALLED_AGAIN, at_stop),
        "done": counts.done,
        "failed": counts.failed,
        "conserved": counts.conserved and not await it.store.astray(),
    }


class Watch:
    """What is spent and reserved, looked at all the time."""

    def __init__(self, it: Scene) -> None:
        self._it = it
        self.highest = Decimal(0)
        self.at_once = 0

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            for row in await self._it.store.budget(f"tenant/{TENANT}"):
                sum_ = row.spent.cost + row.spent.reserved
                self.highest = max(self.highest, sum_)
            standing = await self._it.store.stages()
            self.at_once = max([self.at_once, *(s.running for s in standing)])
            await anyio.sleep(LOOK_S)


async def _killed(it: Scene, kills: int, say: Progress) -> None:
    """SIGKILL workers that have calls under way."""
    for number in range(kills):
        await it.until(partial(_calling, it, 20 * (number + 1)), 60, "calls under way")
        workers = await it.workers()
        pid = random.choice(sorted(workers))
        os.kill(pid, signal.SIGKILL)
        say(f"kill {number + 1} of {kills}")


async def _calling(it: Scene, calls: int) -> bool:
    made = await it.con.fetchval("select count(*) from waybill.calls")
    return made >= calls and bool(await it.workers())


async def _stopped(it: Scene) -> bool:
    """Whether nobody moves any more, for want of money."""
    for _ in range(2):
        [row] = await it.con.fetch(STANDING, RESTS)
        if row["moving"] or row["retrying"] or row["open"] or not row["resting"]:
            return False
        await anyio.sleep(1)
    return True


async def _resting(it: Scene) -> list[int]:
    sql = "select item_id from waybill.waiting where why = any($1::text[])"
    return [r["item_id"] for r in await it.con.fetch(sql, RESTS)]


async def _done_of(it: Scene, items: list[int]) -> int:
    sql = (
        "select count(*) from waybill.outcomes"
        " where state = 'done' and item_id = any($1::bigint[])"
    )
    return int(await it.con.fetchval(sql, items))


async def _spent(it: Scene) -> Decimal:
    spent: Decimal = await it.con.fetchval(SPENT)
    return spent


def _billed(world: Steered) -> Decimal:
    """What the vendor asks for, by its own book."""
    [(calls, tokens_in, tokens_out)] = world.rows(
        "select count(*), coalesce(sum(tokens_in), 0), coalesce(sum(tokens_out), 0)"
        " from calls where billed"
    )
    owed: Decimal = calls * PER_CALL + tokens_in * PER_INPUT + tokens_out * PER_OUTPUT
    return owed


def run(
    say: Progress,
    *,
    parallel: int,
    items: int,
    kills: int,
    limit: Decimal = LIMIT,
    processes: int = 4,
) -> dict[str, Any]:
    """On a server, with a vendor and in a folder of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="waybill-budget-") as place,
        playing(WORLD, for_s=STOPS_S + ENDS_S + 300) as world,
    ):
        folder = Path(place)
        pipeline = folder / "spending"
        shutil.copytree(PIPELINE, pipeline)
        with (pipeline / "pipeline.toml").open("a") as file:
            file.write(f"\n[stage.ask]\nwindow = {max(1, parallel // processes)}\n")
        (folder / "home").mkdir()
        declared = VENDORS.format(
            url=world.url("llm"),
            call=PER_CALL,
            input=PER_INPUT * 1_000_000,
            output=PER_OUTPUT * 1_000_000,
        )
        (folder / "home" / "vendors.toml").write_text(declared)
        server = embedded.start(folder / "pg")

        async def main() -> dict[str, Any]:
            async with scene(folder, server, pipeline) as it:
                try:
                    return await spend(
                        it,
                        world,
                        say,
                        limit=limit,
                        items=items,
                        kills=kills,
                        processes=processes,
                    )
                except TimeoutError:
                    tail = (it.folder / "worker.log").read_text()[-3000:]
                    say(f"the workers' log ends with:\n{tail}")
                    raise

        try:
            return anyio.run(main)
        finally:
            embedded.end(folder / "pg")
