"""Permits that are in hand before the call may begin."""

import random
from contextlib import suppress

import anyio
import pytest

from pipeline.errors import LimitWait
from pipeline.vendors.limits import FleetLimits
from pipeline.vendors.pacing import LimitSpec
from pipeline.vendors.uses import Use
from tests.unit.vendors.fleet import KEY, SLOW, fleet, most_in_a_window, use


@pytest.mark.parametrize("workers", [1, 3])
async def test_who_was_kept_too_long_begins_in_no_crowd(workers: int) -> None:
    """Many are late for the same reason: each waits for a permit of its own."""
    spec = LimitSpec(rate=50, per_s=1, concurrency=60)
    times: list[float] = []

    async def call(one: FleetLimits) -> None:
        async with one.hold(use(spec), early_s=0.15) as turn:
            now = anyio.current_time()
            if 2 <= now < 3:
                await anyio.sleep_until(3)  # the ledger answers nobody
            await turn.due()
            times.append(anyio.current_time())

    async with fleet(workers) as limits:
        async with anyio.create_task_group() as tasks:
            for one in limits:
                for _ in range(300 // workers):
                    tasks.start_soon(call, one)
        left = {repr(one).partition(": ")[2] for one in limits}

    assert len(times) == 300
    assert most_in_a_window(times, 1) <= 50
    assert left == {"0 in use, 0 waiting>"}


async def test_one_that_was_late_makes_nobody_else_late() -> None:
    """It stands first again, and those behind it have their permits early as before."""
    spec, early = LimitSpec(rate=50), list[float]()

    async def call(limits: FleetLimits, number: int) -> None:
        async with limits.hold(use(spec), early_s=0.3) as turn:
            called = anyio.current_time()
            await anyio.sleep(0.4 if number == 20 else 0.1)
            await turn.due()
            early.append(anyio.current_time() - called)

    async with fleet() as [limits], anyio.create_task_group() as tasks:
        for number in range(200):
            tasks.start_soon(call, limits, number)

    assert len(early) == 200
    assert min(early[20:]) > 0.25


async def test_a_pause_keeps_also_who_has_a_permit_in_hand() -> None:
    """The vendor has said when to come again, while the ledger was asked."""
    spec, times = LimitSpec(rate=10), list[float]()

    async def call(limits: FleetLimits) -> None:
        async with limits.hold(use(spec), early_s=0.3) as turn:
            if len(times) == 5 and not start:
                limits.pause(KEY, 7)
                start.append(anyio.current_time())
            await turn.due()
            times.append(anyio.current_time())

    start: list[float] = []
    async with fleet() as [limits]:
        async with anyio.create_task_group() as tasks:
            for _ in range(30):
                tasks.start_soon(call, limits)
        left = repr(limits).partition(": ")[2]

    assert len(times) == 30
    assert [at for at in times if start[0] < at < start[0] + 7] == []
    assert most_in_a_window(times, 1) <= 10
    assert left == "0 in use, 0 waiting>"


async def test_a_long_pause_sends_away_who_has_a_permit_in_hand() -> None:
    """Nobody sits in memory for an hour, with a call that is written down."""
    spec = LimitSpec(rate=10)
    async with fleet() as [limits]:
        async with limits.hold(use(spec), patience_s=20, early_s=0.3) as turn:
            limits.pause(KEY, 600)
            with pytest.raises(LimitWait) as caught:
                await turn.due()
        left = repr(limits)

    assert 500 < (caught.value.retry_after_s or 0) <= 900
    assert "0 in use, 0 waiting" in left


async def test_a_call_that_missed_a_rare_permit_has_it_again() -> None:
    """A slow ledger does not cost a call ten minutes."""
    async with fleet() as [limits], limits.hold(use(SLOW), early_s=0.15) as turn:
        await anyio.sleep(5)
        began = anyio.current_time()
        await turn.due()

    assert anyio.current_time() - began < 1.5


@pytest.mark.parametrize("other", [0, 1])
async def test_a_permit_whose_caller_left_keeps_nobody_out(other: int) -> None:
    """It was leased a moment ahead, and holds a part of the vendor's concurrency."""
    one_at_once, one_a_second = LimitSpec(concurrency=1), LimitSpec(rate=1)

    def of(tenant: str) -> list[Use]:
        each = Use(f"vendor/crm/tenant/{tenant}/requests", one_a_second)
        return [Use("vendor/crm/concurrency", one_at_once), each]

    async with fleet(2) as limits:
        async with limits[0].hold(of("a")):
            pass
        with anyio.move_on_after(0.7) as left:
            async with limits[0].hold(of("a")):
                pass
        asked = anyio.current_time()
        async with limits[other].hold(of("b")):
            waited_s = anyio.current_time() - asked

    assert left.cancelled_caught
    assert waited_s < 3


@pytest.mark.parametrize("seed", range(8))
async def test_whoever_leaves_and_whenever_nothing_stays_booked(seed: int) -> None:
    """Callers that are cut off, sent away or fail, at limits that are paused."""
    draw = random.Random(seed)
    specs = {
        "v/room": LimitSpec(concurrency=draw.choice([1, 2, 5])),
        "v/pace": LimitSpec(rate=draw.choice([2, 20])),
        "v/both": LimitSpec(rate=10, concurrency=3),
    }

    async def call(one: FleetLimits) -> None:
        await anyio.sleep(draw.uniform(0, 20))
        uses = [Use(key, specs[key]) for key in draw.sample(sorted(specs), 2)]
        early_s = draw.choice([0.0, 0.3])
        with (
            anyio.move_on_after(draw.choice([0.01, 0.5, 3, 60])),
            suppress(LimitWait, OSError),
        ):
            async with one.hold(uses, patience_s=20, early_s=early_s) as turn:
                await anyio.sleep(draw.uniform(0, 0.4))
                if draw.random() < 0.1:
                    raise OSError
                await turn.due()
                await anyio.sleep(draw.uniform(0, 1))

    async with fleet(3) as limits:
        async with anyio.create_task_group() as tasks:
            for one in limits:
                for _ in range(60):
                    tasks.start_soon(call, one)
            for _ in range(15):
                await anyio.sleep(draw.uniform(0.1, 2))
                key = draw.choice(sorted(specs))
                draw.choice(limits).pause(key, draw.uniform(0.1, 2))
        await anyio.sleep(3)
        left = {part for one in limits for part in str(one)[13:-1].split(", v/")}
        with anyio.fail_after(30):
            for key, spec in specs.items():
                async with limits[0].hold([Use(key, spec)], early_s=0.3) as turn:
                    await turn.due()

    assert {one.partition(": ")[2] or "none" for one in left} <= {
        "0 in use, 0 waiting",
        "none",
    }
