"""Several workers with limits of one store, in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from pipeline.store.memory import MemoryStore
from pipeline.store.rows import Origin
from pipeline.vendors.limits import FleetLimits
from pipeline.vendors.pacing import LimitSpec
from pipeline.vendors.uses import Use

HERE = Origin("here", 1, "1")
KEY = "vendor/crm/requests"
SLOW = LimitSpec(rate=6, per_s=3600)  # every ten minutes


@asynccontextmanager
async def fleet(
    workers: int = 1, store: Any = None
) -> AsyncIterator[list[FleetLimits]]:
    """Limits of so many workers."""
    store = store or MemoryStore()
    async with anyio.create_task_group() as tasks:
        found = []
        for _ in range(workers):
            me = await store.join(HERE, lease_s=1e9)
            found.append(FleetLimits(store, me))
            tasks.start_soon(found[-1].run)
        yield found
        tasks.cancel_scope.cancel()


def use(spec: LimitSpec, key: str = KEY, weight: int = 1) -> list[Use]:
    """One limit."""
    return [Use(key, spec, weight)]


async def begin_times(
    limits: list[FleetLimits], uses: list[Use], calls: int, took_s: float = 0.0
) -> list[float]:
    """When each of `calls` simultaneous callers in each worker was let in."""
    times: list[float] = []

    async def call(one: FleetLimits) -> None:
        async with one.hold(uses):
            times.append(anyio.current_time())
            await anyio.sleep(took_s)

    async with anyio.create_task_group() as tasks:
        for one in limits:
            for _ in range(calls):
                tasks.start_soon(call, one)
    return sorted(times)


def most_in_a_window(times: list[float], per_s: float) -> int:
    """The fullest window [t, t + per_s) there is."""
    return max(
        sum(1 for other in times if start <= other < start + per_s - 1e-3)
        for start in times
    )
