"""How quickly items move, and what keeps them; PostgreSQL alone makes reports."""

from __future__ import annotations

import pytest

from pipeline.model import Entry, Progress
from pipeline.store.rows import KeptRow
from tests.store.world import World, done, finished, parked, step, waiting


async def test_the_pace_is_what_came_through_just_now(postgres: World):
    """By stage and out of the way; steps and what a person did are no stage's work."""
    worker, [a, b, c, d] = await postgres.take("a", "b", "c", "d")
    for entry in (
        Entry(a, step(0, "read", "page-1")),
        Entry(a, finished(1, "read", "judge")),
        Entry(b, finished(0, "read", "judge")),
        Entry(b, finished(1, "judge", ""), done()),
        Entry(c, None, parked()),
        Entry(d, None, parked()),
    ):
        await postgres.store.commit(worker, [entry])
    await postgres.decide(await postgres.store.hold_of(c))
    june = await postgres.batch("june")

    pace = await postgres.store.pace()
    mine = await postgres.store.pace((await postgres.batch()).id)
    nobody = await postgres.store.pace(june.id)

    assert pace.for_s >= 1
    assert pace.stages == pytest.approx(
        {"read": 120 / pace.for_s, "judge": 60 / pace.for_s}
    )
    assert 0 < pace.left <= 180
    assert 0 < mine.left <= 180
    assert (nobody.stages, nobody.left) == ({}, 0)


async def test_what_is_long_ago_is_no_pace(postgres: World):
    """An hour later nobody says that it goes on like this."""
    worker, [item] = await postgres.take("a")
    entry = Entry(item, finished(0, "read", ""), done())
    await postgres.store.commit(worker, [entry])
    await postgres.clock.advance(3000)
    late = await postgres.store.pace()
    await postgres.clock.advance(1000)

    assert late.stages == pytest.approx({"read": 60 / late.for_s})
    assert late.for_s > 3000
    assert (await postgres.store.pace()).stages == {}


async def test_what_waits_for_a_permit_is_told_by_limit(postgres: World):
    """And is not among what is worked on; others are."""
    worker, items = await postgres.take("a", "b", "c")
    for item, limit in zip(items, ("llm", "llm", ""), strict=True):
        progress = Progress("read", 1, 9, limit)
        await postgres.store.commit(worker, [Entry(item, progress=progress)])
    batch = await postgres.batch()
    june = await postgres.batch("june")

    limited = [KeptRow("read", "llm", 2, None)]
    assert await postgres.store.limited() == limited
    assert await postgres.store.limited(batch.id) == limited
    assert await postgres.store.limited(june.id) == []
    assert [row.item for row in await postgres.store.in_work()] == items[2:]


async def test_what_waits_is_told_by_why(postgres: World):
    """With when the first goes on; the most first."""
    worker, items = await postgres.take("a", "b", "c")
    for item, why, for_s in zip(items, ("X", "X", "Y"), (60, 30, 10), strict=True):
        await postgres.move(worker, item, waiting(for_s, why=why))
    until = [(await postgres.store.item(item)).until for item in items]
    june = await postgres.batch("june")

    found = await postgres.store.waiting()

    assert found == [
        KeptRow("read", "X", 2, until[1]),
        KeptRow("read", "Y", 1, until[2]),
    ]
    assert await postgres.store.waiting(june.id) == []


async def test_a_line_tells_whose_it_is(postgres: World):
    """By an item of it; where nobody waits there is none."""
    await postgres.admit("a")

    found = await postgres.store.in_line(["read", "judge"])

    assert found == {"read": postgres.pipeline}
