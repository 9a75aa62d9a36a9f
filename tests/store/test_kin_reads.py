"""What people are told of families and of pages; on PostgreSQL, where reports are."""

from __future__ import annotations

import json

from pipeline.model import Entry, Finish, ItemId, State, ToJoining
from pipeline.store.postgres.reports import WorkRow
from tests.store.test_conformance_kin import family
from tests.store.world import World, done, finished, parked, sent, step, waiting


async def reading(
    world: World, name: str, pages: int, total: int, *, said: str = "state"
) -> ItemId:
    """An item in a worker's hands that has read so many of its pages."""
    facts = {"facts": {"pages": total}} if said == "facts" else {}
    [receipt] = await world.receive(sent(name, input=facts))
    item = receipt.item_id
    assert item is not None
    worker = await world.join()
    await world.claim(worker)
    count = json.dumps({"page_count": total} if said == "state" else {})
    steps = [
        Entry(item, step(n, "judge", f"page-{n}", "{}")) for n in range(1, pages + 1)
    ]
    await world.store.commit(
        worker, [Entry(item, finished(0, "read", "judge", count)), *steps]
    )
    return item


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


async def test_documents_in_work_tell_their_pages(postgres: World):
    """Pages recorded at the stage they are in, of the pages they have: from the
    state, or from what was known at the door; the longest first."""
    long = await reading(postgres, "contract.pdf", 61, 120)
    middle = await reading(postgres, "report.pdf", 0, 30, said="facts")
    await reading(postgres, "letter.pdf", 1, 2)
    await reading(postgres, "nobody knows", 3, 0, said="nothing")

    rows = await postgres.store.in_work(longer_than=3)

    assert rows == [
        WorkRow(long, "contract.pdf", "judge", 61, 120),
        WorkRow(middle, "report.pdf", "judge", 0, 30),
    ]
    assert await postgres.store.in_work(longer_than=3, limit=1) == rows[:1]


async def test_documents_in_work_are_those_of_the_batch(postgres: World):
    """And those that are running: what waits is not read now."""
    item = await reading(postgres, "contract.pdf", 5, 10)
    other = await postgres.batch("june")
    batch = await postgres.batch()

    mine = await postgres.store.in_work(batch_id=batch.id)
    others = await postgres.store.in_work(batch_id=other.id)
    [session] = await postgres.store.sessions()
    await postgres.store.reap([session.id], died=True)

    assert [r.item for r in mine] == [item]
    assert others == []
    assert await postgres.store.in_work() == []


async def test_a_page_count_that_is_no_number_is_no_page_count(postgres: World):
    """States are other people's: a strange one does not break the report."""
    [receipt] = await postgres.receive(sent("odd", input={"facts": {"pages": "many"}}))
    worker = await postgres.join()
    await postgres.claim(worker)
    odd = finished(0, "read", "judge", '{"page_count": {"a": 1}}')
    await postgres.store.commit(worker, [Entry(receipt.item_id or 0, odd)])

    assert await postgres.store.in_work() == []


async def test_who_joins_open_children_is_counted(postgres: World):
    """By batch; one whose children are final goes on by itself and is not."""
    worker, item, [child] = await family(postgres, "a")
    batch, other = await postgres.batch(), await postgres.batch("june")
    await postgres.move(worker, item, ToJoining("read", 1))
    waits = await postgres.store.joining(batch.id)
    elsewhere = await postgres.store.joining(other.id)

    last = await postgres.join()
    await postgres.claim(last)
    await postgres.move(last, child, done())

    assert (waits, elsewhere) == (1, 0)
    assert await postgres.store.joining(batch.id) == 0
