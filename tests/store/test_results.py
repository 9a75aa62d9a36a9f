"""What became of everything that a batch received; PostgreSQL alone makes lists."""

from __future__ import annotations

from pipeline.model import Disposal, Entry, Product, State
from tests.store.world import World, done, finished, parked, sent, step

FILE = Product("file", "a" * 64, '{"file": "a.pdf"}', "read")


async def test_a_batch_is_told_receipt_by_receipt(postgres: World):
    """Items with their state's updates and products, duplicates, what was refused."""
    worker, [item] = await postgres.take("a")
    entries = [Entry(item, step(0, "read", "page-1")), Entry(item, products=(FILE,))]
    entries.append(Entry(item, finished(1, "read", "", '{"text": "x"}'), done()))
    for entry in entries:
        await postgres.store.commit(worker, [entry])
    twice = sent("b", "key of a")
    refused = sent("c", refused_code="BAD", refused_why="it is", kept_at="/q/c")
    other = await postgres.batch("june")
    await postgres.receive(twice, refused)
    await postgres.receive(sent("d"), batch=other)

    batch = await postgres.batch()
    [first, second, third] = await postgres.store.received(batch.id)
    rest = await postgres.store.received(batch.id, after=first.id, limit=1)

    assert (first.disposal, first.item) == (Disposal.ITEM, item)
    row, given, updates, products = first.standing
    assert (row.name, row.state, row.pipeline) == ("a", State.DONE, "letters")
    assert given == "{}"
    assert [(c.seq, c.update) for c in updates] == [(1, '{"text": "x"}')]
    assert [(p.name, p.facts) for p in products] == [("file", {"file": "a.pdf"})]
    assert second[2:] == (Disposal.DUPLICATE, "", item, None)
    assert third[2:] == (Disposal.QUARANTINED, "BAD", None, None)
    assert rest == [second]
    assert await postgres.store.pipelines_of(batch.id) == [postgres.pipeline]


async def test_what_is_open_stands_in_the_list_too(postgres: World):
    """Held items and new ones, each with where it is."""
    worker, [held, taken] = await postgres.take("a", "b")
    await postgres.move(worker, held, parked())

    found = await postgres.store.received((await postgres.batch()).id)

    rows = [r.standing.row for r in found if r.standing]
    assert [(r.id, r.state, r.code) for r in rows] == [
        (held, State.HELD, "LOOK"),
        (taken, State.RUNNING, ""),
    ]


async def test_how_a_batch_stands_changes_when_something_ends(postgres: World):
    """Not when it only moves; batches apart, and those asked for alone."""
    worker, [first, second] = await postgres.take("a", "b")
    batch = await postgres.batch()
    [begun] = await postgres.store.stands()
    await postgres.move(worker, first, parked())
    [held] = await postgres.store.stands([batch.id])
    await postgres.move(worker, second, done())
    june = await postgres.batch("june")
    await postgres.receive(sent("c"), batch=june)

    rows = await postgres.store.stands()

    assert (begun.batch, begun.name, begun.stands) == (batch.id, batch.name, "item 2")
    assert held.stands == "held 1, item 2"
    assert [(r.batch, r.stands) for r in rows] == [
        (batch.id, "done 1, held 1, item 2"),
        (june.id, "item 1"),
    ]
    assert await postgres.store.stands([10**9]) == []
