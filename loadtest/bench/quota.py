"""
Benchmark of limits: worker processes that share what a vendor allows.

One vendor allows 600 requests a minute, the other 100 a second, and both count
strictly: no stretch of that length, wherever it begins, holds more, and what is beyond
it is answered 429.  Thousands of items wait for them in four processes.  How much of
the rate is used, and how much is refused, is told by the vendor's own book.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import anyio

from loadtest.bench.engine import Bed
from loadtest.vendors.playing import Steered, playing
from pipeline.store.postgres import PostgresStore
from pipeline.vendors.declared import VendorLimits, VendorSpec, rate_of
from pipeline.vendors.door import Door

ITEMS_MAX = 5000  # in each process
WARM_S = 5.0  # until every process has its part
START_S = 60.0
LATENCY_S = 0.1


class Quota(NamedTuple):
    """What a vendor allows."""

    name: str
    limit: str
    a_second: float


QUOTAS = (Quota("minute", "600/min", 10.0), Quota("second", "100/s", 100.0))


async def quota(bed: Bed, seconds: float, processes: int) -> dict[str, Any]:
    """
    Of each vendor `utilisation`, accepted calls as a share of what it allows in
    `seconds`, and `throttled_share`, refused calls as a share of all.
    """
    plays = {
        q.name: {
            "kind": "chat",
            "latency": LATENCY_S,
            # To the millisecond, as OpenAI does: a whole second is a second of nothing.
            "limits": [{"requests": q.limit, "per": "service", "retry_after": "ms"}],
        }
        for q in QUOTAS
    }
    for q in QUOTAS:
        items = int(q.a_second * (seconds + WARM_S + 20)) + 100
        await bed.submit([q.name], items, q.name)
    with playing(plays, for_s=seconds + START_S + WARM_S + 60) as world:
        vendors = {
            q.name: VendorSpec(
                name=q.name,
                kind="openai",
                url=world.url(q.name),
                model="small",
                inside=True,
                limits=VendorLimits(requests=rate_of(q.limit)),
            )
            for q in QUOTAS
        }
        with _workers(bed, vendors, processes):
            await _until_all_call(world)
            await anyio.sleep(WARM_S)
            begun = time.time()
            await anyio.sleep(seconds)
        found = {q.name: _measured(world, q, begun, seconds) for q in QUOTAS}
    good = all(
        one["utilisation"] >= 0.97 and one["throttled_share"] <= 0.005
        for one in found.values()
    )
    return {**found, "processes": processes, "seconds": seconds, "good": good}


def _measured(
    world: Steered, of: Quota, begun: float, seconds: float
) -> dict[str, float]:
    """What the vendor wrote down."""
    outcomes = dict(
        world.rows(
            "select outcome, count(*) from calls"
            " where vendor = ? and at >= ? and at < ? group by outcome",
            *(of.name, begun, begun + seconds),
        )
    )
    calls = sum(outcomes.values())
    accepted, throttled = (outcomes.get(o, 0) for o in ("accepted", "throttled"))
    return {
        "utilisation": round(accepted / (of.a_second * seconds), 4),
        "throttled_share": round(throttled / max(1, calls), 4),
        "calls": calls,
    }


async def _until_all_call(world: Steered) -> None:
    with anyio.fail_after(START_S):
        while not all(world.counts(q.name).get("accepted") for q in QUOTAS):  # noqa: ASYNC110
            await anyio.sleep(0.2)  # the vendor tells when it is asked


@contextmanager
def _workers(
    bed: Bed, vendors: dict[str, VendorSpec], processes: int
) -> Iterator[None]:
    """Worker processes; killed with the block."""
    given = {
        "url": bed.app_url,
        "folder": str(bed.folder),
        "vendors": {n: v.model_dump(mode="json") for n, v in vendors.items()},
    }
    # The vendor is another machine: workers do not keep it from a processor.
    command = ["nice", sys.executable, "-m", "loadtest.bench.quota", json.dumps(given)]
    started = [subprocess.Popen(command) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait()


async def _work(url: str, folder: str, vendors: dict[str, Any]) -> None:
    """One worker, until it is killed."""
    specs = {name: VendorSpec.model_validate(one) for name, one in vendors.items()}
    async with PostgresStore(url) as store, Door() as way:
        bed = Bed(store, Path(folder), "", url)
        await bed.worker(ITEMS_MAX, way, specs).run()


if __name__ == "__main__":
    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    given = json.loads(sys.argv[1])
    anyio.run(
        _work,
        given["url"],
        given["folder"],
        given["vendors"],
        backend_options={"use_uvloop": True},
    )
