"""Limits that all workers obey together.  On both stores."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any
from uuid import uuid4

import pytest

from pipeline.errors import LeaseLost
from pipeline.model import ItemId, State, WorkerId
from pipeline.store.limits import (
    FRESH_S,
    LimitAsk,
    LimitLease,
    LimitRow,
    LimitSet,
    LineAsk,
)
from tests.store.world import World, waiting

KEY = "vendor/crm/requests"
EVERY_S = 0.1


def ask(key: str = KEY, **more: Any) -> LimitAsk:
    """Ten a second, and nobody waits."""
    declared = {"rank": 1, "rate": 10.0, "per_s": 1.0, "burst": 1, "every_s": EVERY_S}
    return LimitAsk(key, **(declared | {"concurrency": None} | more))  # type: ignore[arg-type]


def at_once(number: int, **more: Any) -> LimitAsk:
    """A concurrency, and no pace."""
    unpaced = {"rate": None, "every_s": 0.0, "concurrency": number}
    return ask("vendor/crm/concurrency", **(unpaced | more))


async def lease(
    world: World,
    worker: WorkerId,
    *asks: LimitAsk,
    calls: int = 0,
    units: float = 1.0,
    lines: list[LineAsk] | None = None,
    lead_s: float = 0.0,
    horizon_s: float = 1.0,
) -> LimitLease:
    """An exchange, with a line of all that is asked of and so many `calls`."""
    places = tuple(range(len(asks)))
    line = LineAsk(places, [[units] * len(asks)] * calls)
    return await world.store.lease_limits(
        worker,
        asks,
        [line] if lines is None else lines,
        lead_s=lead_s,
        horizon_s=horizon_s,
    )


async def row(world: World, key: str = KEY) -> LimitRow:
    """What whoever runs the service sees of it."""
    return {one.key: one for one in await world.store.limits()}[key]


def close(*numbers: float) -> Any:
    """As a server that takes a moment tells it."""
    return pytest.approx(list(numbers), abs=0.05)


async def test_permits_begin_one_after_the_other(world: World):
    """As many as begin within the horizon, at the pace that was declared."""
    me = await world.join(lease_s=1e6)

    found = await lease(world, me, ask(waiting=30), calls=30)

    assert found.starts == [pytest.approx([n * EVERY_S for n in range(11)])]


async def test_two_workers_have_no_instant_in_common(world: World):
    """The second goes on where the first ended."""
    first, second = await world.join(lease_s=1e6), await world.join(lease_s=1e6)
    before = await lease(world, first, ask(waiting=3), calls=3)

    after = await lease(world, second, ask(waiting=3), calls=3)

    gap_s = after.now + after.starts[0][0] - (before.now + before.starts[0][-1])
    assert gap_s == pytest.approx(EVERY_S, abs=1e-6)
    assert after.limits[0].tat == pytest.approx(before.limits[0].tat + 3 * EVERY_S)


async def test_nothing_is_saved_up(world: World):
    """After a quiet while permits begin now, and keep their distance."""
    me = await world.join(lease_s=1e6)
    await lease(world, me, ask(waiting=1), calls=1)
    await world.clock.advance(60)

    found = await lease(world, me, ask(waiting=2), calls=2)

    assert found.starts == [pytest.approx([0.0, EVERY_S])]


async def test_permits_begin_when_the_answer_is_there(world: World):
    """A worker that is a while away gets those of that time."""
    me = await world.join(lease_s=1e6)

    found = await lease(world, me, ask(waiting=2), calls=2, lead_s=0.07)

    assert found.starts == [pytest.approx([0.07, 0.07 + EVERY_S])]


async def test_a_burst_begins_together(world: World):
    """As many as were declared; then the pace holds."""
    me = await world.join(lease_s=1e6)

    found = await lease(world, me, ask(burst=3, waiting=5), calls=5)

    assert found.starts == [close(0, 0, 0, EVERY_S, 2 * EVERY_S)]
    assert found.limits[0].burst == 3


async def test_what_weighs_more_takes_more(world: World):
    """The next one begins when so many units have passed."""
    me = await world.join(lease_s=1e6)

    found = await lease(world, me, ask(waiting=3), calls=3, units=4.0)

    assert found.starts == [pytest.approx([0, 4 * EVERY_S, 8 * EVERY_S])]


async def test_what_a_call_took_beyond_its_permit_is_owed(world: World):
    """And what it did not take is left over."""
    me = await world.join(lease_s=1e6)

    more = await lease(world, me, ask(waiting=1, owed=5.0), calls=1)
    less = await lease(world, me, ask(waiting=1, owed=-4.0), calls=1)

    assert more.starts == [close(5 * EVERY_S)]
    # By its own clock: a machine that is busy takes a while between the two.
    [[begins]] = less.starts
    assert less.now + begins - more.now == pytest.approx(2 * EVERY_S, abs=1e-3)


async def test_a_debt_is_over_in_two_windows(world: World):
    """Whatever a vendor says that a call took; a limit that is wider is so at once."""
    me = await world.join(lease_s=1e6)
    await lease(world, me, ask(owed=1e12))
    day = {"rate": 1.0, "per_s": 86400.0, "every_s": 86400.0}
    await lease(world, me, ask("day", waiting=1, **day), calls=1)

    await lease(world, me, ask("day", rank=2))
    await world.clock.advance(4)

    paid = await lease(world, me, ask(waiting=1), calls=1)
    wider = await lease(world, me, ask("day", rank=2, waiting=1), calls=1)

    assert paid.starts == wider.starts == [close(0)]


@pytest.mark.parametrize("owners", [False, True])
async def test_less_than_one_a_window_keeps_its_distance(world: World, owners: bool):
    """0.1 a second is every ten seconds, whoever says so."""
    worker = await world.join()
    slow = {} if owners else {"rate": 0.1, "every_s": 10.0}
    if owners:
        await world.store.set_limit(KEY, LimitSet(0.1, 1.0, 10.0))
    starts: list[float] = []

    for second in range(25):
        given = await lease(world, worker, ask(**slow), calls=3)
        starts += [second + start for start in given.starts[0]]
        await world.clock.advance(1)

    assert starts == pytest.approx([0, 10, 20], abs=1)


async def test_limits_of_a_line_are_taken_together(world: World):
    """Each call waits for the slowest; the others are not taken before."""
    me = await world.join(lease_s=1e6)
    slow = ask("vendor/crm/tenant/acme/requests", every_s=0.5, waiting=9)

    found = await lease(world, me, ask(waiting=9), slow, calls=9)

    assert found.starts == [pytest.approx([0, 0.5, 1.0])]
    assert found.limits[0].tat == pytest.approx(found.now + 1.0 + EVERY_S)


async def test_lines_take_turns(world: World):
    """A long line before it does not keep a short one from the limit of both."""
    me = await world.join(lease_s=1e6)
    asks = (ask(waiting=33), ask("vendor/crm/tenant/acme/requests", waiting=3))
    long, short = LineAsk((0,), [[1.0]] * 30), LineAsk((0, 1), [[1.0, 1.0]] * 3)

    found = await lease(world, me, *asks, lines=[long, short])

    assert found.starts[1] == pytest.approx([EVERY_S, 3 * EVERY_S, 5 * EVERY_S])
    assert found.starts[0][:3] == pytest.approx([0, 2 * EVERY_S, 4 * EVERY_S])


async def test_what_is_given_back_is_there_again(world: World):
    """The permits that were leased last, from the first that is not used."""
    me, other = await world.join(lease_s=1e6), await world.join(lease_s=1e6)
    had = await lease(world, me, ask(waiting=5), calls=5)
    start = had.now + had.starts[0][1]
    await lease(world, me, ask(back_end=had.limits[0].tat, back_from=start))

    found = await lease(world, other, ask(waiting=1), calls=1)

    assert found.now + found.starts[0][0] == pytest.approx(max(start, found.now))


async def test_what_others_were_given_after_it_cannot_be_given_back(world: World):
    """Theirs would begin at the same instants."""
    me, other = await world.join(lease_s=1e6), await world.join(lease_s=1e6)
    had = await lease(world, me, ask(waiting=2), calls=2)
    after = await lease(world, other, ask(waiting=1), calls=1)

    told = await lease(world, me, ask(back_end=had.limits[0].tat, back_from=had.now))

    assert told.limits[0].tat == after.limits[0].tat


async def test_what_a_vendor_asks_for_holds_for_everybody(world: World):
    """No permits meanwhile; a shorter pause does not end a longer one."""
    me, other = await world.join(lease_s=1e6), await world.join(lease_s=1e6)
    await lease(world, me, ask(pause_s=60.0))

    during = await lease(world, other, ask(waiting=1, pause_s=5.0), calls=1)
    paused = await row(world)
    await world.clock.advance(61)
    after = await lease(world, other, ask(waiting=1), calls=1)

    assert during.starts == [[]]
    assert during.limits[0].paused_s == pytest.approx(60, abs=0.5)
    assert (paused.paused_by, paused.paused_until is None) == ("vendor", False)
    assert after.starts == [[0.0]]
    assert (await row(world)).paused_until is None


async def test_the_owner_pauses_and_resumes(world: World):
    """For a time or for good; also what a vendor paused."""
    me = await world.join(lease_s=1e6)
    await lease(world, me, ask(pause_s=5.0))

    await world.store.pause_limit(KEY, None)
    await world.clock.advance(2_000_000)
    worker = await world.join(lease_s=1e6)
    paused = await lease(world, worker, ask(waiting=1), calls=1)
    by = (await row(world)).paused_by
    resumed = await world.store.resume_limit(KEY)
    after = await lease(world, worker, ask(waiting=1), calls=1)
    await world.store.pause_limit(KEY, 2.0)
    again = await lease(world, worker, ask(waiting=1), calls=1)

    assert (paused.starts, by) == ([[]], "owner")
    assert paused.limits[0].paused_s > 1e6
    assert (resumed, after.starts) == (True, [[0.0]])
    assert again.limits[0].paused_s == pytest.approx(2, abs=0.5)
    assert await world.store.resume_limit("vendor/none/requests") is False


async def test_the_owners_numbers_stand_before_what_is_declared(world: World):
    """Until they are taken back; a worker learns them with its next exchange."""
    me = await world.join(lease_s=1e6)
    await lease(world, me, ask(waiting=1, burst=2), calls=1)
    numbers = LimitSet(120.0, 60.0, 0.5, None)
    await world.store.set_limit(KEY, numbers)

    found = await lease(world, me, ask(waiting=3, burst=2), calls=3, horizon_s=9)
    shown = await row(world)
    await world.store.set_limit(KEY, LimitSet())
    back = await lease(world, me, ask(waiting=1, burst=2))

    told = found.limits[0]
    assert (told.every_s, told.per_s, told.burst) == (0.5, 60.0, 1)
    assert found.starts[0][2] - found.starts[0][1] == pytest.approx(0.5)
    assert (shown.rate, shown.per_s, shown.set_by_owner) == (120.0, 60.0, True)
    assert (shown.declared_rate, shown.declared_per_s) == (10.0, 1.0)
    assert back.limits[0][1:4] == (EVERY_S, 1.0, 2)
    assert (await row(world)).set_by_owner is False


async def test_the_owner_s_rate_stays_when_the_concurrency_is_set(world: World):
    """And the other way round; taken back are both."""
    me = await world.join(lease_s=1e6)
    await lease(world, me, ask(waiting=1), calls=1)
    shown = []
    for numbers in (
        LimitSet(2.0, 1.0, 0.5, None),
        LimitSet(concurrency=3),
        LimitSet(4.0, 1.0, 0.25, None),
        LimitSet(),
    ):
        await world.store.set_limit(KEY, numbers)
        seen = await row(world)
        shown.append((seen.rate, seen.concurrency, seen.set_by_owner))

    assert shown == [
        *((2.0, None, True), (2.0, 3, True), (4.0, 3, True), (10.0, None, False)),
    ]


async def test_the_newest_declaration_stands(world: World):
    """Whoever asks; an older one is not heard any more."""
    me = await world.join(lease_s=1e6)
    await lease(world, me, ask(rank=7, rate=5.0, every_s=0.2))

    old = await lease(world, me, ask(rank=6, waiting=1))
    same = await row(world)
    new = await lease(world, me, ask(rank=8, waiting=1))

    assert old.limits[0].every_s == 0.2
    assert same.rate == 5.0
    assert new.limits[0].every_s == EVERY_S


async def test_of_sessions_that_declare_the_one_stands_that_joined_last(world: World):
    """By the store's clock: a worker's own may be days ahead."""
    first = await world.join(lease_s=1e6)
    await world.clock.advance(5)
    second = await world.join(lease_s=1e6)
    await lease(world, second, ask(rank=None, rate=5.0, every_s=0.2))

    old = await lease(world, first, ask(rank=None, waiting=1))

    assert old.limits[0].every_s == 0.2


@pytest.mark.parametrize(
    ("before", "after", "looks"),
    [
        (ask(rank=1, every_s=60.0), ask(rank=2), True),
        (ask(rank=1), ask(rank=2, every_s=60.0), False),
        (at_once(1, rank=1), at_once(2, rank=2), True),
        (at_once(2, rank=1), at_once(1, rank=2), False),
    ],
)
async def test_who_was_sent_away_looks_again_once_more_is_declared(
    world: World, before: LimitAsk, after: LimitAsk, looks: bool
):
    """It was told to come back in hours."""
    worker, [item] = await world.take("a")
    await lease(world, worker, before)
    await world.move(worker, item, waiting(3600, why="LIMIT_WAIT"))

    await lease(world, worker, after)
    await world.store.wake()

    assert (await world.state(item) is State.READY) == looks


async def test_units_of_a_concurrency_go_to_who_asks(world: World):
    """Never more than there are; those of a worker that is gone are free."""
    me, other = await world.join(lease_s=1e6), await world.join(lease_s=1e6)
    first = await lease(world, me, at_once(3, waiting=2))
    second = await lease(world, other, at_once(3, waiting=5))

    await world.store.reap([me], died=True)
    third = await lease(world, other, at_once(3, booked=1, waiting=5))

    assert [f.limits[0].units for f in (first, second, third)] == [2, 1, 3]


async def test_calls_that_are_paced_need_a_unit_as_well(world: World):
    """As many permits as calls may be under way."""
    me = await world.join(lease_s=1e6)
    both = (at_once(4, booked=1, waiting=9), ask(waiting=9))

    found = await lease(world, me, *both, calls=9)

    assert len(found.starts[0]) == 3


async def test_a_worker_with_everything_shares_when_others_wait(world: World):
    """It may have its share; what is beyond it is not used again."""
    me, other = await world.join(lease_s=1e6), await world.join(lease_s=1e6)
    alone = await lease(world, me, at_once(4, waiting=12))
    await lease(world, other, at_once(4, waiting=4))

    shared = await lease(world, me, at_once(4, booked=4, waiting=8))
    ended = await lease(world, me, at_once(4, booked=3, waiting=9))
    found = await lease(world, other, at_once(4, waiting=4))

    assert [f.limits[0].units for f in (alone, shared, ended)] == [4, 3, 3]
    assert found.limits[0].units == 1


async def test_the_last_unit_goes_to_who_has_waited_longest(world: World):
    """Also when the worker whose call it was has more of them."""
    me, other = await world.join(lease_s=1e6), await world.join(lease_s=1e6)
    await lease(world, me, at_once(1, waiting=5))
    await lease(world, me, at_once(1, booked=1, waiting=4, oldest_s=5.0))
    none = await lease(world, other, at_once(1, waiting=5, oldest_s=9.0))

    ended = await lease(world, me, at_once(1, waiting=4, oldest_s=6.0))
    found = await lease(world, other, at_once(1, waiting=5, oldest_s=9.0))

    units = [f.limits[0].units for f in (none, ended, found)]
    assert units == [0, 0, 1]


async def test_who_waits_and_what_is_used_is_seen(world: World):
    """Of all workers together; what one told long ago is left out."""
    me, other = await world.join(lease_s=999), await world.join(lease_s=999)
    calls = {"waiting": 2, "waiting_units": 8.0}
    await lease(world, me, ask(booked=1, begun=3.0, oldest_s=4.0, **calls))
    await lease(world, other, ask(waiting=1, waiting_units=2.0, begun=1.0), calls=1)

    seen = await row(world)
    told = await lease(world, other, ask(waiting=1, waiting_units=2.0))
    await world.clock.advance(FRESH_S + 1)
    later = await row(world)

    assert (seen.under_way, seen.waiting, seen.used) == (1, 3, pytest.approx(4.0))
    assert seen.oldest_at is not None
    assert seen.clears_s == pytest.approx(11 * EVERY_S, abs=0.1)
    assert (told.limits[0].others, told.limits[0].workers) == (8.0, 1)
    assert (later.under_way, later.waiting, later.clears_s) == (0, 0, 0.0)
    assert (later.oldest_at, later.used) == (None, 0.0)


async def test_a_worker_whose_lease_is_over_has_nothing_of_a_limit(world: World):
    """Nor one that never was."""
    late = await world.join(lease_s=5)
    await world.clock.advance(6)

    for worker in (late, uuid4()):
        with pytest.raises(LeaseLost):
            await lease(world, worker, ask(waiting=1), calls=1)


async def test_workers_that_ask_at_once_share_no_instant(postgres: World):
    """Twenty exchanges beside each other."""
    workers = [await postgres.join() for _ in range(4)]

    found = await asyncio.gather(
        *[
            lease(postgres, workers[n % 4], ask(waiting=3), calls=3, horizon_s=99)
            for n in range(20)
        ]
    )

    instants = sorted(one.now + start for one in found for start in one.starts[0])
    gaps = [b - a for a, b in itertools.pairwise(instants)]
    assert len(instants) == 60
    assert min(gaps) == pytest.approx(EVERY_S, abs=1e-5)


async def test_who_was_sent_away_comes_back_when_the_owner_lets_go(world: World):
    """By other numbers, or the end of a pause; who waits for else is left alone."""
    worker, items = await world.take("a", "b")
    await world.store.pause_limit(KEY, None)
    whys = ("LIMIT_WAIT", "THROTTLED")
    for item, why in zip(items, whys, strict=True):
        await world.move(worker, item, waiting(900, why=why))

    before = await world.states(items)
    await world.store.resume_limit(KEY)
    await world.store.wake()
    after = await world.states(items)

    assert before == [State.WAITING, State.WAITING]
    assert after == [State.READY, State.WAITING]


async def test_those_a_limit_sent_away_are_called_back(world: World):
    """They look again at once; others wait on, and who is none is passed over."""
    worker, items = await world.take("a", "b", "c", "d")
    whys = ("LIMIT_WAIT", "LIMIT_WAIT", "THROTTLED")
    for item, why in zip(items, whys, strict=False):
        await world.move(worker, item, waiting(900, why=why))

    await world.store.call_back([items[0], items[2], items[3], ItemId(10**9)])
    await world.store.wake()

    assert await world.states(items) == [
        State.READY,
        State.WAITING,
        State.WAITING,
        State.RUNNING,
    ]
