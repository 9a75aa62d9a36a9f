"""Another deadline for a batch, on both stores: what is open follows it."""

from __future__ import annotations

import pytest

from pipeline.errors import NotFound
from pipeline.model import Entry, Finish, State, ToJoining, ToReady
from tests.store.world import World, done, parked, waiting


async def due_s(world: World, item: int) -> float:
    """An item's deadline, in seconds after that of a batch opened now for an hour."""
    hour = (await world.batch("clock", deadline_s=3600)).deadline_at
    return round(
        (await world.store.item(item)).deadline_at.timestamp() - hour.timestamp()
    )


async def test_what_is_open_follows_its_batch_wherever_it_is(world: World):
    """Ready, running, waiting, joining, held: each is due when the batch is."""
    worker, items = await world.take(*"abcdef")
    moves = [ToReady("judge", 1), None, waiting(60), ToJoining("judge", 1), parked()]
    await world.store.commit(
        worker,
        [Entry(i, None, m) for i, m in zip(items, [*moves, done()], strict=True)],
    )
    [other] = await world.admit("other", batch="june")
    batch = await world.batch()

    moved = await world.store.set_deadline(batch.id, "ann", deadline_s=3600 + 600)

    assert moved == 5
    assert [await due_s(world, i) for i in items] == [600] * 5 + [0]
    assert await due_s(world, other) == 0
    assert (await world.store.hold_of(items[4])).deadline_at == (
        await world.batch()
    ).deadline_at


async def test_a_new_deadline_is_that_of_what_comes_later(world: World):
    """Items admitted afterwards, and what is put back after it failed."""
    worker, [failed] = await world.take("a")
    await world.move(worker, failed, Finish(State.FAILED, "read", "OCR"))
    batch = await world.batch()

    assert await world.store.set_deadline(batch.id, "ann", deadline_s=600) == 0
    [later] = await world.admit("b")
    await world.store.retry([failed], "ann")

    assert [await due_s(world, i) for i in (failed, later)] == [-3000, -3000]
    assert sorted(c.left_s for c in await world.claim(worker))[1] <= 600


async def test_the_line_is_sorted_by_the_new_deadline(world: World):
    """The earliest deadline is claimed first, as it is now."""
    [soon] = await world.admit("a", batch="soon", deadline_s=100)
    [late] = await world.admit("b", batch="late", deadline_s=900)
    batch = await world.batch("late")

    await world.store.set_deadline(batch.id, "ann", deadline_s=50)

    worker = await world.join()
    claims = [c for _ in "ab" for c in await world.claim(worker, 1)]
    assert [c.item.id for c in claims] == [late, soon]


async def test_what_is_late_in_line_ends_where_it_stands(world: World):
    """One is taken, and no other has to be; what is not late stays in line."""
    late = await world.admit(*"abcd", batch="late", deadline_s=60)
    [good] = await world.admit("e", batch="good", deadline_s=900)
    await world.clock.advance(61)
    worker = await world.join()

    [taken] = await world.claim(worker, 1)
    [other] = await world.claim(worker, 5)

    ended = [item for item in late if item != taken.item.id]
    assert taken.left_s <= 0
    assert other.item.id == good
    for item in ended:
        row = await world.store.item(item)
        assert (row.state, row.code) == (State.FAILED, "DEADLINE_PASSED")
        assert "deadline" in row.why
    assert (await world.store.retry(ended[:1], "ann"))[ended[0]] == "ready"


async def test_a_batch_of_the_late_is_counted(world: World):
    """As if each had been taken and had ended."""
    late = await world.admit(*map(str, range(30)), batch="late", deadline_s=60)
    await world.clock.advance(61)
    worker = await world.join()

    [claim] = await world.claim(worker, 1)
    await world.move(worker, claim.item.id, Finish(State.FAILED, "read", "LATE"))

    assert await world.claim(worker, 5) == []
    assert (await world.store.counts()).failed == len(late)


async def test_nobody_waits_past_the_new_deadline(world: World):
    """What would have waited longer is woken at the deadline."""
    worker, [item] = await world.take("a")
    await world.move(worker, item, waiting(3000))
    batch = await world.batch()

    await world.store.set_deadline(batch.id, "ann", deadline_s=60)
    await world.clock.advance(61)
    await world.store.wake()

    assert await world.state(item) is State.READY


async def test_a_batch_that_is_not_there_has_no_deadline(world: World):
    with pytest.raises(NotFound):
        await world.store.set_deadline(999, "ann", deadline_s=60)
