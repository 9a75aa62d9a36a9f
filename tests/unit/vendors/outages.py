"""Breakers of several processes on one store, and calls that end as a test says."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest

from pipeline.errors import (
    Permanent,
    StoreUnavailable,
    Throttled,
    Transient,
    VendorAway,
    WaybillError,
)
from pipeline.model import WorkerId
from pipeline.store.memory import MemoryStore
from pipeline.store.outside import BreakerNews, BreakerRow, Learnt
from pipeline.store.rows import Origin
from pipeline.vendors.breakers import Breakers
from pipeline.vendors.declared import BreakerPolicy, VendorSpec

CRM = VendorSpec(
    name="crm",
    url="http://crm",
    timeout_s=30,
    breaker=BreakerPolicy(after=3, open_s=5, max_s=15),
)
DOWN = Transient("no answer", code="VENDOR_DOWN")
BUSY = Throttled("slower")
NO = Permanent("never")
LATE = Transient("no answer within 1 s", code="VENDOR_TIMEOUT")
SPREAD_S = 0.1  # of some ten that come back


@asynccontextmanager
async def fleet(
    size: int = 1, store: MemoryStore | None = None
) -> AsyncIterator[list[Breakers]]:
    """The breakers of so many processes on one store, each telling and learning."""
    store = store or MemoryStore()
    async with anyio.create_task_group() as tasks:
        each = []
        for _ in range(size):
            worker = await store.join(Origin("here", 1, ""), lease_s=math.inf)
            each.append(Breakers(store, worker))
            tasks.start_soon(each[-1].run)
        yield each
        tasks.cancel_scope.cancel()


async def call(
    breakers: Breakers,
    ends: WaybillError | None = None,
    *,
    repeat: bool = False,
    timeout_s: float = 30,
    spec: VendorSpec = CRM,
) -> None:
    """One call with this end."""
    with await breakers.admit(spec, repeat=repeat) as ticket:
        ticket.heard(ends, timeout_s)


async def refused(breakers: Breakers, *, repeat: bool = False) -> VendorAway:
    """What a call that may not begin is told."""
    with pytest.raises(VendorAway) as told:
        await breakers.admit(CRM, repeat=repeat)
    return told.value


async def go_down(breakers: Breakers) -> None:
    """Its calls fail until the breaker is open."""
    for _ in range(3):
        await call(breakers, DOWN)
    assert (await refused(breakers)).code == "VENDOR_OPEN"
    await anyio.sleep(0.1)  # told


async def come_back(breakers: Breakers) -> None:
    """The probe is answered, now."""
    await anyio.sleep(5.1)
    await call(breakers)
    await anyio.sleep(0.1)


class Other(MemoryStore):
    """Counts what it is asked; answers late, or is away."""

    def __init__(self, *, slow_s: float = 0.0) -> None:
        super().__init__()
        self.asked = 0
        self.probes = 0
        self.slow_s = slow_s
        self.away = False

    async def tell_breakers(self, news: Sequence[BreakerNews]) -> Learnt:
        self.asked += 1
        if self.away:
            raise StoreUnavailable("away")
        learnt = await super().tell_breakers(news)
        await anyio.sleep(self.slow_s)
        return learnt

    async def probe(
        self, worker: WorkerId, vendor: str, *, for_s: float
    ) -> BreakerRow | None:
        self.probes += 1
        row = await super().probe(worker, vendor, for_s=for_s)
        await anyio.sleep(self.slow_s)
        return row
