"""What people are told of families; on PostgreSQL, where reports are."""

from __future__ import annotations

from pipeline.model import Finish, State, ToJoining
from tests.store.test_conformance_kin import family
from tests.store.world import World, done, parked, waiting


async def test_children_are_counted_by_state(postgres: World):
    """In the order of the states; an item without children has none."""
    _, item, ids = await family(postgres, *"abcdefg")
    worker = await postgres.join()
    await postgres.claim(worker)
    ends = [done(), done(), Finish(State.FAILED, "read", "X", ""), parked()]
    for child, move in zip(ids, [*ends, waiting(60)], strict=False):
        await postgres.move(worker, child, move)

    counted = await postgres.store.children(item)

    assert counted == {"running": 2, "waiting": 1, "held": 1, "done": 2, "failed": 1}
    assert list(counted) == ["running", "waiting", "held", "done", "failed"]
    assert await postgres.store.children(ids[0]) == {}


async def test_items_are_listed_by_parent(postgres: World):
    """Newest first, and nobody else's children."""
    _, item, ids = await family(postgres, "a", "b")

    listed = await postgres.store.items(parent=item)

    assert [r.id for r in listed] == ids[::-1]
    assert await postgres.store.items(parent=ids[0]) == []


async def test_who_joins_open_children_is_counted(postgres: World):
    """Of a family; one whose children are final goes on by itself and is not."""
    worker, item, [child] = await family(postgres, "a")
    [other] = await postgres.admit("other")
    await postgres.move(worker, item, ToJoining("read", 1))
    counts, waits, _ = await postgres.store.family([item])
    _, elsewhere, _ = await postgres.store.family([other])

    last = await postgres.join()
    await postgres.claim(last)
    await postgres.move(last, child, done())

    assert (waits, elsewhere) == (1, 0)
    assert (counts.received, counts.live) == (2, 2)
    after, waits, _ = await postgres.store.family([item])
    assert (after.received, after.live, after.done, waits) == (2, 1, 1, 0)
