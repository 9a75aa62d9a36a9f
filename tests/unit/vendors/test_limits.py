"""Limits of the fleet: never more than was allowed, and never for nobody."""

from __future__ import annotations

import itertools
import math
from typing import Any

import anyio
import pytest

from pipeline.errors import LeaseLost, LimitWait, StoreUnavailable, Throttled, Usage
from pipeline.store.limits import LimitSet
from pipeline.store.memory import MemoryStore
from pipeline.vendors.declared import VendorSpec
from pipeline.vendors.limits import FleetLimits
from pipeline.vendors.pacing import MARGIN, LimitSpec
from pipeline.vendors.uses import Use, uses_of
from tests.unit.vendors.fleet import (
    HERE,
    KEY,
    SLOW,
    begin_times,
    fleet,
    most_in_a_window,
    use,
)

# Clocks are floats, and a step of the loop may be a moment late.
EARLY_S = 1e-3


async def until_lost(limits: FleetLimits) -> None:
    """What a session does."""
    with pytest.raises(LeaseLost):
        await limits.run()


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize(
    "spec",
    [
        LimitSpec(rate=5, per_s=1),
        LimitSpec(rate=100, per_s=1),
        LimitSpec(rate=10, per_s=60, burst=4),
        LimitSpec(rate=10, per_s=2, burst=10),
        LimitSpec(rate=0.5, per_s=1),
    ],
)
async def test_no_window_ever_holds_more_than_the_rate(
    spec: LimitSpec, workers: int
) -> None:
    """Whichever window you pick; and no permit passes unused."""
    async with fleet(workers) as limits:
        times = await begin_times(limits, use(spec), 60 // workers)

    calls = 60
    assert len(times) == calls
    assert most_in_a_window(times, spec.per_s) <= max(1, spec.rate)
    ideal_s = (calls - spec.burst) * spec.every_s
    assert times[-1] - times[0] == pytest.approx(ideal_s, abs=0.02)


async def test_a_rate_is_used_nearly_whole() -> None:
    """A little is left, since calls do not arrive as evenly as they begin."""
    async with fleet(4) as limits:
        times = await begin_times(limits, use(LimitSpec(rate=100)), 250)

    assert 1000 / (times[-1] - times[0]) >= 100 * (1 - MARGIN)


async def test_what_is_known_of_the_clock_later_counts_for_permits_in_hand() -> None:
    """The first answer takes long: its permits do not meet those of another worker."""

    class Slow(MemoryStore):
        answered = False

        async def lease_limits(self, *asked: Any, **terms: Any) -> Any:
            found = await super().lease_limits(*asked, **terms)
            if not self.answered:
                self.answered = True
                await anyio.sleep(1.2)
            return found

    spec = LimitSpec(rate=600, per_s=60)
    async with fleet(2, Slow()) as limits:
        times = await begin_times(limits, use(spec), 50)

    assert len(times) == 100
    # One that is late by a part of the margin may meet those that are in time.
    assert most_in_a_window(times, 1.0) <= 13


async def test_a_burst_begins_at_once() -> None:
    """After a quiet while, `burst` calls need not wait."""
    async with fleet() as limits:
        start = anyio.current_time()
        spec = LimitSpec(rate=10, per_s=60, burst=4)
        times = await begin_times(limits, use(spec), 5)

    assert [t - start for t in times[:4]] == pytest.approx([0] * 4, abs=EARLY_S)
    assert times[4] - start > 1


async def test_a_pause_holds_the_whole_fleet_and_no_burst_follows() -> None:
    """Retry-After stops the limit, also for those who have their permit already."""
    spec = LimitSpec(rate=2, per_s=1)
    times: list[float] = []
    async with fleet(2) as limits:
        start = anyio.current_time()

        async def callers() -> None:
            times.extend(await begin_times(limits, use(spec), 6))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(callers)
            await anyio.sleep(1.2)
            limits[0].pause(KEY, 100)
            limits[0].pause(KEY, 5)  # a shorter pause does not end a longer one
            said = repr(limits[0])
    after = [t - start for t in times if t - start > 2.4]

    assert ", paused for 100.0 s>" in said
    assert len(times) == 12
    assert min(after) >= 101.2 - EARLY_S
    assert most_in_a_window(times, 1.0) <= 2


async def test_concurrency_bounds_how_many_are_under_way() -> None:
    """Slow calls of all workers together do not pile up."""
    spec = LimitSpec(rate=1000, per_s=1, concurrency=3)
    most = inside = 0

    async def call(one: FleetLimits) -> None:
        nonlocal inside, most
        async with one.hold(use(spec)):
            inside += 1
            most = max(most, inside)
            await anyio.sleep(10)
            inside -= 1

    async with fleet(3) as limits:
        began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            for n in range(12):
                tasks.start_soon(call, limits[n % 3])
        took_s = anyio.current_time() - began

    assert most == 3
    assert took_s == pytest.approx(40, abs=3)
    assert repr(limits[0]) == f"<FleetLimits {KEY}: 0 in use, 0 waiting>"


@pytest.mark.parametrize("rate", [math.inf, 100])
async def test_of_lines_that_share_a_limit_none_waits_for_the_end_of_another(
    rate: float,
) -> None:
    """Two pipelines at one vendor: who came first begins first."""
    spec = LimitSpec(concurrency=2)
    own = [*use(spec), *use(LimitSpec(rate=rate, concurrency=5), "own")]
    async with fleet() as limits:
        began = anyio.current_time()
        first: list[float] = []

        async def small() -> None:
            await anyio.sleep(5)
            first.extend(await begin_times(limits, own, 3, took_s=1.0))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(small)
            for _ in range(60):
                tasks.start_soon(begin_times, limits, use(spec), 2, 1.0)
                await anyio.sleep(1)

    assert first[-1] - began < 15


async def test_of_a_concurrency_every_worker_gets_its_share() -> None:
    """The one that came first does not keep it until it has nothing left to do."""
    spec = LimitSpec(concurrency=4)
    ended: dict[int, float] = {}

    async def many(limits: list[FleetLimits], n: int) -> None:
        await begin_times([limits[n]], use(spec), 40, took_s=1.0)
        ended[n] = anyio.current_time()

    async with fleet(2) as limits:
        start = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(many, limits, 0)
            await anyio.sleep(3)
            tasks.start_soon(many, limits, 1)

    assert ended[0] - start > 13
    assert max(ended.values()) - start < 27


async def test_a_waiting_call_holds_nothing_of_another_limit() -> None:
    """Who waits for a slow limit does not keep others from a fast one."""
    slow = Use("vendor/ocr/requests", SLOW)
    shared = Use("vendor/ocr/concurrency", LimitSpec(concurrency=1))
    async with fleet() as limits, anyio.create_task_group() as tasks:
        tasks.start_soon(begin_times, limits, [slow, shared], 3)
        await anyio.sleep(5)
        with anyio.fail_after(3):
            times = await begin_times(limits, [shared], 20, 0.1)
        tasks.cancel_scope.cancel()

    assert len(times) == 20


async def test_limits_of_one_call_are_obeyed_together() -> None:
    """The slowest sets the pace; a call has a permit of each."""
    uses = [
        Use("vendor/llm/requests", LimitSpec(rate=10)),
        Use("vendor/llm/tokens", LimitSpec(rate=1000), 250),
        Use("vendor/llm/concurrency", LimitSpec(concurrency=50)),
    ]
    async with fleet(2) as limits:
        times = await begin_times(limits, uses, 10)

    assert most_in_a_window(times, 1.0) <= 4
    assert times[-1] - times[0] == pytest.approx(19 * 0.255, abs=0.05)


@pytest.mark.parametrize("weight", [3, 60, 100, 250])
async def test_what_weighs_more_never_overfills_a_window(weight: int) -> None:
    """Also what would fit into a window one and a half times, or not at all."""
    async with fleet() as limits:
        uses = use(LimitSpec(rate=100), weight=weight)
        times = await begin_times(limits, uses, 12)

    assert most_in_a_window(times, 1.0) <= max(1, 100 // weight)


async def settled(
    limits: FleetLimits, spec: LimitSpec, weight: int, took: float
) -> None:
    """A call that says it weighs so much, and takes another."""
    uses = use(spec, weight=weight)
    async with limits.hold(uses) as turn:
        turn.took(uses[0], took)


async def test_tokens_that_a_call_did_not_take_are_used_by_others() -> None:
    """And what it took beyond what it said delays them."""
    spec = LimitSpec(rate=100)
    async with fleet() as limits:
        started = anyio.current_time()
        gaps = []
        for took in (100, 10, 300):
            await settled(limits[0], spec, 100, took)
            before = anyio.current_time()
            await begin_times(limits, use(spec, weight=100), 1)
            gaps.append(anyio.current_time() - before)

    assert started == pytest.approx(0, abs=1)
    # The third was thought to take less, as the one before it: that is made up for.
    assert gaps == pytest.approx([1.02, 0.1, 1.32], abs=0.15)


async def test_an_answer_that_cannot_count_shuts_nobody_out_for_days() -> None:
    """Nor does what is heavier than a window give back more than it paid."""
    spec = LimitSpec(rate=100)
    async with fleet() as limits:
        gaps = []
        for weight, took in ((100, 10**12), (250, 30)):
            await settled(limits[0], spec, weight, took)
            before = anyio.current_time()
            await begin_times(limits, use(spec, weight=100), 1)
            gaps.append(anyio.current_time() - before)

    assert gaps[0] < 5
    assert gaps[1] == pytest.approx(0.3, abs=0.15)


async def test_the_nearest_deadline_comes_first() -> None:
    """Of equal ones who came first."""
    spec = LimitSpec(rate=1)
    order: list[str] = []

    async def call(limits: FleetLimits, name: str, deadline: float) -> None:
        async with limits.hold(use(spec), deadline=deadline):
            order.append(name)

    async with fleet() as [limits], anyio.create_task_group() as tasks:
        for name, deadline in (("a", 900.0), ("b", 50.0), ("c", 50.01), ("d", 40.0)):
            tasks.start_soon(call, limits, name, deadline)
            await anyio.sleep(0.01)

    assert order == ["a", "d", "b", "c"]


async def test_a_cancelled_caller_gives_back_what_it_took() -> None:
    """Cancellation, waiting or under way, leaves the limit as it was."""
    spec = LimitSpec(rate=10, per_s=1, concurrency=2)
    async with fleet() as [limits]:
        for _ in range(5):
            with anyio.move_on_after(1):
                async with limits.hold(use(spec)):
                    await anyio.sleep_forever()
        after = repr(limits)
        with anyio.fail_after(2):
            async with limits.hold(use(spec)), limits.hold(use(spec)):
                both = repr(limits)
                with anyio.move_on_after(1):
                    async with limits.hold(use(spec)):
                        pytest.fail("there were two")

    assert after == f"<FleetLimits {KEY}: 0 in use, 0 waiting>"
    assert both == f"<FleetLimits {KEY}: 2 in use, 0 waiting>"


async def test_a_permit_nobody_used_is_given_back_when_its_worker_ends() -> None:
    """The next worker does not wait ten minutes for it."""
    store = MemoryStore()
    async with fleet(1, store) as limits:
        await begin_times(limits, use(SLOW), 1)
        with anyio.move_on_after(SLOW.every_s - 0.1):
            await begin_times(limits, use(SLOW), 1)
        left = anyio.current_time()
    async with fleet(1, store) as limits:
        [at] = await begin_times(limits, use(SLOW), 1)

    assert at - left == pytest.approx(0.1, abs=0.2)


async def test_a_permit_that_was_missed_is_leased_again() -> None:
    """A loop that stood still for a while does not cost a slow limit a turn."""
    store = MemoryStore()
    async with fleet(1, store) as limits:
        await begin_times(limits, use(SLOW), 1)
        with anyio.move_on_after(SLOW.every_s - 0.1):  # it has its permit by now
            await begin_times(limits, use(SLOW), 1)
        await anyio.sleep(30)
        before = anyio.current_time()
        [at] = await begin_times(limits, use(SLOW), 1)

    assert at - before < 1


async def test_a_permit_that_was_never_used_is_given_back() -> None:
    """What failed before it was sent takes nothing of the limit."""
    async with fleet() as [limits]:
        await begin_times([limits], use(SLOW), 1)
        with pytest.raises(Throttled):
            async with limits.hold(use(SLOW), early_s=0.15):
                raise Throttled("no budget pays for it", retry_after_s=1)
        before = anyio.current_time()
        [at] = await begin_times([limits], use(SLOW), 1)

    assert at - before < 1.5


async def test_what_a_worker_had_that_died_expires() -> None:
    """Its permits with their time, its units with its row."""
    store = MemoryStore()
    spec = LimitSpec(rate=2, concurrency=2)
    dead = await store.join(HERE, lease_s=1e9)
    doomed = FleetLimits(store, dead)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(until_lost, doomed)
        tasks.start_soon(begin_times, [doomed], use(spec), 2, 1e6)
        await anyio.sleep(2)
        async with fleet(1, store) as limits:
            with anyio.move_on_after(20) as none:
                await begin_times(limits, use(spec), 1)
            await store.reap([dead], died=True)
            with anyio.fail_after(5):
                await begin_times(limits, use(spec), 2)
        tasks.cancel_scope.cancel()

    assert none.cancelled_caught


async def test_who_would_wait_too_long_is_told_at_once() -> None:
    """With times to come back at that follow each other, as the limit allows."""
    spec = LimitSpec(rate=1)
    backs: list[float] = []
    async with fleet() as [limits], anyio.create_task_group() as tasks:
        tasks.start_soon(begin_times, [limits], use(spec), 30)
        await anyio.sleep(1)
        before = anyio.current_time()
        for _ in range(50):
            with pytest.raises(LimitWait) as caught:
                async with limits.hold(use(spec), patience_s=20):
                    pytest.fail("it would take half a minute")
            backs.append(caught.value.retry_after_s or 0)
        took_s = anyio.current_time() - before
        tasks.cancel_scope.cancel()

    error = caught.value
    assert isinstance(error, Throttled)
    assert error.code == "LIMIT_WAIT"
    assert KEY in error.message
    assert took_s == pytest.approx(0, abs=EARLY_S)
    gaps = [b - a for a, b in itertools.pairwise(backs)]
    assert backs[0] == pytest.approx(29 - 10, abs=2)
    assert gaps == pytest.approx([0.9 * spec.every_s] * 49, abs=0.01)


async def test_workers_that_come_at_once_leave_no_time_unused() -> None:
    """
    Each takes a line for the whole of it, and hears of the others when it stands there.

    Who is sent away then comes back when those before it are through, and not after all
    who stood there: the line would run empty for a minute.
    """
    spec, times = LimitSpec(rate=10), list[float]()

    async def item(one: FleetLimits) -> None:
        while True:
            try:
                async with one.hold(use(spec), patience_s=8):
                    times.append(anyio.current_time())
                    return
            except LimitWait as wait:
                await anyio.sleep(wait.retry_after_s or 0)

    async with fleet(4) as limits, anyio.create_task_group() as tasks:
        for one in limits:
            for _ in range(100):
                tasks.start_soon(item, one)
    gaps = [b - a for a, b in itertools.pairwise(sorted(times))]

    assert len(times) == 400
    assert max(gaps) < 1
    assert most_in_a_window(times, 1.0) <= 10


async def test_who_waits_is_sent_away_when_it_turns_out_to_take_long() -> None:
    """The owner has paused the limit: nobody sits in memory for an hour."""
    store = MemoryStore()
    async with fleet(1, store) as [limits]:
        await begin_times([limits], use(LimitSpec(rate=1)), 1)
        await store.pause_limit(KEY, None)
        before = anyio.current_time()
        with pytest.raises(LimitWait) as caught:
            async with limits.hold(use(LimitSpec(rate=1)), patience_s=20):
                pytest.fail("it is paused")

    assert anyio.current_time() - before < 2
    assert 400 < (caught.value.retry_after_s or 0) <= 900


async def test_the_owner_is_heard_within_two_seconds() -> None:
    """A pause, its end, and other numbers; by those who wait and come."""
    store = MemoryStore()
    times: list[float] = []
    async with fleet(2, store) as limits, anyio.create_task_group() as tasks:
        start = anyio.current_time()

        async def call(one: FleetLimits) -> None:
            while True:
                async with one.hold(use(LimitSpec(rate=5))):
                    times.append(anyio.current_time() - start)

        for one in limits:
            tasks.start_soon(call, one)
        await anyio.sleep(10)
        await store.pause_limit(KEY, None)
        await anyio.sleep(10)
        await store.resume_limit(KEY)
        await anyio.sleep(10)
        await store.set_limit(KEY, LimitSet(50.0, 1.0, 0.02, None))
        await anyio.sleep(10)
        tasks.cancel_scope.cancel()

    def in_(since: float, until: float) -> int:
        return sum(since <= at < until for at in times)

    assert in_(2, 10) == pytest.approx(8 * 5, abs=4)
    assert in_(12, 20) == 0
    assert in_(22, 30) == pytest.approx(8 * 5, abs=4)
    assert in_(32, 40) == pytest.approx(8 * 50, rel=0.2)


class Away(MemoryStore):
    """A store that can be away."""

    away = False

    async def lease_limits(self, *args: Any, **named: Any) -> Any:
        if self.away:
            await anyio.lowlevel.checkpoint()
            raise StoreUnavailable("away")
        return await super().lease_limits(*args, **named)


async def test_without_the_database_leases_go_on_and_then_everybody_waits() -> None:
    """Nobody fails for it; afterwards the pace is kept."""
    store, spec = Away(), LimitSpec(rate=10)
    times: list[float] = []
    async with fleet(1, store) as limits:
        start = anyio.current_time()

        async def callers() -> None:
            times.extend(await begin_times(limits, use(spec), 30))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(callers)
            await anyio.sleep(0.5)
            store.away = True
            await anyio.sleep(20)
            store.away = False
    gaps = [b - a for a, b in itertools.pairwise(times)]

    assert sum(t - start < 0.5 for t in times) == 5
    assert 8 <= sum(t - start < 20 for t in times) <= 16
    assert max(gaps) > 18
    assert min(gaps) >= spec.every_s - EARLY_S


async def test_a_lost_lease_ends_the_session() -> None:
    """As every write of a worker does, and not as a group of errors."""
    store = MemoryStore()
    limits = FleetLimits(store, await store.join(HERE, lease_s=5))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(begin_times, [limits], use(LimitSpec(rate=1)), 30)
        with anyio.fail_after(10):
            await until_lost(limits)
        tasks.cancel_scope.cancel()


async def test_thousands_that_wait_cost_next_to_nothing() -> None:
    """Nothing is asked of the database for one of them."""
    store = MemoryStore()
    asked = 0
    lease = store.lease_limits

    async def counted(*args: Any, **named: Any) -> Any:
        nonlocal asked
        asked += 1
        return await lease(*args, **named)

    store.lease_limits = counted  # type: ignore[method-assign]
    async with fleet(1, store) as limits, anyio.create_task_group() as tasks:
        tasks.start_soon(begin_times, limits, use(LimitSpec(rate=50)), 5000)
        await anyio.sleep(20)
        inside = repr(limits[0])
        tasks.cancel_scope.cancel()

    assert asked < 20 * 6
    assert "waiting" in inside


async def test_a_line_nobody_stands_in_is_forgotten() -> None:
    """Of thousands of tenants that came once nothing is left."""
    async with fleet() as limits:
        for n in range(20):
            key = f"vendor/crm/tenant/t{n}/requests"
            await begin_times(limits, [Use(key, LimitSpec(rate=5))], 1)
        await anyio.sleep(200)
        left = repr(limits[0])
        [_at] = await begin_times(limits, [Use(key, LimitSpec(rate=5))], 1)

    assert left == "<FleetLimits none>"


def test_a_vendor_has_a_limit_for_everything_it_declares() -> None:
    """Of the service and of the tenant; of requests in any case, to be paused."""
    bare = VendorSpec(name="crm", url="http://crm")
    limits = {"requests": "600/min", "tokens": "1000/s", "concurrency": 5}
    full = VendorSpec.model_validate(
        {"name": "llm", "url": "http://llm", "limits": limits}
        | {"limits_per_tenant": {"requests": "1/s"}}
    )

    assert [u.key for u in uses_of(bare, "acme", 9)] == ["vendor/crm/requests"]
    found = {u.key.removeprefix("vendor/llm/"): u for u in uses_of(full, "acme", 9)}
    assert found.keys() == {
        *("requests", "tokens", "concurrency", "tenant/acme/requests")
    }
    assert found["tokens"].weight == 9
    assert found["requests"].spec == LimitSpec(600, 60)
    assert found["concurrency"].spec == LimitSpec(concurrency=5)


@pytest.mark.parametrize(
    "numbers",
    [
        {"rate": 0},
        {"rate": float("nan")},
        {"rate": 5, "per_s": -1},
        {"rate": 5, "burst": 6},
        {"rate": 5, "burst": 0},
        {"rate": 5, "concurrency": 0},
    ],
)
def test_numbers_that_make_no_limit_are_refused(numbers: dict[str, float]) -> None:
    """A limit of nothing would stop the pipeline without a word."""
    with pytest.raises(Usage) as caught:
        LimitSpec(**numbers)  # type: ignore[arg-type]  # the point of the test

    assert caught.value.code == "LIMIT_SPEC"
