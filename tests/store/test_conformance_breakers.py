"""Breakers of vendors and what may be repeated of failed calls.  On both stores."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from pipeline.store.outside import (
    CALM_S,
    REPEATS_FLOOR,
    REPEATS_MAX,
    BreakerNews,
    BreakerRow,
)
from tests.store.world import World


async def tell(world: World, **news: Any) -> BreakerRow:
    """One news of `crm`, whose breaker opens for 5 to 15 s; what became of it."""
    one = BreakerNews("crm", **({"open_s": 5.0, "max_s": 15.0} | news))
    [row] = (await world.store.tell_breakers([one])).rows
    return row


async def opened(world: World) -> BreakerRow:
    """It has just opened."""
    return await tell(world, move="open", failures=5)


async def test_nothing_is_known_of_a_vendor_nobody_told_of(world: World):
    """And there is no probe to take."""
    worker = await world.join()

    assert await world.store.breakers() == []
    assert await world.store.probe(worker, "crm", for_s=60) is None


async def test_a_breaker_begins_closed(world: World):
    """With a few repeats in store, and without ever having been open."""
    row = await tell(world)

    assert row == BreakerRow(
        "crm", "closed", 0, 0, None, None, 0.0, None, REPEATS_FLOOR
    )
    assert await world.store.breakers() == [row]


async def test_an_opening_is_written_once(world: World):
    """Who tells of it for the turn that is over changes nothing."""
    first = await opened(world)
    await world.clock.advance(2)

    late = await tell(world, move="open", failures=9)

    assert (first.state, first.turn, first.failures) == ("open", 1, 5)
    assert first.left_s == pytest.approx(5, abs=0.5)
    assert (late.state, late.turn, late.failures) == ("open", 1, 5)
    assert (late.opened_at, late.until) == (first.opened_at, first.until)
    assert late.left_s == pytest.approx(3, abs=0.5)


async def test_one_probe_for_all_and_not_before_its_time(world: World):
    """Whoever comes second is told that there is none."""
    ann, bob = await world.join(), await world.join()
    await opened(world)
    early = await world.store.probe(ann, "crm", for_s=20)
    await world.clock.advance(6)

    mine = await world.store.probe(ann, "crm", for_s=20)
    other = await world.store.probe(bob, "crm", for_s=20)

    assert early is None
    assert mine is not None
    assert (mine.state, mine.turn, mine.probing) == ("half-open", 2, True)
    assert mine.left_s == pytest.approx(20, abs=0.5)
    assert other is None


async def test_of_many_at_once_one_gets_the_probe(postgres: World):
    """The row decides."""
    workers = [await postgres.join() for _ in range(4)]
    await opened(postgres)
    await postgres.clock.advance(6)

    got = await asyncio.gather(
        *(postgres.store.probe(w, "crm", for_s=20) for w in workers * 3)
    )

    assert len([row for row in got if row]) == 1


async def test_the_end_of_a_probe_decides(world: World):
    """Failed: open for twice as long, up to the most; answered: closed."""
    worker = await world.join()
    row = await opened(world)
    stays = [row.left_s]
    for _ in range(2):
        await world.clock.advance(16)
        probe = await world.store.probe(worker, "crm", for_s=20)
        row = await tell(world, turn=probe.turn, move="open", failures=1)
        assert (row.state, row.turn) == ("open", probe.turn + 1)
        stays.append(row.left_s)
    await world.clock.advance(16)
    probe = await world.store.probe(worker, "crm", for_s=20)

    closed = await tell(world, turn=probe.turn, move="close")
    await world.clock.advance(3)
    later = await tell(world)

    assert stays == pytest.approx([5, 10, 15], abs=0.5)
    assert (closed.state, closed.until, closed.left_s) == ("closed", None, 0)
    assert closed.opened_at is not None
    assert later.closed_for_s == pytest.approx(3, abs=0.5)


async def test_a_probe_that_told_nothing_leaves_it_to_the_next(world: World):
    """At once."""
    ann, bob = await world.join(), await world.join()
    await opened(world)
    await world.clock.advance(6)
    probe = await world.store.probe(ann, "crm", for_s=20)

    row = await tell(world, turn=probe.turn, move="free")
    next_one = await world.store.probe(bob, "crm", for_s=20)

    assert (row.state, row.left_s) == ("open", 0)
    assert next_one is not None


@pytest.mark.parametrize("how", ["left", "late"])
async def test_the_probe_of_a_worker_that_is_gone_is_free(world: World, how: str):
    """At once when its session is over, else after the time it took; it is void."""
    ann, bob = await world.join(lease_s=1000), await world.join(lease_s=1000)
    await opened(world)
    await world.clock.advance(6)
    probe = await world.store.probe(ann, "crm", for_s=20)
    if how == "left":
        await world.store.leave(ann)
    else:
        await world.clock.advance(21)

    [seen] = await world.store.breakers()
    next_one = await world.store.probe(bob, "crm", for_s=20)
    void = await tell(world, turn=probe.turn, move="close")

    assert (seen.state, seen.left_s, seen.probing) == ("half-open", 0, False)
    assert next_one is not None
    assert (void.state, void.turn) == ("half-open", next_one.turn)


async def test_a_breaker_that_opens_again_soon_stays_open_longer(world: World):
    """After a minute's calm it is as at first."""
    worker = await world.join(lease_s=1000)
    stays = []
    row = await opened(world)
    for calm_s in (CALM_S / 2, CALM_S + 1):
        await world.clock.advance(6 + row.left_s)
        probe = await world.store.probe(worker, "crm", for_s=20)
        row = await tell(world, turn=probe.turn, move="close")
        await world.clock.advance(calm_s)
        row = await tell(world, turn=row.turn, move="open", failures=5)
        stays.append(row.left_s)

    assert stays == pytest.approx([10, 5], abs=0.5)


async def test_repeats_are_earned_and_granted_while_there_are_any(world: World):
    """Whole ones; what is earned in the same news counts."""
    news = [BreakerNews("crm", earned=2.5, wanted=20), BreakerNews("llm", wanted=3)]

    told = await world.store.tell_breakers(news)
    none = await world.store.tell_breakers([BreakerNews("crm", wanted=5)])

    assert told.granted == {"crm": REPEATS_FLOOR + 2, "llm": 3}
    assert [row.vendor for row in told.rows] == ["crm", "llm"]
    assert told.rows[0].repeats == pytest.approx(0.5, abs=0.2)
    assert none.granted == {}


async def test_time_gives_repeats_up_to_the_floor_alone(world: World):
    """What was earned above it stays, and has a bound of its own."""
    await tell(world, wanted=10)
    await world.clock.advance(4)
    some = await tell(world)
    await world.clock.advance(3600)
    floor = await tell(world, earned=7)
    await world.clock.advance(3600)
    above = await tell(world, earned=1e6)

    assert some.repeats == pytest.approx(4, abs=0.5)
    assert floor.repeats == REPEATS_FLOOR + 7
    assert above.repeats == REPEATS_MAX


async def test_a_probe_of_a_worker_nobody_knows_is_nobodys(world: World):
    """It may be taken from it at once."""
    await opened(world)
    await world.clock.advance(6)
    worker = await world.join()

    await world.store.probe(uuid4(), "crm", for_s=20)

    assert await world.store.probe(worker, "crm", for_s=20) is not None


async def test_news_of_many_at_once_are_all_counted(postgres: World):
    """Processes that tell of the same vendors at once wait for each other."""
    names = ["crm", "llm", "ocr"]
    news = [BreakerNews(name, earned=1.0) for name in names]

    await asyncio.gather(
        *(postgres.store.tell_breakers(news[::way]) for way in (1, -1) * 6)
    )

    rows = await postgres.store.breakers()
    assert [r.repeats for r in rows] == pytest.approx([REPEATS_FLOOR + 12] * 3)
