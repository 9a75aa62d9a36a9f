"""Calls that come in a little before there is room, to be ready when there is."""

import random
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from pipeline.errors import LimitWait
from pipeline.store.limits import LimitLease, LimitSet
from pipeline.store.memory import MemoryStore
from pipeline.vendors.limits import FleetLimits
from pipeline.vendors.pacing import LimitSpec
from tests.unit.vendors.fleet import KEY, fleet, use

FOUR = LimitSpec(concurrency=4)
EARLY_S = 0.3
AWAY_S = 0.05


class Vendor:
    """Who is under way, at most; a call takes a second, and some time before it."""

    def __init__(self, before_s: float) -> None:
        self.before_s = before_s
        self.there = self.most = self.done = 0

    async def call(self, limits: FleetLimits, early_s: float = EARLY_S) -> None:
        async with limits.hold(use(FOUR), early_s=early_s) as turn:
            await anyio.sleep(self.before_s)
            await turn.due()
            self.there += 1
            self.most = max(self.most, self.there)
            try:
                await anyio.sleep(1)
                self.done += 1
            finally:
                self.there -= 1


@pytest.mark.parametrize("workers", [1, 2])
async def test_what_comes_before_a_call_costs_the_vendor_no_room(workers: int) -> None:
    """All that may be under way are, from one call to the next; never more."""
    vendor = Vendor(0.2)
    async with fleet(workers) as limits:
        async with anyio.create_task_group() as tasks:
            for one in limits:
                for _ in range(80 // workers):
                    tasks.start_soon(vendor.call, one)
        took_s = anyio.current_time()
        left = {repr(one).partition(": ")[2] for one in limits}

    assert vendor.done == 80
    assert vendor.most <= 4
    assert took_s < 20 * 1.1 + 1
    assert left == {"0 in use, 0 waiting>"}


async def test_who_came_first_is_not_passed_by_who_comes_early() -> None:
    """One that takes its room at its turn has it before those that came after it."""
    vendor, began = Vendor(0.0), list[float]()

    async def late(limits: FleetLimits) -> None:
        async with limits.hold(use(FOUR)):
            began.append(anyio.current_time())

    async with fleet() as [limits], anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(vendor.call, limits)
        await anyio.sleep(0.5)
        start = anyio.current_time()
        tasks.start_soon(late, limits)
        await anyio.lowlevel.checkpoint()
        for _ in range(40):
            tasks.start_soon(vendor.call, limits)

    assert began[0] - start < 3


async def test_one_that_gives_up_when_it_is_ready_leaves_its_room() -> None:
    vendor = Vendor(0.0)
    async with fleet() as [limits]:
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(vendor.call, limits)
            await anyio.sleep(1.5)
            for _ in range(5):
                tasks.start_soon(vendor.call, limits)
            await anyio.sleep(0.5)
            with anyio.move_on_after(0.1) as scope:
                await vendor.call(limits)
        left = repr(limits).partition(": ")[2]

    assert scope.cancelled_caught
    assert vendor.done == 9
    assert left == "0 in use, 0 waiting>"


async def test_a_pause_keeps_and_sends_away_who_is_ready() -> None:
    """The vendor has said when to come again: a long pause is not waited for."""
    vendor, said = Vendor(0.0), list[float]()

    async def call(limits: FleetLimits) -> None:
        async with limits.hold(use(FOUR), patience_s=20, early_s=EARLY_S) as turn:
            await anyio.sleep(0.1)
            with pytest.raises(LimitWait) as caught:
                await turn.due()
            said.append(caught.value.retry_after_s or 0.0)

    async with fleet() as [limits]:
        async with anyio.create_task_group() as tasks:
            for _ in range(8):  # the first four show how long one takes
                tasks.start_soon(vendor.call, limits)
            await anyio.sleep(1.9)
            async with anyio.create_task_group() as asked:
                asked.start_soon(call, limits)
                await anyio.sleep(0.05)
                limits.pause(KEY, 600)
        left = repr(limits).partition(": ")[2]

    assert len(said) == 1
    assert said[0] > 100
    assert left.startswith("0 in use, 0 waiting")


@pytest.mark.parametrize(
    ("spec", "calls", "breath"),
    [(FOUR, 0, 500), (FOUR, 4, 500), (FOUR, 9, 5), (LimitSpec(1, 60.0), 3, 1)],
)
async def test_few_items_begin_in_one_breath_while_calls_wait(
    spec: LimitSpec, calls: int, breath: int
) -> None:
    """None that waits for its moment would have it, and no answer would be heard."""
    async with fleet() as [limits]:

        async def call() -> None:
            async with limits.hold(use(spec)):
                await anyio.sleep(30)

        async with anyio.create_task_group() as tasks:
            for _ in range(calls):
                tasks.start_soon(call)
            await anyio.sleep(3)
            found = limits.at_once
            tasks.cancel_scope.cancel()

    assert found == breath


class Distant(MemoryStore):
    """A store whose answers take their time."""

    async def lease_limits(self, *args: Any, **named: Any) -> LimitLease:
        await anyio.sleep(AWAY_S / 2)
        lease = await super().lease_limits(*args, **named)
        await anyio.sleep(AWAY_S / 2)
        return lease


@pytest.mark.parametrize("early_s", [0.0, EARLY_S])
async def test_no_room_is_used_that_an_exchange_under_way_gave_away(
    early_s: float,
) -> None:
    """What a worker did not tell of may be another's before it hears so."""
    vendor = Vendor(0.02)

    async def caller(one: FleetLimits) -> None:
        for _ in range(40):
            await anyio.sleep(random.expovariate(1))
            await vendor.call(one, early_s)

    async with fleet(3, Distant()) as limits, anyio.create_task_group() as tasks:
        for one in limits:
            for _ in range(4):
                tasks.start_soon(caller, one)

    assert vendor.done == 3 * 4 * 40
    assert vendor.most == FOUR.concurrency


async def test_a_rate_that_is_taken_back_leaves_nobody_in_line() -> None:
    """Permits of a pace that is none any more are dropped; the loop turns."""
    store = MemoryStore()
    await store.set_limit(KEY, LimitSet(20, 1, 0.05))
    vendor = Vendor(0.0)

    async with fleet(1, store) as limits:
        async with anyio.create_task_group() as tasks:
            for _ in range(200):
                tasks.start_soon(vendor.call, limits[0], 0.0)
            await anyio.sleep(4)
            begun = vendor.done
            await store.set_limit(KEY, LimitSet())
        took_s = anyio.current_time()

    assert 8 <= begun <= 16
    assert vendor.done == 200
    assert took_s < 60


@pytest.mark.parametrize("seed", [56, 126, 1, 2])
async def test_of_those_who_are_ready_in_every_worker_one_has_the_room(
    seed: int,
) -> None:
    """One call at a time, and a worker more than calls: the longest in line is next."""
    draw, one = random.Random(seed), LimitSpec(concurrency=1)
    done = 0

    async def call(limits: FleetLimits) -> None:
        nonlocal done
        await anyio.sleep(draw.uniform(0, 60))
        async with limits.hold(use(one), early_s=EARLY_S) as turn:
            await anyio.sleep(draw.uniform(0, 0.4))
            await turn.due()
            await anyio.sleep(3)
            done += 1

    async with fleet(3, Distant()) as limits:
        with anyio.fail_after(400):
            async with anyio.create_task_group() as tasks:
                for number in range(40):
                    tasks.start_soon(call, limits[number % 3])

    assert done == 40
