"""
What becomes of what arrives, on both stores.

Every call in these tests is followed by the conservation law and a search for
items astray (`world.Lawful`).
"""

from __future__ import annotations

import pytest

from pipeline.errors import Usage
from pipeline.model import Disposal, State
from pipeline.store.rows import Counts
from tests.store.world import World, done, sent


async def test_a_received_file_is_one_ready_item(world: World):
    """A receipt names the item, which stands at the pipeline's first stage."""
    [receipt] = await world.receive(sent("a.pdf", key="k1", input={"pages": 2}))

    row = await world.store.item(receipt.item_id)
    [claim] = await world.claim(await world.join())
    assert (receipt.name, receipt.disposal) == ("a.pdf", Disposal.ITEM)
    assert (row.state, row.stage, row.key) == (State.READY, "read", "k1")
    assert (row.name, row.tenant, row.batch) == ("a.pdf", "acme", "may")
    assert claim.item.input == {"pages": 2}


async def test_the_same_delivery_again_is_the_same_receipt(world: World):
    """A file offered again under its token, after a crash, is no duplicate."""
    letter = sent("a.pdf")

    first = await world.receive(letter)
    second = await world.receive(letter)
    twice = await world.receive(letter, letter)

    assert second == first
    assert twice == first * 2
    assert await world.store.counts() == Counts(1, 1, 0, 0, 0, 0, 0, 0, 0)


async def test_the_same_bytes_in_one_call_are_one_item(world: World):
    """The first delivery of a key is the item, the others are its duplicates."""
    receipts = await world.receive(
        sent("b.pdf", key="k"), sent("a.pdf", key="k"), sent("c.pdf", key="k")
    )

    assert [r.disposal for r in receipts] == ["item", "duplicate", "duplicate"]
    assert [r.name for r in receipts] == ["b.pdf", "a.pdf", "c.pdf"]
    assert len({r.item_id for r in receipts}) == 1


async def test_the_same_bytes_later_are_a_recorded_duplicate(world: World):
    """Also in another batch of the tenant, and after the item is done."""
    worker = await world.join()
    [first] = await world.receive(sent("a.pdf", key="k"))
    await world.claim(worker)
    await world.move(worker, first.item_id, done())
    june = await world.batch("june")

    [second] = await world.receive(sent("b.pdf", key="k"), batch=june)

    assert (second.disposal, second.item_id) == ("duplicate", first.item_id)
    assert await world.store.counts(june.id) == Counts(1, 0, 0, 0, 0, 0, 0, 1, 0)


async def test_tenants_do_not_share_documents(world: World):
    """The same bytes of two tenants are two items."""
    [ours] = await world.receive(sent("a.pdf", key="k"))
    theirs_batch = await world.batch(tenant="bravo")

    [theirs] = await world.receive(sent("a.pdf", key="k"), batch=theirs_batch)

    assert theirs.disposal == Disposal.ITEM
    assert theirs.item_id != ours.item_id


async def test_pipelines_do_not_share_documents(world: World):
    """The same bytes in two pipelines are two items; two versions share them."""
    [first] = await world.receive(sent("a.pdf", key="k"))
    other = await world.store.register_pipeline("quotes", "v1", ["price"], {})
    newer = await world.store.register_pipeline("letters", "v2", ["read"], {})
    batch = await world.batch()

    [quote] = await world.store.admit(batch, other, [sent("a.pdf", key="k")])
    [again] = await world.store.admit(batch, newer, [sent("a.pdf", key="k")])

    assert quote.disposal == Disposal.ITEM
    assert (await world.store.item(quote.item_id)).stage == "price"
    assert (again.disposal, again.item_id) == ("duplicate", first.item_id)


async def test_a_refused_file_is_quarantined_and_counted(world: World):
    """It gets a receipt without an item, and its bytes' key stays free."""
    bad = sent("a.pdf", key="k", refused_code="PDF_ENCRYPTED", refused_why="locked")

    [refused, taken] = await world.receive(bad, sent("b.pdf", key="k"))

    assert (refused.disposal, refused.item_id) == ("quarantined", None)
    assert taken.disposal == "item"
    assert await world.store.counts() == Counts(2, 1, 0, 0, 0, 0, 0, 0, 1)


async def test_admitting_nothing_is_nothing(world: World):
    """An empty call gives an empty answer."""
    assert await world.receive() == []
    assert (await world.store.counts()).received == 0


async def test_a_batch_keeps_the_deadline_it_was_opened_with(world: World):
    """Opening it again, later and with another deadline, changes nothing."""
    first = await world.batch(deadline_s=100)
    await world.clock.advance(50)

    again = await world.batch(deadline_s=9999)

    assert again == first
    assert (first.tenant, first.name) == ("acme", "may")


@pytest.mark.parametrize(
    ("tenant", "batch"),
    [
        ("acme", ""),
        ("", "may"),
        ("..", "may"),
        (".", "may"),
        ("a/b", "may"),
        ("acme", ".."),
        ("acme", "../may"),
        ("acme", "may/../../etc"),
        ("acme", "/etc"),
        ("acme", "may/"),
        ("acme", "may//june"),
        ("acme", "may\n"),
        ("ac\x00me", "may"),
        ("acme", "m" * 201),
        ("a" * 201, "may"),
        ("t\\xff", "may"),  # as a folder is shown whose name is no text
        (".acme", "may"),
    ],
)
async def test_no_name_leads_out_of_the_output_folder(world: World, tenant, batch):
    """Names become folders: what could not be one is refused."""
    with pytest.raises(Usage) as refused:
        await world.batch(batch, tenant=tenant)

    assert refused.value.code == "BAD_NAME"
    assert await world.store.weights() == {}


async def test_a_batch_may_have_folders_in_its_name(world: World):
    """Sub-folders of the drop folder are batches like any other."""
    batch = await world.batch("2026/may")

    assert batch.name == "2026/may"


async def test_a_receipt_says_whether_it_is_the_first(world: World):
    """Whoever offers a delivery again can be shown what became of it."""
    file = sent("a", token="once")

    [first] = await world.receive(file)
    [second] = await world.receive(file)
    [other] = await world.receive(sent("b", key=file.key))

    assert (first.again, second.again, other.again) == (False, True, False)
    assert first.item_id == second.item_id == other.item_id


async def test_a_quarantined_file_is_looked_at_again(world: World):
    """The same delivery, refused before and in order now, is an item: once."""
    bad = sent("a", token="once", refused_code="PDF_ENCRYPTED")
    good = sent("a", key=bad.key, token="once")

    [refused] = await world.receive(bad)
    [still] = await world.receive(bad)
    [taken] = await world.receive(good)
    [same] = await world.receive(good)

    assert refused.item_id is None
    assert (still.disposal, still.again) == (Disposal.QUARANTINED, True)
    assert (taken.disposal, taken.again) == (Disposal.ITEM, False)
    assert (same.item_id, same.again) == (taken.item_id, True)
    counts = await world.store.counts()
    assert (counts.received, counts.quarantined, counts.live) == (2, 1, 1)


async def test_a_file_refused_in_another_batch_is_told_there_too(world: World):
    """Each batch counts what was offered to it, once; in order, it is one item."""
    bad = sent("a", token="once", refused_code="EMPTY_FILE")
    may, june = await world.batch(), await world.batch("june")

    [first] = await world.receive(bad)
    [there] = await world.receive(bad, batch=june)
    [twice] = await world.receive(bad, batch=june)
    [back] = await world.receive(bad)
    refused = [await world.store.counts(batch.id) for batch in (may, june)]
    [taken] = await world.receive(sent("a", bad.key, token="once"), batch=june)

    assert [r.again for r in (first, there, twice, back)] == [False, False, True, True]
    assert [(c.received, c.quarantined) for c in refused] == [(1, 1), (1, 1)]
    assert taken.disposal is Disposal.ITEM
    counts = await world.store.counts(june.id)
    assert (counts.received, counts.quarantined, counts.live) == (2, 1, 1)
