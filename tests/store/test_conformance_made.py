"""
What a stage tells while it works and what it made: progress and products.  On both
stores; every call is followed by the conservation law (`world.Lawful`).
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pipeline.errors import LeaseLost, Refused
from pipeline.model import Entry, ItemId, Product, Progress, ToReady
from pipeline.store.rows import TroubleRow, WorkRow
from tests.store.world import World, done, finished, sent, step

FILE = Product("file", "a" * 64, '{"pages": 2}', "read")


async def reporting(world: World, name: str, at: int, total: int) -> ItemId:
    """An item in a worker's hands, whose stage has reported how far it is."""
    worker, [item] = await world.take(name)
    reached = finished(0, "read", "judge", '{"page_count": 7}')
    await world.store.commit(worker, [Entry(item, reached)])
    progress = Progress("judge", at, total)
    await world.store.commit(worker, [Entry(item, progress=progress)])
    return item


async def made(world: World, *products: Product, name: str = "a") -> ItemId:
    """An item that is done, and its products."""
    worker, [item] = await world.take(name)
    entry = Entry(item, finished(0, "read", ""), done(), products=products)
    assert await world.store.commit(worker, [entry]) == [True]
    return item


# -- progress --------------------------------------------------------------------------


async def test_items_in_work_tell_how_far_they_are(world: World):
    """At the stage they are in, the longest first; short ones are left out."""
    long = await reporting(world, "contract.pdf", 61, 120)
    middle = await reporting(world, "report.pdf", 0, 30)
    await reporting(world, "letter.pdf", 1, 2)
    await world.take("nobody said")

    found = await world.store.in_work(longer_than=3)

    assert found == [
        WorkRow(long, "contract.pdf", "judge", 61, 120),
        WorkRow(middle, "report.pdf", "judge", 0, 30),
    ]
    assert await world.store.in_work(longer_than=3, limit=1) == found[:1]


async def test_items_in_work_are_those_of_the_batch(world: World):
    """And those that are running: what waits is not worked on now."""
    item = await reporting(world, "contract.pdf", 5, 10)
    other = await world.batch("june")
    batch = await world.batch()

    mine = await world.store.in_work(batch_id=batch.id)
    others = await world.store.in_work(batch_id=other.id)
    [session] = await world.store.sessions()
    await world.store.reap([session.id], died=True)

    assert [r.item for r in mine] == [item]
    assert others == []
    assert await world.store.in_work() == []


async def test_what_a_state_says_is_no_progress(world: World):
    """The engine knows no pages: only what a stage told counts."""
    [receipt] = await world.receive(sent("odd", input={"facts": {"pages": "many"}}))
    worker = await world.join()
    await world.claim(worker)
    odd = finished(0, "read", "judge", '{"page_count": {"a": 1}}')
    page = step(1, "judge", "page-1")
    await world.store.commit(
        worker, [Entry(receipt.item_id, odd), Entry(receipt.item_id, page)]
    )

    assert await world.store.in_work() == []


async def test_progress_of_a_stage_it_left_is_not_told(world: World):
    """The next stage has said nothing yet."""
    worker, [item] = await world.take("a")
    progress = Progress("read", 3, 4)
    await world.store.commit(worker, [Entry(item, progress=progress)])
    before = await world.store.in_work()

    await world.store.commit(worker, [Entry(item, finished(0, "read", "judge"))])

    assert before == [WorkRow(item, "a", "read", 3, 4)]
    assert await world.store.in_work() == []


async def test_the_newest_progress_stands(world: World):
    """Of several in one commit, and of several commits."""
    worker, [item] = await world.take("a")

    for first in (1, 5):
        notes = [Entry(item, progress=Progress("read", first + n, 9)) for n in range(3)]
        assert await world.store.commit(worker, notes) == [True] * 3

    assert await world.store.in_work() == [WorkRow(item, "a", "read", 7, 9)]


async def test_progress_stands_with_its_step(world: World):
    """One entry, one transaction: refused together."""
    worker, [item] = await world.take("a")
    both = Entry(item, step(0, "read", "page-1"), progress=Progress("read", 1, 9))
    await world.store.commit(worker, [both])
    again = Entry(item, step(0, "read", "page-1"), progress=Progress("read", 2, 9))

    with pytest.raises(Refused):
        await world.store.commit(worker, [again])

    assert await world.store.in_work() == [WorkRow(item, "a", "read", 1, 9)]


# -- products --------------------------------------------------------------------------


async def test_an_items_products_are_told_by_name(world: World):
    """Its own, with their facts and who made them; an item may have none."""
    other = FILE._replace(name="another", artifact="b" * 64)
    first = await made(world, FILE, other)
    second = await made(world, name="b")

    found = await world.store.products(first)

    assert [tuple(p) for p in found] == [
        ("another", "b" * 64, {"pages": 2}, "read"),
        ("file", "a" * 64, {"pages": 2}, "read"),
    ]
    assert await world.store.products(second) == []


async def test_a_run_again_replaces_what_was_made(world: World):
    """By name; what has another name stays."""
    worker, [item] = await world.take("a")
    kept = FILE._replace(name="kept")
    entry = Entry(item, None, ToReady("read", 0), products=(FILE, kept))
    await world.store.commit(worker, [entry])
    await world.claim(worker)
    newer = FILE._replace(artifact="c" * 64, facts='{"pages": 3}')

    await world.store.commit(
        worker, [Entry(item, finished(0, "read", ""), done(), products=(newer,))]
    )

    assert [
        (p.name, p.artifact, p.facts) for p in await world.store.products(item)
    ] == [
        ("file", "c" * 64, {"pages": 3}),
        ("kept", "a" * 64, {"pages": 2}),
    ]


async def test_a_refused_commit_makes_nothing(world: World):
    """Products stand with the outcome or not at all."""
    worker, [item] = await world.take("a")
    await world.store.commit(worker, [Entry(item, step(0, "read", "page-1"))])
    both = Entry(item, finished(0, "read", ""), done(), products=(FILE,))

    with pytest.raises(Refused):
        await world.store.commit(worker, [both])
    await world.move(worker, item, done())

    assert await world.store.products(item) == []


# -- whose -----------------------------------------------------------------------------


async def test_who_lost_the_item_tells_and_makes_nothing(world: World):
    """Put back and claimed by another: the first worker's words are void."""
    first, [item] = await world.take("a")
    await world.store.disown(first, [])
    second = await world.join()
    await world.claim(second)
    late = Entry(item, None, progress=Progress("read", 9, 9), products=(FILE,))

    await world.store.commit(first, [late])
    works = await world.store.in_work()
    await world.move(second, item, done())

    assert works == []
    assert await world.store.products(item) == []


async def test_a_zombie_tells_and_makes_nothing(world: World):
    """A worker whose lease ran out writes nothing at all."""
    worker, [item] = await world.take("a")
    await world.clock.advance(31)

    with pytest.raises(LeaseLost):
        await world.store.commit(
            worker, [Entry(item, progress=Progress("read", 9, 9), products=(FILE,))]
        )

    assert await world.store.in_work() == []


async def test_a_worker_tells_what_troubles_it_with_its_lease(world: World):
    """Whoever asks for the sessions reads it, until the worker says it is over."""
    worker = await world.join()
    at = datetime(2026, 11, 26, 10, 30, tzinfo=UTC)
    full = TroubleRow("the disk is full", "/var/out", at)
    odd = TroubleRow("a folder's name is no text: \udcff", "/var/\udcff", at)

    await world.store.renew(worker, lease_s=30, troubles=[full, odd])
    [told] = await world.store.sessions()
    await world.store.renew(worker, lease_s=30)
    [over] = await world.store.sessions()

    assert told.troubles[0] == full
    assert len(told.troubles) == 2
    assert over.troubles == ()
