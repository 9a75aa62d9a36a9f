"""
A vendor that is down for a minute, under items that all need it.

Real workers call a simulated vendor within its declared limits; midway it fails every
call for a while.  Afterwards every item must be done, none may have used up its tries,
the vendor must have been asked hardly more often than there are items, and within
half a minute of its return it must be served as before: without a second that is over
its limit.  What it was asked is read in its own book.
"""

from __future__ import annotations

import tempfile
import time
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio

from loadtest.scenarios.chaos import Scene, scene, stop
from loadtest.trial import Progress
from loadtest.vendors.playing import Steered, playing
from pipeline.store import embedded

PIPELINE = Path(__file__).parent / "outage_pipeline"
ATTEMPTS = 3  # of the stage
PROCESSES = 2
BEFORE = 0.2  # of the items are done when the vendor goes down
BACK_S = 120.0  # with which everything must be done after it is back
AS_BEFORE = 0.8  # of the pace before: it is served again

VENDORS = """
[vendor.carrier]
url = "{url}"
inside = true
timeout_s = 5

[vendor.carrier.limits]
requests = "{per_s}/s"
concurrency = 50
"""
TALLY = """
select (select count(*) from waybill.outcomes where state = 'done') as done,
       (select count(*) from waybill.outcomes where state <> 'done') as failed,
       (select count(*) from waybill.attempts where charged) as charged,
       (select count(*) from waybill.attempts where not charged) as put_off,
       (select count(*) from (
         select from waybill.attempts where charged
          group by item_id having count(*) >= $1) t) as exhausted
"""


def run(
    say: Progress, *, items: int, down_s: float, per_s: int, how: str
) -> dict[str, Any]:
    """One outage; `how` as in loadtest/vendors/settings.py."""
    with tempfile.TemporaryDirectory(prefix="waybill-outage-") as place:
        folder = Path(place)
        server = embedded.start(folder / "pg")
        limits = [{"requests": f"{per_s}/s"}]
        carrier = {"kind": "echo", "latency": 0.2, "limits": limits}
        try:
            with playing({"carrier": carrier}) as world:

                async def main() -> dict[str, Any]:
                    async with scene(folder, server, PIPELINE) as it:
                        return await _outage(it, world, items, down_s, per_s, how, say)

                return anyio.run(main)
        finally:
            embedded.end(folder / "pg")


async def _outage(
    it: Scene,
    world: Steered,
    items: int,
    down_s: float,
    per_s: int,
    how: str,
    say: Progress,
) -> dict[str, Any]:
    declared = VENDORS.format(url=world.url("carrier"), per_s=per_s)
    vendors = it.folder / "vendors.toml"
    vendors.write_text(declared, encoding="utf-8")
    await it.submit(items)
    fleet = it.start(
        *("worker", "--processes", str(PROCESSES)), WAYBILL_VENDORS=str(vendors)
    )
    try:
        await it.until(lambda: _done(it, items * BEFORE), 120, "the first items")
        down = time.time()
        world.outage("carrier", for_s=down_s, how=how)
        say(f"down for {down_s:.0f} s, with {items} items under way")
        limit_s = down_s + BACK_S + items / per_s
        await it.until(lambda: _done(it, items), limit_s, "all items", 0.2)
    except TimeoutError:
        tail = (it.folder / "worker.log").read_text()[-3000:]
        say(f"the workers' log ends with:\n{tail}")
        raise
    finally:
        await anyio.to_thread.run_sync(stop, fleet)
    tally = dict(await it.con.fetchrow(TALLY, ATTEMPTS) or {})
    asked = world.rows(
        "select at, outcome from calls where vendor = 'carrier' order by at"
    )
    return {
        "items": items,
        "done": tally["done"],
        "failed": tally["failed"],
        "lost": items - tally["done"] - tally["failed"],
        "attempts_exhausted": tally["exhausted"],
        "attempts_charged": tally["charged"],
        "put_off": tally["put_off"],
        **figures(asked, items, down, down + down_s, per_s),
    }


async def _done(it: Scene, count: float) -> bool:
    counts = await it.store.counts()
    return counts.done >= count or not counts.live


def figures(
    asked: Sequence[tuple[float, str]],
    items: int,
    down: float,
    back: float,
    per_s: int,
) -> dict[str, Any]:
    """What a vendor's book tells, which was down from `down` until `back`."""
    times = [at for at, _ in asked]
    served = [at for at, outcome in asked if outcome == "accepted"]
    return {
        "calls": len(asked),
        "calls_a_budgeted": round(len(asked) / items, 4),
        "calls_while_down": sum(down <= at < back for at in times),
        "throttled": sum(outcome == "throttled" for _, outcome in asked),
        "limit_per_s": per_s,
        "most_in_a_second": max(_in_a_second(times), default=0),
        "seconds_over": sum(n > per_s for n in _in_a_second(times)),
        "recovered_within_s": _recovered_s(served, down, back),
    }


def _in_a_second(times: Sequence[float]) -> list[int]:
    """How many came in the second that begins with each."""
    return [bisect_left(times, at + 1) - n for n, at in enumerate(times)]


def _recovered_s(served: Sequence[float], down: float, back: float) -> float:
    """Seconds until a second was as full as those before, or until the last item."""
    before = [
        n for at, n in zip(served, _in_a_second(served), strict=True) if at < down - 1
    ]
    as_before = AS_BEFORE * (sorted(before)[len(before) // 2] if before else 1)
    after = [at for at in served if at >= back]
    for at, count in zip(after, _in_a_second(after), strict=True):
        if count >= as_before:
            return round(at - back, 2)
    return round(after[-1] - back, 2) if after else -1.0
