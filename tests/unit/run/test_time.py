"""Deadlines, timeouts, cancellation and windows: what may run, and how long."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from pipeline.model import Advance, Hold, Wait
from pipeline.stage import Retry
from pipeline.vendors.pacing import LimitSpec
from tests.unit.engine import DAY_S, LEASE_S, Engine, Letter, Tape, until

RENEWAL_S = LEASE_S / 5
LATE_S = 1.5  # timers are looked at twice a second


def add(a: int, b: int) -> int:
    return a + b


# -- deadlines -------------------------------------------------------------------------


async def test_nothing_starts_when_the_deadline_passed_in_line() -> None:
    """An item that waited too long for a worker ends without running."""
    tape = Tape()
    engine = Engine(tape.line("one"))
    late = await engine.submit(5, deadline_s=60)
    good = await engine.submit(5, deadline_s=DAY_S)
    await anyio.sleep(61)

    async with engine.session():
        ends = await engine.finish([*late, *good])

    assert ends == {"failed": 5, "done": 5}
    assert {await engine.code(i) for i in late} == {"DEADLINE_PASSED"}
    assert {i for i, _, _ in tape.ran} == set(good)


async def test_a_deadline_that_passes_in_a_stage_ends_it_there_and_then() -> None:
    """The stage is cancelled, what it jailed killed, nothing starts afterwards."""
    tape = Tape()

    async def read(letter: Letter, ctx: Any) -> Advance:
        await ctx.jailed(add, a=1, b=2)
        return Advance()

    engine = Engine([tape.station("read", read), tape.station("next")])
    engine.jail.took_s = 500
    [item] = await engine.submit(deadline_s=100)

    async with engine.session():
        await engine.finish([item])
        ended_at = anyio.current_time()

    assert await engine.code() == "DEADLINE_PASSED"
    assert 100 <= ended_at < 101
    assert (engine.jail.started, engine.jail.killed) == (1, 1)
    assert tape.stages() == ["read"]


async def test_a_deadline_that_passes_between_stages_stops_the_next() -> None:
    """Finished work is kept, the next stage is not begun."""
    tape = Tape()
    engine = Engine(tape.line("one", "two", "three", took_s=40))
    [item] = await engine.submit(deadline_s=80)

    async with engine.session():
        await engine.finish([item])

    assert await engine.code() == "DEADLINE_PASSED"
    assert tape.stages()[:2] == ["one", "two"]
    assert all(at < 80 for at in tape.times())


async def test_a_deadline_that_passes_while_waiting_ends_the_wait() -> None:
    """No wait is longer than the deadline: the item fails then, and says so."""
    tape = Tape()

    async def poll(letter: Letter, ctx: Any) -> Wait:
        return Wait(DAY_S)

    engine = Engine([tape.station("poll", poll)])
    [item] = await engine.submit(deadline_s=600)

    async with engine.session():
        await engine.finish([item])
        ended_at = anyio.current_time()

    assert await engine.code() == "DEADLINE_PASSED"
    assert 600 <= ended_at < 600 + LATE_S
    assert tape.times() == [pytest.approx(0, abs=1)]


async def test_a_stage_is_told_the_time_it_has() -> None:
    """`left_s` is the earlier of the stage's timeout and the item's deadline."""
    tape = Tape()
    told: list[float] = []

    async def look(letter: Letter, ctx: Any) -> Advance:
        told.append(ctx.left_s())
        await ctx.jailed(add, a=1, b=2)
        await anyio.sleep(20)
        return Advance()

    engine = Engine([tape.station(n, look, timeout_s=100) for n in ("one", "two")])
    [item] = await engine.submit(deadline_s=110)

    async with engine.session():
        await engine.finish([item])

    assert told == [pytest.approx(100, abs=1), pytest.approx(110 - 21, abs=1)]
    assert engine.jail.timeouts == pytest.approx(told, abs=0.01)


# -- timeouts --------------------------------------------------------------------------


async def test_a_stage_that_runs_too_long_is_cut_charged_and_retried() -> None:
    """STAGE_TIMEOUT is one attempt; a quicker second try succeeds."""
    tape = Tape()

    async def slow(letter: Letter, ctx: Any) -> Advance:
        await anyio.sleep(1000 if len(tape.ran) == 1 else 5)
        return Advance()

    engine = Engine([tape.station("slow", slow, timeout_s=30)])
    [item] = await engine.submit()

    async with engine.session():
        await engine.finish([item])

    assert await engine.state() == "done"
    [(_, tried)] = engine.store.attempts
    assert (tried.code, tried.charged) == ("STAGE_TIMEOUT", True)
    assert 30 <= tape.times()[1] - tape.times()[0] <= 30 + 1 + LATE_S


async def test_waiting_for_a_permit_is_not_the_stages_time() -> None:
    """A slow limit makes a long line; nobody in it is charged for standing there."""
    tape = Tape()
    policy = Retry(attempts=1)
    stage = tape.station("llm", limit="llm", timeout_s=30, retry=policy)
    engine = Engine([stage], {"llm": LimitSpec(rate=1, per_s=10)})
    items = await engine.submit(50)

    async with engine.session():
        ends = await engine.finish(items)

    assert ends == {"done": 50}
    assert engine.store.attempts == []


async def test_a_deadline_ends_the_wait_for_a_permit() -> None:
    """An item still in the limit's line at its deadline never begins."""
    tape = Tape()
    stage = tape.station("llm", limit="llm", timeout_s=30)
    engine = Engine([stage], {"llm": LimitSpec(rate=1, per_s=100)})
    items = await engine.submit(5, deadline_s=250)

    async with engine.session():
        ends = await engine.finish(items)
        ended_at = anyio.current_time()

    assert ends == {"done": 3, "failed": 2}
    assert len(tape.ran) == 3
    assert ended_at < 251


# -- cancellation by a person ----------------------------------------------------------


async def test_a_running_item_is_cancelled_within_one_renewal() -> None:
    """Its stage is cut, its jailed process killed; neighbours do not notice."""
    tape = Tape()

    async def read(letter: Letter, ctx: Any) -> Advance:
        await ctx.jailed(add, a=1, b=2)
        return Advance()

    engine = Engine([tape.station("read", read), tape.station("next")])
    engine.jail.took_s = 200
    items = await engine.submit(3)
    async with engine.session():
        await until(lambda: len(tape.ran) == 3)
        said = await engine.store.cancel(items[:1], "ann")
        asked_at = anyio.current_time()
        await engine.finish(items[:1])
        took_s = anyio.current_time() - asked_at
        ends = await engine.finish(items)

    assert said == {items[0]: "cancelling"}
    assert took_s <= RENEWAL_S + 0.5
    assert ends == {"cancelled": 1, "done": 2}
    assert engine.jail.killed == 1
    assert tape.stages(items[0]) == ["read"]
    assert engine.store.attempts == []


async def test_an_item_that_nobody_runs_is_cancelled_at_once() -> None:
    """Ready, waiting or held: final in the same call, and never run again."""
    tape = Tape()

    async def part(letter: Letter, ctx: Any) -> Wait | Hold:
        return Wait(DAY_S) if ctx.item.id == 1 else Hold("LOOK")

    engine = Engine([tape.station("part", part)])
    items = await engine.submit(2)
    async with engine.session():
        await until(lambda: len(engine.store._waiting) + len(engine.store._open) == 2)
    items += await engine.submit()

    said = await engine.store.cancel(items, "ann")
    async with engine.session():
        await anyio.sleep(600)

    assert set(said.values()) == {"cancelled"}
    assert len(tape.ran) == 2
    assert (await engine.store.counts()).cancelled == 3
    assert await engine.sound()


@pytest.mark.parametrize("outcome", [Wait(DAY_S), Hold("LOOK")], ids=["wait", "hold"])
async def test_a_cancel_that_meets_the_end_of_a_stage_is_not_forgotten(
    outcome: Any,
) -> None:
    """Cancelled while running, parked before the renewal: it is cancelled all the
    same, and does not wait for days or stand on a reviewer's desk."""
    tape = Tape()

    async def part(letter: Letter, ctx: Any) -> Any:
        await anyio.sleep(1)
        return outcome

    engine = Engine([tape.station("part", part)], lease_s=60)
    [item] = await engine.submit()
    async with engine.session():
        await until(lambda: len(tape.ran) == 1)
        said = await engine.store.cancel([item], "ann")
        await engine.finish([item], within_s=60)

    assert said == {item: "cancelling"}
    assert await engine.state() == "cancelled"
    assert await engine.sound()


# -- windows ---------------------------------------------------------------------------


async def test_no_stage_ever_holds_more_than_its_window() -> None:
    """Many items, small windows, from the very first claim: none is exceeded."""
    tape = Tape()
    windows = {"one": 7, "two": 2, "three": 4}
    stages = [tape.station(name, window=size) for name, size in windows.items()]
    engine = Engine(stages)
    items = await engine.submit(120)

    async with engine.session():
        ends = await engine.finish(items)

    assert ends == {"done": 120}
    assert {s: tape.most[s] <= size for s, size in windows.items()} == dict.fromkeys(
        windows, True
    )
    assert tape.most["two"] == 2
    assert {len(await engine.history(i)) for i in items} == {3}


async def test_an_item_whose_next_window_is_full_goes_back_in_line() -> None:
    """Nobody hoards what cannot run soon: another worker can take it at once."""
    tape = Tape()
    stages = [
        tape.station("quick", took_s=1, window=50),
        tape.station("slow", took_s=100, window=3),
    ]
    engine = Engine(stages)
    await engine.submit(50)

    async with engine.session():
        await anyio.sleep(30)
        in_line = [p for p in engine.store._ready.values() if p.stage == "slow"]
        async with engine.session():
            await anyio.sleep(30)
            at_work = tape.inside["slow"]

    assert len(in_line) == 47
    assert at_work == 6


async def test_a_worker_never_has_more_than_its_items() -> None:
    """`items_max` bounds the process, whatever the windows allow."""
    tape = Tape()
    engine = Engine(tape.line("one", "two"), items_max=10)
    items = await engine.submit(100)
    async with engine.session() as session:
        ends = await engine.finish(items)

    assert ends == {"done": 100}
    assert session.windows.total_max == 10
    assert tape.most["one"] + tape.most["two"] <= 20
    assert session.windows.total == 0
