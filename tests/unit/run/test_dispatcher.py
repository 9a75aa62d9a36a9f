"""The dispatcher: who is next, who is never left out, and who must run alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from pipeline.model import Advance, Claim, Entry, Finish, ItemId, State, Wait
from pipeline.run import dispatcher
from pipeline.run.dispatcher import Dispatcher
from pipeline.run.gate import Gate
from pipeline.run.windows import Windows
from pipeline.store.strikes import SUSPECTS_MAX
from tests.unit.engine import (
    DAY_S,
    ELSEWHERE,
    Engine,
    Letter,
    Tape,
    landed,
    lost,
    not_sent,
    until,
)


class Hall:
    """A dispatcher whose claims are taken as they come, and ended on demand."""

    def __init__(self, engine: Engine, dispatcher: Dispatcher, me: Any) -> None:
        self.engine = engine
        self.dispatcher = dispatcher
        self.me = me
        self.here: dict[ItemId, Claim] = {}
        self.came: list[Claim] = []
        self.sizes: list[int] = []  # of claims

    async def accept(self, claims: list[Claim]) -> None:
        self.sizes.append(len(claims))
        for claim in claims:
            self.here[claim.item.id] = claim
            self.came.append(claim)

    async def end(self, item: ItemId, windows: Windows) -> None:
        claim = self.here.pop(item)
        end = Entry(item, None, Finish(State.DONE, claim.stage))
        await self.engine.store.commit(self.me, [end])
        windows.leave(claim.stage)


@asynccontextmanager
async def hall(engine: Engine, windows: Windows) -> AsyncIterator[Hall]:
    """A running dispatcher."""
    me = await engine.store.join(ELSEWHERE, lease_s=1e9)
    made: list[Hall] = []

    async def accept(claims: list[Claim]) -> None:
        await made[0].accept(claims)

    wire: Any = engine.wire
    gate = Gate(engine.services.look)
    made_one = Dispatcher(wire, me, windows, accept, lambda: list(made[0].here), gate)
    made.append(Hall(engine, made_one, me))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(made_one.run)
        yield made[0]
        made_one.stop()
        tasks.cancel_scope.cancel()


async def serve(hall: Hall, windows: Windows, count: int) -> list[Claim]:
    """Take `count` items, one after the other; who they were, in order."""
    for _ in range(count):
        await until(lambda: bool(hall.here), within_s=60, every_s=0.01)
        await hall.end(next(iter(hall.here)), windows)
    return hall.came[:count]


def one_at_a_time() -> Windows:
    windows = Windows(1)
    windows.shape("one", 1, 0)
    return windows


# -- how many --------------------------------------------------------------------------


async def test_claims_of_a_deep_line_grow_and_begin_small_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first leaves something for others; a full one shows that there is more."""
    monkeypatch.setattr(dispatcher, "CLAIM_FIRST", 5)
    monkeypatch.setattr(dispatcher, "CLAIM_MAX", 20)
    engine = Engine(Tape().line("one"))
    await engine.submit(60)
    windows = Windows(1000)
    windows.shape("one", 1000, 0)

    async with hall(engine, windows) as h:
        await until(lambda: len(h.came) == 60, within_s=60)
        await engine.submit(7)
        h.dispatcher.ring()
        await until(lambda: len(h.came) == 67, within_s=60)

    assert h.sizes == [5, 10, 20, 20, 5, 5, 2]


# -- order -----------------------------------------------------------------------------


async def test_the_earliest_deadline_is_served_first() -> None:
    """Within a tenant what is due first is claimed first, however late it came."""
    engine = Engine(Tape().line("one"))
    for hours in (5, 1, 4, 2, 3):
        await engine.submit(2, deadline_s=hours * 3600.0)
    windows = one_at_a_time()

    async with hall(engine, windows) as h:
        claims = await serve(h, windows, 10)

    due = [c.left_s + i for i, c in enumerate(claims)]
    hours_left = [round(left / 3600) for left in due]
    assert hours_left == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


async def test_a_large_tenant_does_not_hold_up_a_small_one() -> None:
    """Turn by turn: ten letters of one among a thousand of another end early."""
    engine = Engine(Tape().line("one"))
    await engine.submit(1000, tenant="large", deadline_s=3600)
    await engine.submit(10, tenant="small", deadline_s=DAY_S)
    windows = one_at_a_time()

    async with hall(engine, windows) as h:
        claims = await serve(h, windows, 24)

    tenants = Counter(c.item.tenant for c in claims)
    assert tenants["small"] == 10


async def test_turns_follow_the_tenants_weights() -> None:
    """Three times the weight is three times the turns."""
    engine = Engine(Tape().line("one"))
    await engine.submit(200, tenant="heavy")
    await engine.submit(200, tenant="light")
    engine.store._weights["heavy"] = 3.0
    windows = one_at_a_time()

    async with hall(engine, windows) as h:
        claims = await serve(h, windows, 80)

    tenants = Counter(c.item.tenant for c in claims)
    assert 58 <= tenants["heavy"] <= 62


async def test_a_tenant_that_was_away_is_not_owed_the_past() -> None:
    """A newcomer is level with the least served: turn by turn from its first item."""
    engine = Engine(Tape().line("one"))
    await engine.submit(500, tenant="old")
    windows = one_at_a_time()

    async with hall(engine, windows) as h:
        await serve(h, windows, 100)
        await engine.submit(100, tenant="new")
        await serve(h, windows, 40)
        claims = h.came[101:141]

    tenants = Counter(c.item.tenant for c in claims)
    assert 18 <= tenants["new"] <= 22


async def test_a_tenant_that_comes_back_is_owed_little() -> None:
    """It may catch up on a few turns, not on all that were served meanwhile."""
    engine = Engine(Tape().line("one"))
    await engine.submit(5, tenant="back")
    await engine.submit(2000, tenant="busy")
    windows = one_at_a_time()

    async with hall(engine, windows) as h:
        await serve(h, windows, 1000)
        await engine.submit(500, tenant="back")
        await serve(h, windows, 400)
        claims = h.came[1001:1401]

    tenants = Counter(c.item.tenant for c in claims)
    assert tenants["back"] >= 195
    assert tenants["busy"] >= 140


async def test_what_is_begun_is_finished_first() -> None:
    """A later stage's line goes before an earlier one's."""
    engine = Engine(Tape().line("one", "two", "three"))
    items = await engine.submit(30)
    for item in items[:10]:
        engine.store._ready[item].stage = "three"
        engine.store._put_ready(item, engine.store._ready[item])
    windows = Windows(5)
    for depth, name in enumerate(("one", "two", "three")):
        windows.shape(name, 100, depth)

    async with hall(engine, windows) as h:
        claims = await serve(h, windows, 10)

    assert {c.stage for c in claims} == {"three"}


# -- doubt -----------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [lost, landed, not_sent])
async def test_a_claim_whose_answer_was_lost_is_put_back(fault: Any) -> None:
    """Claimed or not, the items are run, once, by whoever claims them next."""
    tape = Tape()
    engine = Engine(tape.line("one"), items_max=20)
    items = await engine.submit(50)
    engine.wire.faults["claim"].extend([fault] * 3)

    async with engine.session() as session:
        ends = await engine.finish(items)

    assert ends == {"done": 50}
    assert len(tape.ran) == 50
    assert session.windows.total == 0
    assert engine.store.attempts == []


async def test_doubt_does_not_disturb_what_is_in_hand() -> None:
    """Settling a lost answer puts back what we do not know of, and nothing else."""
    tape = Tape()
    engine = Engine(tape.line("one", took_s=30), items_max=10)
    items = await engine.submit(5)
    async with engine.session() as session:
        await until(lambda: tape.inside["one"] == 5)
        engine.wire.faults["claim"].append(landed)
        items += await engine.submit(5)
        session.ring()
        ends = await engine.finish(items)

    assert ends == {"done": 10}
    assert len(tape.ran) == 10


async def test_an_item_that_is_back_before_we_heard_of_it_is_known() -> None:
    """Committed, put in line and claimed again while the first commit's answer was
    under way: a person's cancel and a drain still find it."""
    tape = Tape()

    async def run(letter: Letter, ctx: Any) -> Advance | Wait:
        if len(tape.ran) == 1:
            return Wait(0)
        await anyio.sleep(200)
        return Advance()

    async def slow_answer(call: Any) -> Any:
        answer = await call()
        await anyio.sleep(5)
        return answer

    engine = Engine([tape.station("one", run)])
    [item] = await engine.submit()
    engine.wire.faults["commit"].append(slow_answer)
    async with engine.session() as session:
        await until(lambda: len(tape.ran) == 2)
        assert anyio.current_time() < 5
        await anyio.sleep(10)
        known = item in session._claimed
        await engine.store.cancel([item], "ann")
        await engine.finish([item], within_s=10)

    assert known
    assert await engine.state() == "cancelled"
    assert session._claimed == {}


async def test_an_item_that_came_back_with_a_lost_answer_is_not_nobodys() -> None:
    """Still in hand when it is looked for, it was claimed for a task that never is."""
    tape = Tape()

    async def run(letter: Letter, ctx: Any) -> Advance | Wait:
        return Wait(0) if len(tape.ran) == 1 else Advance()

    async def slow_answer(call: Any) -> Any:
        engine.wire.faults["claim"].append(landed)
        answer = await call()
        await anyio.sleep(5)
        return answer

    engine = Engine([tape.station("one", run)])
    [item] = await engine.submit()
    engine.wire.faults["commit"].append(slow_answer)
    async with engine.session() as session:
        await until(lambda: bool(tape.ran))
        ends = await engine.finish([item], within_s=20)

    assert ends == {"done": 1}
    assert len(tape.ran) == 2
    assert session.windows.total == 0


# -- suspects --------------------------------------------------------------------------


async def kill_while_running(engine: Engine, poisoned: list[int]) -> None:
    """Work until the poison runs once more; then the process dies."""
    before = len(poisoned)
    async with engine.session() as killed:
        await until(lambda: len(poisoned) > before, within_s=600)
        await engine.bury(killed)  # who stops would still claim


@pytest.mark.parametrize(("poison", "beside"), [(1, [1, 1]), (7, [19, 1, 1])])
async def test_an_item_that_kills_its_workers_fails_alone(
    poison: int, beside: list[int]
) -> None:
    """
    Two deaths in company, one among suspects unless it was the first of them, and
    two with nothing else in hand: WORKER_KILLED.  All others finish, uncharged.
    """
    tape = Tape()
    inside: list[int] = []

    async def odd(letter: Letter, ctx: Any) -> Advance:
        if ctx.item.id == poison:
            await anyio.sleep(0.1)  # until all are in
            inside.append(tape.inside["odd"])
        await anyio.sleep(5)
        return Advance()

    engine = Engine([tape.station("odd", odd)])
    items = await engine.submit(20)

    deaths = 0
    while await engine.state(poison) not in ("failed", "done"):
        await kill_while_running(engine, inside)
        deaths += 1
    async with engine.session():
        ends = await engine.finish(items)

    assert deaths == 2 + len(beside)
    assert inside[2:] == beside
    assert ends == {"done": 19, "failed": 1}
    assert await engine.code(poison) == "WORKER_KILLED"
    assert engine.store.attempts == []
    assert await engine.sound()


async def test_hundreds_that_died_twice_with_others_do_not_queue_one_by_one() -> None:
    """Killed from outside, they run as suspects, many at once, and none any more."""
    tape = Tape()
    engine = Engine(tape.line("one", "two", took_s=3))
    items = await engine.submit(300)
    for _ in range(2):
        async with engine.session() as killed:
            await until(lambda: tape.inside["one"] > 0)
        await engine.bury(killed)
    tape.most.clear()
    suspects = [p.strikes for p in engine.store._ready.values()]

    began = anyio.current_time()
    async with engine.session():
        ends = await engine.finish(items)

    assert suspects.count(2) > 200
    assert tape.most["one"] == SUSPECTS_MAX
    assert anyio.current_time() - began < 100  # not 900
    assert ends == {"done": 300}


async def test_a_suspect_gets_its_turn_while_others_keep_coming() -> None:
    """A busy worker empties itself, runs the suspect alone, and goes on."""
    tape = Tape()
    engine = Engine(tape.line("one", took_s=2), items_max=10)
    flood = await engine.submit(500)

    async with engine.session():
        await until(lambda: len(tape.ran) > 20)
        [suspect] = await engine.submit()
        engine.store._ready[suspect].strikes = 2
        await engine.finish([suspect], within_s=30)
        waiting = len(engine.store._ready)
        ends = await engine.finish([suspect, *flood])

    [ran_at] = tape.times(suspect)
    beside = [i for i, _, at in tape.ran if i != suspect and abs(at - ran_at) < 1.99]
    assert beside == []
    assert waiting > 300  # it did not wait for the line to end
    assert ends == {"done": 501}


async def test_a_suspect_whose_history_cannot_be_read_stops_nobody() -> None:
    """The database went between its claim and its start, and then a person cancelled
    it: the worker does not wait for it to end."""
    tape = Tape()
    engine = Engine(tape.line("one", "two", took_s=5))
    [suspect] = await engine.submit()
    async with engine.session() as killed:
        await until(lambda: tape.inside["two"] == 1)
    await engine.bury(killed)
    engine.store._ready[suspect].strikes = 2

    async def cancelled_meanwhile(call: Any) -> Any:
        await engine.store.cancel([suspect], "ann")
        return await not_sent(call)

    engine.wire.faults["history"].append(cancelled_meanwhile)
    others = await engine.submit(5)

    async with engine.session():
        ends = await engine.finish([suspect, *others], within_s=120)

    assert ends == {"done": 5, "cancelled": 1}


# -- windows ---------------------------------------------------------------------------


def test_a_move_takes_the_next_place_before_it_gives_up_its_own() -> None:
    """Full is full: a refused move changes nothing."""
    windows = Windows(10)
    windows.shape("one", 5, 0)
    windows.shape("two", 1, 1)
    windows.take("one", 2)

    moved = [windows.move("one", "two"), windows.move("one", "two")]

    assert moved == [True, False]
    assert (windows.room("one"), windows.room("two")) == (4, 0)
    assert windows.total == 2
    windows.leave("two")
    windows.leave("one")
    assert (windows.room("one"), windows.room("two"), windows.total) == (5, 1, 0)


def test_room_is_bounded_by_the_worker_too() -> None:
    """However large the windows, no more than `items_max`."""
    windows = Windows(3)
    windows.shape("one", 100, 0)

    windows.take("one", 2)

    assert windows.room("one") == 1


async def test_everybody_who_waits_for_room_hears_of_it() -> None:
    """One that leaves wakes all who wait, however many."""
    windows = Windows(1)
    windows.take("one", 1)
    heard: list[int] = []

    async def wait(number: int) -> None:
        await windows.wait_freed()
        heard.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(wait, number)
        await anyio.sleep(1)
        windows.leave("one")

    assert sorted(heard) == [0, 1, 2]


async def test_an_idle_dispatcher_looks_ever_less_often_and_hears_the_bell() -> None:
    """Two looks a second at rest; a ring is answered at once."""
    tape = Tape()
    engine = Engine(tape.line("one"))
    async with engine.session() as session:
        await anyio.sleep(60)
        looks = engine.wire.calls["lines"]
        [item] = await engine.submit()
        rung_at = anyio.current_time()
        session.ring()
        await until(lambda: bool(tape.ran), every_s=0.001)
        answered_s = anyio.current_time() - rung_at
        await engine.finish([item])

    assert 100 < looks < 300
    assert answered_s < 0.01
