"""Items that were sent away from a line come when there is room, not when it seemed."""

import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

import anyio
import pytest

from pipeline.errors import LimitWait
from pipeline.model import ItemId
from pipeline.store.memory import MemoryStore
from pipeline.vendors.limits import FleetLimits
from pipeline.vendors.pacing import LimitSpec
from tests.unit.vendors.fleet import fleet, use

TEN = LimitSpec(concurrency=10)
SLOW_S, QUICK_S = 2.0, 0.2  # the first calls look names up and make connections
PATIENCE_S = 20.0


class Parking(MemoryStore):
    """Where items wait that were sent away, until they are called or look again."""

    def __init__(self) -> None:
        super().__init__()
        self.parked: dict[ItemId, anyio.Event] = {}
        self.called = 0

    async def call_back(self, items: Sequence[ItemId]) -> None:
        for item in items:
            if item in self.parked:
                self.called += 1
                self.parked[item].set()

    async def park(self, item: ItemId, for_s: float) -> None:
        self.parked[item] = anyio.Event()
        with anyio.move_on_after(for_s):
            await self.parked[item].wait()
        del self.parked[item]


class Calls:
    """
    Items that call a vendor, each until it has been let in.

    Attributes:
        away: How often each was sent away.
    """

    def __init__(self, spec: LimitSpec, patience_s: float = PATIENCE_S) -> None:
        self.spec, self.patience_s = spec, patience_s
        self.begun = self.done = 0
        self.away = Counter[int]()

    async def item(
        self, store: Parking, limits: FleetLimits, number: int, took_s: float = 0.0
    ) -> None:
        uses, item = use(self.spec), ItemId(number)
        while True:
            try:
                async with limits.hold(uses, patience_s=self.patience_s, item=item):
                    self.begun += 1
                    await anyio.sleep(took_s or self.usual_s)
                    self.done += 1
                    return
            except LimitWait as wait:
                self.away[number] += 1
                await store.park(item, wait.retry_after_s or 0.0)

    @property
    def usual_s(self) -> float:
        """What a call takes: the first ones are slow."""
        return SLOW_S if self.begun <= 20 else QUICK_S


@pytest.mark.parametrize("workers", [1, 2])
async def test_first_calls_that_are_slow_leave_no_vendor_idle_for_minutes(
    workers: int,
) -> None:
    """Hundreds are sent away by what the first calls took; the vendor is used whole."""
    store, calls = Parking(), Calls(TEN)
    async with fleet(workers, store) as limits:
        async with anyio.create_task_group() as tasks:
            for number in range(900):
                one = limits[number % workers]
                tasks.start_soon(calls.item, store, one, number)
        took_s = anyio.current_time()

    ideal_s = 2 * SLOW_S + 880 * QUICK_S / 10
    assert calls.done == 900
    assert calls.away.total() > 300, "nobody was sent away: the test tries nothing"
    assert store.called > 100
    assert took_s < 2 * ideal_s


async def test_who_was_sent_away_for_good_reason_is_left_alone() -> None:
    """While the line is as long as it seemed nobody is called."""
    store, calls = Parking(), Calls(LimitSpec(rate=1, per_s=10))

    async with fleet(1, store) as limits:
        async with anyio.create_task_group() as tasks:
            for number in range(60):
                tasks.start_soon(calls.item, store, limits[0], number)
        took_s = anyio.current_time()

    assert calls.done == 60
    assert took_s < 60 * 10 * 1.25
    assert calls.away.total() < 60 * 4


@pytest.mark.parametrize(("cap", "took_s", "patience_s"), [(2, 25, 10), (1, 90, 60)])
@pytest.mark.parametrize("workers", [1, 2])
async def test_a_vendor_of_slow_calls_is_not_left_for_good(
    cap: int, took_s: float, patience_s: float, workers: int
) -> None:
    """Calls that take longer than anybody waits: it is busy, and then it is free."""
    begun = 0

    async def call(limits: FleetLimits) -> None:
        nonlocal begun
        spec = LimitSpec(concurrency=cap)
        with suppress(LimitWait):
            async with limits.hold(use(spec), patience_s=patience_s):
                begun += 1
                await anyio.sleep(took_s)

    async with fleet(workers) as limits, anyio.create_task_group() as tasks:
        for number in range(360):
            await anyio.sleep(random.uniform(3, 7))
            tasks.start_soon(call, limits[number % workers])
        tasks.cancel_scope.cancel()

    assert begun > 0.8 * cap * 1800 / took_s


@pytest.mark.parametrize(
    ("spec", "took_s", "items", "most"),
    [
        (LimitSpec(rate=1, per_s=3600), 1, 5, 4),
        (LimitSpec(concurrency=1), 90, 20, 20),
        (LimitSpec(rate=60, per_s=3600), 1, 30, 4),
    ],
)
async def test_who_is_called_back_is_not_sent_away_again_and_again(
    spec: LimitSpec, took_s: float, items: int, most: int
) -> None:
    """Each time is a claim and a commit; without a bound it was two a second."""
    store, calls = Parking(), Calls(spec, patience_s=60)

    async with fleet(1, store) as limits:
        with anyio.move_on_after(1800):
            async with anyio.create_task_group() as tasks:
                for number in range(items):
                    tasks.start_soon(calls.item, store, limits[0], number, took_s)

    assert max(calls.away.values()) <= most
