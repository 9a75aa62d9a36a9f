"""Lines in which nothing moves: calls that hang, and turns that take long."""

import random
from contextlib import suppress
from itertools import count

import anyio
import pytest

from pipeline.errors import LimitWait
from pipeline.store.memory import MemoryStore
from pipeline.vendors.limits import FleetLimits
from pipeline.vendors.pacing import OPEN, LimitSpec
from tests.unit.vendors.fleet import KEY, fleet, use

TEN = LimitSpec(rate=10)
HANG_S = 600.0


async def hang(limits: FleetLimits, spec: LimitSpec) -> None:
    async with limits.hold(use(spec)):
        await anyio.sleep(HANG_S)


@pytest.mark.parametrize(("cap", "before"), [(1, 0), (5, 100)])
@pytest.mark.parametrize("early_s", [0.0, 0.3])
async def test_calls_that_hang_are_not_waited_for_beyond_patience(
    cap: int, before: int, early_s: float
) -> None:
    """What ended before them was quick, or nothing has ended yet: it says nothing."""
    spec, waited = LimitSpec(concurrency=cap), []

    async def quick(limits: FleetLimits) -> None:
        async with limits.hold(use(spec)):
            await anyio.sleep(0.2)

    async def impatient(limits: FleetLimits) -> None:
        came = anyio.current_time()
        with pytest.raises(LimitWait):
            async with limits.hold(use(spec), patience_s=10, early_s=early_s) as turn:
                await turn.due()
        waited.append(anyio.current_time() - came)

    async with fleet() as [limits], anyio.create_task_group() as tasks:
        async with anyio.create_task_group() as first:
            for _ in range(before):
                first.start_soon(quick, limits)
        for _ in range(cap):
            tasks.start_soon(hang, limits, spec)
        await anyio.sleep(1)
        async with anyio.create_task_group() as last:
            for _ in range(20):
                last.start_soon(impatient, limits)
        tasks.cancel_scope.cancel()

    assert len(waited) == 20
    assert max(waited) < 15


async def test_who_stands_where_calls_go_on_is_not_taken_for_stalled() -> None:
    """A line that moves every nine seconds is as long as it was forecast."""
    spec, began = LimitSpec(concurrency=1), count()

    async def call(limits: FleetLimits) -> None:
        async with limits.hold(use(spec), patience_s=60):
            next(began)
            await anyio.sleep(9)

    async with fleet() as [limits], anyio.create_task_group() as tasks:
        for _ in range(6):
            tasks.start_soon(call, limits)

    assert next(began) == 6


@pytest.mark.parametrize("took_s", [59, 61, 300])
async def test_a_line_is_there_while_somebody_has_its_turn(took_s: float) -> None:
    """Who takes long between turn and call has missed its permit, and gets another."""
    begun = False

    async with fleet() as [limits]:
        with anyio.move_on_after(took_s + 60):
            async with limits.hold(use(LimitSpec(rate=10)), early_s=0.3) as turn:
                await anyio.sleep(took_s)
                await turn.due()
                begun = True

    assert begun


async def test_who_is_overtaken_again_and_again_goes_after_its_patience() -> None:
    """A busy vendor, and always some with an earlier deadline."""
    went_s = 0.0

    async def urgent(limits: FleetLimits) -> None:
        with suppress(LimitWait):
            async with limits.hold(use(TEN), deadline=100, patience_s=60):
                pass

    async def patient(limits: FleetLimits) -> None:
        nonlocal went_s
        came = anyio.current_time()
        with pytest.raises(LimitWait):
            async with limits.hold(use(TEN), deadline=1e6, patience_s=10):
                pass
        went_s = anyio.current_time() - came

    async with fleet() as [limits], anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(urgent, limits)
        await anyio.sleep(1)
        tasks.start_soon(patient, limits)
        for _ in range(600):
            tasks.start_soon(urgent, limits)
            await anyio.sleep(0.1)
        tasks.cancel_scope.cancel()

    assert 0 < went_s < 15


@pytest.mark.parametrize(("took_s", "used"), [(2, 0.85), (10, 0.6)])
@pytest.mark.parametrize(
    ("said", "least", "most"), [(10_000, 2000, 3000), (4000, 900, 1100)]
)
async def test_what_calls_take_beside_what_they_say_is_learnt(
    said: int, least: int, most: int, took_s: float, used: float
) -> None:
    """A byte is taken for a token: so much only while a call is under way."""
    spec = LimitSpec(rate=200_000, per_s=60)
    taken: list[tuple[float, float]] = []

    async def caller(limits: FleetLimits) -> None:
        uses = use(spec, weight=said)
        while True:
            async with limits.hold(uses, early_s=0.3) as turn:
                await turn.due()
                began, amount = anyio.current_time(), random.uniform(least, most)
                await anyio.sleep(random.uniform(0.5, 1.5) * took_s)
                turn.took(uses[0], amount)
                taken.append((began, amount))

    async with fleet(2) as each:
        with anyio.move_on_after(400):
            async with anyio.create_task_group() as tasks:
                for number in range(120):
                    tasks.start_soon(caller, each[number % 2])

    steady = [(at, amount) for at, amount in taken if 120 <= at < 360]
    fullest = max(
        sum(amount for at, amount in steady if start <= at < start + 60)
        for start in range(120, 300)
    )
    assert sum(amount for _, amount in steady) > used * 4 * spec.rate
    assert fullest < spec.rate


async def test_calls_that_take_more_than_those_before_them_fill_no_windows() -> None:
    """A pipeline of heavy calls begins where another's have taken next to nothing."""
    spec = LimitSpec(rate=100_000, per_s=60)
    taken: list[tuple[float, float]] = []

    async def call(limits: FleetLimits, amount: float) -> None:
        uses = use(spec, weight=10_000)
        async with limits.hold(uses, early_s=0.3) as turn:
            await turn.due()
            began = anyio.current_time()
            await anyio.sleep(40)
            turn.took(uses[0], amount)
            taken.append((began, amount))

    async with fleet() as [limits]:
        for amount in (300, 9500):
            async with anyio.create_task_group() as tasks:
                for _ in range(60):
                    tasks.start_soon(call, limits, amount)

    fullest = max(
        sum(amount for at, amount in taken if start <= at < start + 60)
        for start, _ in taken
    )
    assert fullest < 2 * spec.rate


@pytest.mark.parametrize("when_s", [0.0, 20.0])
@pytest.mark.parametrize("how", ["owner", "vendor"])
async def test_a_pause_holds_where_no_limit_is_declared(
    how: str, when_s: float
) -> None:
    """Somebody else is told, or the owner says so: before the first call, or later."""
    store, times = MemoryStore(), list[float]()

    async def calls(limits: FleetLimits) -> None:
        while True:
            await anyio.sleep(random.uniform(0.1, 1))
            with suppress(LimitWait):
                async with limits.hold(use(OPEN), patience_s=60, early_s=0.3) as turn:
                    await turn.due()
                    times.append(anyio.current_time())
                    await anyio.sleep(1)

    async with fleet(2, store) as [told, other], anyio.create_task_group() as tasks:
        if when_s:
            for _ in range(10):
                tasks.start_soon(calls, other)
        await anyio.sleep(when_s)
        if how == "owner":
            await store.pause_limit(KEY, 15)
        else:
            async with told.hold(use(OPEN)):
                told.pause(KEY, 15)
            await anyio.sleep(1)
        paused_at = anyio.current_time()
        if not when_s:
            for _ in range(10):
                tasks.start_soon(calls, other)
        await anyio.sleep(30)
        tasks.cancel_scope.cancel()

    heard_s = 2.0 if when_s else 0.0
    assert not [at for at in times if paused_at + heard_s < at < paused_at + 13]
    assert [at for at in times if at > paused_at + 14]
