"""Drains, lost leases, an absent database, a cut at every call."""

from __future__ import annotations

from collections import Counter
from typing import Any

import anyio
import pytest

from pipeline.model import Advance, Hold
from pipeline.stage import Retry
from tests.unit.engine import (
    LEASE_S,
    Engine,
    Letter,
    Tape,
    landed,
    lost,
    not_sent,
    until,
)


async def hang(call: Any) -> Any:
    """A network that swallows everything and never says so."""
    await anyio.sleep_forever()


# -- ending ----------------------------------------------------------------------------


async def test_a_draining_worker_claims_nothing_and_finishes_its_stages() -> None:
    """What is in a stage ends it; the rest is back in line, uncharged."""
    tape = Tape()
    engine = Engine(tape.line("one", "two", took_s=10), items_max=5)
    await engine.submit(20)
    async with engine.worker() as worker:
        await until(lambda: tape.inside["one"] == 5)
        claims = engine.wire.calls["claim"]
        worker.drain()
        began = anyio.current_time()
        await worker.finished.wait()
        took_s = anyio.current_time() - began

    assert took_s <= 10.5
    assert len(tape.ran) == 5
    assert engine.wire.calls["claim"] == claims
    assert len(engine.store._ready) == 20
    assert [await engine.stages_of(i) for i in range(1, 6)] == [["one"]] * 5
    assert engine.store.attempts == []
    assert engine.store._workers == {}


async def test_a_drain_that_takes_too_long_puts_back_what_is_left() -> None:
    """Grace has an end: a stage that does not end in time is cut, uncharged."""
    tape = Tape()
    engine = Engine(tape.line("one", took_s=1000), drain_s=30)
    await engine.submit(3)
    async with engine.worker() as worker:
        await until(lambda: tape.inside["one"] > 0)
        worker.drain()
        began = anyio.current_time()
        await worker.finished.wait()
        took_s = anyio.current_time() - began

    assert 30 <= took_s < 31
    assert len(engine.store._ready) == 3
    assert all(p.attempt == 0 for p in engine.store._ready.values())
    assert engine.store.attempts == []


async def test_stop_means_now() -> None:
    """Everything is cut and back in line before another worker looks."""
    tape = Tape()
    engine = Engine(tape.line("one", took_s=1000))
    items = await engine.submit(40)
    async with engine.worker() as worker:
        await until(lambda: len(tape.ran) == 40)
        began = anyio.current_time()
        worker.stop()
        await worker.finished.wait()
        took_s = anyio.current_time() - began

    assert took_s < 1
    assert sorted(engine.store._ready) == items
    assert engine.store.attempts == []
    assert await engine.sound()


async def test_stop_does_not_wait_for_a_database_that_is_away() -> None:
    """An outage cannot hold a worker that was told to stop longer than its lease."""
    tape = Tape()
    engine = Engine(tape.line("one", took_s=3))
    await engine.submit(4)
    async with engine.worker() as worker:
        await until(lambda: tape.inside["one"] == 4)
        engine.wire.away_until = anyio.current_time() + 3600
        await anyio.sleep(4)  # the stages ended, their commits wait
        began = anyio.current_time()
        worker.stop()
        await worker.finished.wait()
        took_s = anyio.current_time() - began

    assert took_s <= 2 * LEASE_S


async def test_a_worker_told_to_drain_while_it_joins_never_works() -> None:
    """SIGTERM during the start, or during an outage, is not forgotten."""
    tape = Tape()
    engine = Engine(tape.line("one"))
    await engine.submit(3)

    async def slow(call: Any) -> Any:
        await anyio.sleep(5)
        return await call()

    engine.wire.always["join"] = slow
    async with engine.worker() as worker:
        await anyio.sleep(1)
        worker.drain()
        with anyio.fail_after(60):
            await worker.finished.wait()

    assert tape.ran == []
    assert engine.store._workers == {}


async def test_a_worker_told_to_drain_while_it_leaves_a_lost_session_ends() -> None:
    """SIGTERM between two sessions ends the worker in order, not with an error."""
    engine = Engine(Tape().line("one"))
    leaving = anyio.Event()

    async def slow(call: Any) -> Any:
        leaving.set()
        await anyio.sleep(5)
        return await call()

    engine.wire.always["leave"] = slow
    async with engine.worker() as worker:
        await until(lambda: worker.session is not None)
        assert worker.session is not None
        worker.session.lose()
        await leaving.wait()
        worker.drain()
        with anyio.fail_after(60):
            await worker.finished.wait()

    assert engine.store._workers == {}


# -- leases ----------------------------------------------------------------------------


async def test_a_replaced_worker_changes_nothing_and_a_new_session_goes_on() -> None:
    """Its row is gone: what it still writes is void, and it notices by itself."""
    tape = Tape()
    engine = Engine(tape.line("one", "two", took_s=1))
    items = await engine.submit(10)
    async with engine.worker() as worker:
        await until(lambda: tape.inside["one"] == 10)
        assert worker.session is not None
        replaced = worker.session.worker
        written = len(engine.wire.entries)
        await engine.store.reap([replaced], died=True)
        ends = await engine.finish(items)
        current = worker.session.worker

    late = [w for w, _ in engine.wire.commits if w == replaced]
    assert current != replaced
    assert written == 0
    assert late == []
    assert ends == {"done": 10}
    assert engine.store.attempts == []
    assert {len(await engine.history(i)) for i in items} == {2}
    assert await engine.sound()


@pytest.mark.parametrize("fault", [not_sent, hang], ids=["refused", "swallowed"])
async def test_a_worker_that_cannot_renew_gives_up_before_its_lease_ends(
    fault: Any,
) -> None:
    """By its own clock: no stage of it runs when it may have been replaced."""
    tape = Tape()
    ended: list[float] = []

    async def long(letter: Letter, ctx: Any) -> Advance:
        try:
            await anyio.sleep(1000)
        finally:
            ended.append(anyio.current_time())
        return Advance()

    engine = Engine([tape.station("long", long, timeout_s=5000)])
    await engine.submit(5)
    async with engine.session() as session:
        await until(lambda: len(tape.ran) == 5)
        await anyio.sleep(100)
        row = engine.store._workers[session.worker]
        engine.wire.always["renew"] = fault
        await until(lambda: len(ended) == 5, within_s=60)
        lease_until = row.lease_until

    assert max(ended) < lease_until


async def test_a_worker_goes_on_through_a_short_outage() -> None:
    """Shorter than its lease: the same session, nothing run twice."""
    tape = Tape()
    engine = Engine(tape.line("one", "two", "three", took_s=3))
    items = await engine.submit(10)
    async with engine.worker() as worker:
        await until(lambda: tape.inside["two"] > 0)
        first = worker.session
        engine.wire.away_until = anyio.current_time() + 5
        ends = await engine.finish(items)
        same = worker.session is first

    assert same
    assert ends == {"done": 10}
    assert len(tape.ran) == 30


async def test_an_hour_without_the_database_costs_time_and_nothing_else() -> None:
    """Workers wait and go on: no attempt charged, no finished stage run again, and
    nobody is suspected of having killed them."""
    tape = Tape()
    engine = Engine(tape.line("one", "two", "three", took_s=20))
    items = await engine.submit(30)
    async with engine.worker():
        for _ in range(4):  # an outage in the middle of every stage, one more
            await anyio.sleep(15)
            engine.wire.away_until = anyio.current_time() + 3600
            await anyio.sleep(3600)
        strikes = [p.strikes for p in engine.store._running.values()]
        strikes += [p.strikes for p in engine.store._ready.values()]
        ends = await engine.finish(items)

    assert ends == {"done": 30}
    assert engine.store.attempts == []
    assert set(strikes) <= {0}
    assert {len(await engine.history(i)) for i in items} == {3}
    assert await engine.sound()


@pytest.mark.parametrize("fault", [lost, landed], ids=["lost", "landed"])
async def test_doubtful_answers_everywhere_lose_and_double_nothing(fault: Any) -> None:
    """Every second commit and claim loses its answer, written or not."""
    tape = Tape()
    engine = Engine(tape.line("one", "two", "three", window=20))
    calls: Counter[str] = Counter()

    def now_and_then(name: str) -> Any:
        async def through(call: Any) -> Any:
            calls[name] += 1
            return await (fault if calls[name] % 2 else _pass)(call)

        return through

    for name in ("commit", "claim"):
        engine.wire.always[name] = now_and_then(name)
    items = await engine.submit(100)

    async with engine.worker():
        ends = await engine.finish(items)

    assert ends == {"done": 100}
    assert len(tape.ran) == 300
    for item in items:
        assert await engine.stages_of(item) == ["one", "two", "three"]
    assert await engine.sound()


async def _pass(call: Any) -> Any:
    return await call()


async def test_an_expired_neighbour_is_replaced_after_one_lease() -> None:
    """Another machine went silent: its items are worked here, in order."""
    tape = Tape()
    engine = Engine(tape.line("one", took_s=30))
    items = await engine.submit(10)
    async with engine.session() as silent:
        await until(lambda: tape.inside["one"] == 10)
    assert silent.worker in engine.store._workers

    began = anyio.current_time()
    async with engine.session():
        await until(lambda: tape.inside["one"] == 10, within_s=60)
        took_s = anyio.current_time() - began
        ends = await engine.finish(items)

    assert took_s <= 2 * LEASE_S
    assert ends == {"done": 10}


async def test_after_an_outage_nobody_is_declared_dead_at_once() -> None:
    """Every lease is over then; each neighbour gets one lease to come back."""
    tape = Tape()
    engine = Engine(tape.line("one", took_s=1e6, timeout_s=2e6))
    await engine.submit(5)
    async with engine.session() as other:
        await until(lambda: tape.inside["one"] == 5)
    async with engine.session():
        await anyio.sleep(1)
        row = engine.store._workers[other.worker]
        engine.wire.away_until = anyio.current_time() + 5
        await anyio.sleep(5.5)
        row.lease_until = 0.0
        await anyio.sleep(LEASE_S - 2)
        still_there = other.worker in engine.store._workers
        await anyio.sleep(4)
        gone = other.worker not in engine.store._workers

    assert still_there
    assert gone


# -- a cut at every call ---------------------------------------------------------------


class Cut:
    """Does something once, at the k-th time that the store is reached or answers."""

    def __init__(self, at: int, act: Any) -> None:
        self.at = at
        self.act = act
        self.seen = 0

    def __call__(self, name: str) -> None:
        self.seen += 1
        if self.seen == self.at and self.act is not None:
            self.act(name)


def two_stages(tape: Tape, last: Any = None) -> list[Any]:
    """A stage of two steps, then one that ends as `last`; a finished step that runs
    again shows on the tape."""

    async def page(number: int, item: int) -> int:
        await anyio.lowlevel.checkpoint()
        tape.steps[f"{item}/{number}"] += 1
        return number

    async def read(letter: Letter, ctx: Any) -> Advance:
        read = [await ctx.step(f"page-{n}", page, n, ctx.item.id) for n in (1, 2)]
        return Advance(pence=sum(read))

    async def end(letter: Letter, ctx: Any) -> Any:
        await anyio.lowlevel.checkpoint()
        return last or Advance(pence=10)

    return [tape.station("read", read), tape.station("end", end)]


async def cut_once(at: int) -> int:
    """Kill the session at its `at`-th cut; then finish.  How many cuts there are."""
    tape = Tape()
    engine = Engine(two_stages(tape))
    items = await engine.submit(3)
    cut = Cut(at, None)
    async with engine.session() as killed:
        cut.act = lambda _: killed.stop()
        engine.wire.on_call = cut
        with anyio.move_on_after(5):
            await engine.finish(items)
    engine.wire.on_call = lambda _: None
    await engine.bury(killed)
    assert await engine.sound()
    kept = {i: {c.step for c in await engine.history(i)} for i in items}
    before = tape.steps.copy()

    async with engine.session():
        ends = await engine.finish(items)

    assert ends == {"done": 3}
    for item in items:
        history = await engine.history(item)
        assert [c.seq for c in history] == list(range(4))
        assert [c.step for c in history] == ["page-1", "page-2", None, None]
        assert (await engine.letter(item)).pence == 13
        for n in (1, 2):
            if f"page-{n}" in kept[item]:
                assert tape.steps[f"{item}/{n}"] == before[f"{item}/{n}"]
    assert await engine.sound()
    return cut.seen


async def test_a_kill_at_any_call_to_the_store_loses_and_repeats_nothing() -> None:
    """Before and after each call: conserved, then finished; what is recorded is not
    run again."""
    cuts = await cut_once(10**9)

    for at in range(1, min(cuts, 80) + 1):
        await cut_once(at)

    assert cuts > 20


@pytest.mark.parametrize("last", [None, Hold("LOOK")], ids=["done", "held"])
async def test_a_cancel_at_any_call_to_the_store_ends_the_item_once(last: Any) -> None:
    """Whenever a person cancels: cancelled or done, never both, never forgotten."""
    for at in range(1, 60):
        tape = Tape()
        engine = Engine(two_stages(tape, last))
        [item] = await engine.submit()
        said: list[dict[int, str]] = []

        async def cancel(
            engine: Engine = engine, item: int = item, said: Any = said
        ) -> None:
            said.append(await engine.store.cancel([item], "ann"))

        async with anyio.create_task_group() as tasks, engine.session():
            engine.wire.on_call = Cut(at, lambda _: tasks.start_soon(cancel))
            await until(lambda: bool(said), every_s=0.5)  # noqa: B023
            await engine.finish([item], within_s=20)

        expected = "done" if said == [{item: "final"}] else "cancelled"
        ended = await engine.state()
        assert ended == expected or (said == [{item: "cancelling"}] and ended == "done")
        assert await engine.sound()


# -- errors of the store at odd places -------------------------------------------------


async def test_a_history_that_cannot_be_read_puts_the_claim_back() -> None:
    """Claimed, then the database went: the items run later, uncharged, once."""
    tape = Tape()
    engine = Engine(tape.line("one", "two", took_s=5), items_max=4)
    items = await engine.submit(4)
    async with engine.session() as killed:
        await until(lambda: tape.inside["two"] == 4)
    await engine.bury(killed)
    engine.wire.faults["history"].extend([not_sent, not_sent])

    async with engine.session() as session:
        ends = await engine.finish(items)

    assert ends == {"done": 4}
    assert engine.wire.calls["history"] >= 3
    assert session.windows.total == 0
    assert engine.store.attempts == []


async def test_a_pipeline_that_cannot_be_read_now_is_not_the_items_fault() -> None:
    """The database went while an item was loaded: it is put back, uncharged."""
    tape = Tape()
    engine = Engine(tape.line("one"), items_max=3)
    items = await engine.submit(9)
    engine.wire.faults["pipeline"].extend([not_sent] * 5)

    async with engine.session():
        ends = await engine.finish(items)

    assert ends == {"done": 9}
    assert len(tape.ran) == 9
    assert engine.store.attempts == []


async def test_attempts_are_not_lost_with_a_worker() -> None:
    """A crash between two tries does not give an item its attempts back."""
    tape = Tape()

    async def fails(letter: Letter, ctx: Any) -> Advance:
        raise TimeoutError

    policy = Retry(attempts=4, base_s=1)
    engine = Engine([tape.station("fails", fails, retry=policy)])
    [item] = await engine.submit()
    for tries in (1, 2, 3):
        async with engine.session() as killed:
            await until(lambda n=tries: len(engine.store.attempts) == n)
        await engine.bury(killed)

    async with engine.session():
        await engine.finish([item])

    assert len(tape.ran) == 4
    assert await engine.code() == "STAGE_RAISED"


async def test_an_outage_longer_than_the_lease_kills_nobody() -> None:
    """The next session lets go of what the last one had: no neighbour takes it for
    dead, and no item gets a strike."""
    tape = Tape()
    engine = Engine(tape.line("one", took_s=15))
    items = await engine.submit(5)
    async with engine.worker() as worker:
        await until(lambda: tape.inside["one"] == 5)
        assert worker.session is not None
        former = worker.session.worker
        engine.wire.away_until = anyio.current_time() + 4 * LEASE_S
        await anyio.sleep(4 * LEASE_S)
        back = anyio.current_time()
        await until(lambda: tape.inside["one"] == 5)
        took_s = anyio.current_time() - back
        sessions = [row.id for row in await engine.store.sessions()]
        strikes = {place.strikes for place in engine.store._running.values()}
        ends = await engine.finish(items)

    assert former not in sessions
    assert took_s < 7
    assert strikes == {0}
    assert ends == {"done": 5}
