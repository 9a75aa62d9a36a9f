"""
Benchmark of calls: thousands of items that each call a vendor at once, one process.

The vendor answers after two seconds.  What Waybill adds is everything around a call:
the item's claim, the call's row in the ledger before it, its step and its cost after
it, the item's end; each durable.  Beside it, in the same run and against the same
vendor, the same calls by the same HTTP client without Waybill.
"""

from __future__ import annotations

import gc
import resource
import time
from decimal import Decimal
from operator import truediv
from statistics import median

import anyio

from loadtest.bench.engine import Bed, rss_mb, until_done
from loadtest.bench.noop import ASK, CALL
from loadtest.vendors.playing import playing
from pipeline.vendors.declared import Price, VendorSpec
from pipeline.vendors.door import Door

LATENCY_S = 2.0
TURNS = 5
DESCRIPTORS = 16_384  # a connection each, and as many at the vendor


async def calls(bed: Bed, items: int) -> dict[str, float]:
    """
    Items that each call a vendor of `LATENCY_S`: seconds beside those of the bare
    calls, each on new connections.

    In turns, one after the other: a machine that others share changes its speed by half
    within a minute, and so does what is measured a minute apart.  `ratio` is the
    median of the turns' ratios, the seconds are medians too.  The bare ones collect
    garbage as often as Python does by itself, which a worker does not.

    `in_flight_max` are items under way in this process, `at_vendor_max` the calls that
    the vendor had at once: those of them that were sent before the first had answers.
    """
    allow_descriptors()
    with playing({"llm": {"latency": LATENCY_S}}) as world:
        spec = VendorSpec(
            name="llm",
            kind="openai",
            url=world.url("llm"),
            model="small",
            inside=True,
            price=Price(input=Decimal("0.25"), output=Decimal("2.00")),
        )
        by_itself = gc.get_threshold()
        bare: list[float] = []
        walls: list[float] = []
        most = at_vendor = 0
        for turn in range(TURNS):
            gc.set_threshold(*by_itself)
            async with Door() as door:
                bare.append(await _bare(door, spec, items))
            world.reset()
            await bed.submit([CALL.name], items, f"calls-{turn}")
            async with Door() as door:
                worker = bed.worker(items, door, {spec.name: spec})
                walls.append(await until_done(bed, worker, items))
                assert worker.session is not None
                most = max(most, worker.session.windows.total_max)
            at_vendor = max(at_vendor, int(world.counts("llm")["under_way_max"]))
            world.reset()
    return {
        "wall_s": round(median(walls), 2),
        "bare_wall_s": round(median(bare), 2),
        "ratio": round(median(map(truediv, bare, walls)), 3),
        "turns": TURNS,
        "in_flight_max": most,
        "at_vendor_max": at_vendor,
        "peak_rss_mb": rss_mb(),
        "items": items,
    }


async def _bare(door: Door, spec: VendorSpec, calls: int) -> float:
    """The same calls, and nothing around them; seconds."""
    begun = time.perf_counter()

    async def one(number: int) -> None:
        await door.send(spec, ASK, timeout_s=60, idempotency_key=f"bare-{number}")

    async with anyio.create_task_group() as group:
        for number in range(calls):
            group.start_soon(one, number)
    return time.perf_counter() - begun


def allow_descriptors() -> None:
    """For a connection each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < DESCRIPTORS:
        wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else hard
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(DESCRIPTORS, wanted), hard))
