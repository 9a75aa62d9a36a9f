"""Limits: never more than was allowed, in any window, and never for nobody."""

from __future__ import annotations

import anyio
import pytest

from pipeline.errors import Usage
from pipeline.vendors.limits import Limits, LimitSpec

# Levels are floats and a permit may come this share of a step early.
EARLY_S = 1e-3


async def begin_times(limits: Limits, calls: int, took_s: float = 0.0) -> list[float]:
    """When each of `calls` simultaneous callers was let in."""
    times: list[float] = []

    async def call() -> None:
        async with limits.hold("llm"):
            times.append(anyio.current_time())
            await anyio.sleep(took_s)

    async with anyio.create_task_group() as tasks:
        for _ in range(calls):
            tasks.start_soon(call)
    return times


def most_in_a_window(times: list[float], per_s: float) -> int:
    """The fullest window [t, t + per_s) there is."""
    return max(
        sum(1 for other in times if start <= other < start + per_s - EARLY_S)
        for start in times
    )


@pytest.mark.parametrize(
    "spec",
    [
        LimitSpec(rate=5, per_s=1),
        LimitSpec(rate=10, per_s=60, burst=4),
        LimitSpec(rate=10, per_s=2, burst=10),
        LimitSpec(rate=0.5, per_s=1),
    ],
)
async def test_no_window_ever_holds_more_than_the_rate(spec: LimitSpec) -> None:
    """Whichever window you pick, at most `rate` calls begin in it."""
    limits = Limits({"llm": spec})

    times = await begin_times(limits, 60)

    assert len(times) == 60
    assert most_in_a_window(times, spec.per_s) <= max(1, spec.rate)
    ideal_s = (60 - spec.burst) / spec.pace
    assert times[-1] - times[0] == pytest.approx(ideal_s, abs=0.01)


async def test_a_burst_begins_at_once() -> None:
    """After a quiet while, `burst` calls need not wait."""
    limits = Limits({"llm": LimitSpec(rate=10, per_s=60, burst=4)})
    start = anyio.current_time()

    times = await begin_times(limits, 5)

    assert [t - start for t in times[:4]] == pytest.approx([0] * 4, abs=EARLY_S)
    assert times[4] - start > 1


async def test_a_pause_holds_everyone_and_no_burst_follows() -> None:
    """Retry-After stops the whole limit, also callers already being paced."""
    limits = Limits({"llm": LimitSpec(rate=2, per_s=1)})
    start = anyio.current_time()
    times: list[float] = []

    async with anyio.create_task_group() as tasks:

        async def callers() -> None:
            times.extend(await begin_times(limits, 12))

        tasks.start_soon(callers)
        await anyio.sleep(1.2)
        limits.pause("llm", 100)
        limits.pause("llm", 5)  # a shorter pause does not end a longer one
        assert repr(limits).endswith(", paused for 100.0 s>")
    after = [t - start for t in times if t - start > 1.2]

    assert len(times) == 12
    assert min(after) >= 101.2 - EARLY_S
    assert most_in_a_window(times, 1.0) <= 2


async def test_concurrency_bounds_how_many_are_under_way() -> None:
    """Slow calls do not pile up beyond `concurrency`."""
    limits = Limits({"llm": LimitSpec(rate=1000, per_s=1, concurrency=3)})
    under_way: list[int] = []
    inside = 0

    async def call() -> None:
        nonlocal inside
        async with limits.hold("llm"):
            inside += 1
            under_way.append(inside)
            await anyio.sleep(10)
            inside -= 1

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(call)

    assert max(under_way) == 3
    assert repr(limits) == "<Limits llm: 0 in use, 0 waiting>"


async def test_a_cancelled_caller_gives_back_what_it_took() -> None:
    """Cancellation, waiting or under way, leaves the limit as it was."""
    limits = Limits({"llm": LimitSpec(rate=1, per_s=10, concurrency=2)})
    for _ in range(5):
        with anyio.move_on_after(1):
            async with limits.hold("llm"):
                await anyio.sleep_forever()

    after = repr(limits)
    with anyio.fail_after(21):
        async with limits.hold("llm"), limits.hold("llm"):
            both = repr(limits)

    assert after == "<Limits llm: 0 in use, 0 waiting>"
    assert both == "<Limits llm: 2 in use, 0 waiting>"


async def test_an_unknown_limit_is_a_usage_error() -> None:
    """A stage that names no configured limit says which table is missing."""
    limits = Limits({})

    with pytest.raises(Usage) as caught:
        async with limits.hold("ocr"):
            pytest.fail("no such limit")

    assert caught.value.code == "LIMIT_UNKNOWN"
    assert "[limit.ocr]" in caught.value.hint


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
