"""
What admission, reviewers and the command ask, on both stores.

Every call in these tests is followed by the conservation law and a search for
items astray (`world.Lawful`).
"""

from __future__ import annotations

import pytest

from pipeline.errors import NotFound, Usage
from pipeline.model import Disposal, Entry, Finish, State, ToReady
from pipeline.store.port import Counts
from tests.store.world import World, done, finished, parked, sent, step, waiting

# -- admission -------------------------------------------------------------------------


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


# -- counts ----------------------------------------------------------------------------


async def test_counts_tells_every_state(world: World):
    """Each item and receipt is counted once, where it stands."""
    worker, items = await world.take(*"abcdefgh")
    ends = [
        ToReady("judge", 1),
        waiting(60),
        parked(),
        done(),
        Finish(State.REJECTED, "read", "BLANK"),
        Finish(State.FAILED, "read", "OCR"),
        Finish(State.CANCELLED, "read", "CANCELLED"),
        None,
    ]
    await world.store.commit(
        worker, [Entry(i, None, m) for i, m in zip(items, ends, strict=True)]
    )
    await world.receive(
        sent("a2", key="key of a"), sent("bad", refused_code="PIXEL_LIMIT")
    )

    counts = await world.store.counts()

    assert counts == Counts(
        received=10,
        live=3,
        held=1,
        done=1,
        rejected=1,
        failed=1,
        cancelled=1,
        duplicates=1,
        quarantined=1,
    )


async def test_counts_is_by_batch(world: World):
    """One batch's law holds by itself, whatever the others do."""
    await world.admit("a", "b", batch="may")
    await world.admit("c", batch="june")
    [may, june] = [await world.batch(name) for name in ("may", "june")]
    await world.receive(sent("again", key="key of a"), batch=june)

    assert await world.store.counts(may.id) == Counts(2, 2, 0, 0, 0, 0, 0, 0, 0)
    assert await world.store.counts(june.id) == Counts(2, 1, 0, 0, 0, 0, 0, 1, 0)
    assert await world.store.astray(may.id) == []


# -- one item --------------------------------------------------------------------------


async def test_a_running_item_is_shown_at_the_stage_it_reached(world: World):
    """An item that is carried through is not shown where it was claimed."""
    worker, [item] = await world.take("a")
    await world.store.commit(worker, [Entry(item, finished(0, "read", "judge"))])
    await world.store.commit(worker, [Entry(item, step(1, "judge", "rule-1"))])

    row = await world.store.item(item)

    assert (row.state, row.stage) == (State.RUNNING, "judge")


async def test_a_waiting_item_says_until_when_and_why(world: World):
    """Its row tells the instant at which it goes on."""
    worker, [item] = await world.take("a")
    await world.move(worker, item, waiting(60, attempt=1))

    row = await world.store.item(item)

    assert (row.state, row.attempt, row.why) == (State.WAITING, 1, "THROTTLED")
    assert 3400 < (row.deadline_at - row.until).total_seconds() < 3600


async def test_a_final_item_says_why_it_ended(world: World):
    """Stage, code and reason of the end are kept."""
    worker, [item] = await world.take("a")
    await world.move(worker, item, Finish(State.FAILED, "read", "OCR", "no engine"))

    row = await world.store.item(item)

    assert (row.state, row.stage) == (State.FAILED, "read")
    assert (row.code, row.why, row.until) == ("OCR", "no engine", None)


async def test_an_unknown_item_is_not_found(world: World):
    """Asking for an item that never was is NotFound."""
    with pytest.raises(NotFound):
        await world.store.item(10**6)


# -- cancel ----------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["ready", "waiting", "held"])
async def test_what_is_parked_is_cancelled_at_once(world: World, where: str):
    """No worker has it: it is final, names who, and nobody gets it any more."""
    worker, [item] = await world.take("a")
    moves = {"ready": ToReady("read", 0), "waiting": waiting(60), "held": parked()}
    await world.move(worker, item, moves[where])

    said = await world.store.cancel([item], "ann")

    row = await world.store.item(item)
    assert said == {item: "cancelled"}
    assert (row.state, row.code) == (State.CANCELLED, "CANCELLED")
    assert row.why == "cancelled by ann"
    await world.clock.advance(61)
    assert await world.store.wake() == (0, None)
    assert await world.claim(await world.join()) == []
    assert await world.store.holds() == []


async def test_what_runs_is_asked_to_stop(world: World):
    """The worker keeps a running item until it lets go; asking twice is the same."""
    worker, [item] = await world.take("a")

    first = await world.store.cancel([item], "ann")
    second = await world.store.cancel([item], "bob")

    assert (first, second) == ({item: "cancelling"}, {item: "cancelling"})
    assert await world.state(item) is State.RUNNING
    await world.store.leave(worker)
    assert (await world.store.item(item)).why == "cancelled by ann"


async def test_what_is_final_stays_final(world: World):
    """A cancel that comes too late says so and changes nothing."""
    worker, [item] = await world.take("a")
    await world.move(worker, item, done())

    said = await world.store.cancel([item], "ann")

    assert said == {item: "final"}
    assert await world.state(item) is State.DONE


async def test_cancelling_many_answers_for_each(world: World):
    """Each item of one call gets its own answer."""
    worker, [ended, running] = await world.take("a", "b")
    await world.move(worker, ended, done())
    [ready] = await world.admit("c")

    said = await world.store.cancel([ready, running, ended, ready], "ann")

    assert said == {ended: "final", running: "cancelling", ready: "cancelled"}


@pytest.mark.parametrize(
    "move",
    [ToReady("read", 0), waiting(60), parked()],
    ids=["ready", "waiting", "held"],
)
async def test_a_cancelled_item_cannot_slip_away(world: World, move):
    """
    A worker that parks the item before it hears of the cancel ends it so: it
    neither goes on later nor asks a reviewer for a ruling.
    """
    worker, [item, other] = await world.take("a", "b")
    await world.store.cancel([item], "ann")
    entries = [Entry(item, None, move), Entry(other, None, move)]

    stood = await world.store.commit(worker, entries)

    row = await world.store.item(item)
    assert stood == [True, True]
    assert (row.state, row.code) == (State.CANCELLED, "CANCELLED")
    assert row.why == "cancelled by ann"
    assert await world.state(other) not in (State.CANCELLED, State.RUNNING)
    assert item not in [h.item_id for h in await world.store.holds()]


async def test_an_old_cancel_does_not_haunt_a_retried_item(world: World):
    """An item that was cancelled while running and retried runs undisturbed."""
    worker, [item] = await world.take("a")
    await world.store.cancel([item], "ann")
    await world.move(worker, item, ToReady("read", 0))
    await world.store.cancel([item], "ann")
    await world.store.retry([item], "bob")

    heir = await world.join()
    await world.claim(heir)

    assert await world.store.renew(heir, lease_s=30) == []


# -- retry -----------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.REJECTED, State.FAILED, State.CANCELLED])
async def test_an_ended_item_is_retried_where_it_ended(world: World, state: State):
    """It goes on at its last stage, after its last checkpoint, with fresh tries."""
    worker, [item] = await world.take("a")
    await world.store.commit(worker, [Entry(item, finished(0, "read", "judge"))])
    await world.store.commit(worker, [Entry(item, step(1, "judge", "rule-1"))])
    await world.move(worker, item, Finish(state, "judge", "CODE"))

    said = await world.store.retry([item, item], "ann")

    [claim] = await world.claim(await world.join(), stage="judge")
    assert said == {item: "ready"}
    assert (claim.item.id, claim.seq, claim.attempt) == (item, 2, 0)


async def test_done_and_live_items_are_not_retried(world: World):
    """A finished item never runs again, and a live one is not doubled."""
    worker, [ended, running] = await world.take("a", "b")
    await world.move(worker, ended, done())
    [ready] = await world.admit("c")

    said = await world.store.retry([ended, running, ready], "ann")

    assert set(said.values()) == {"not final"}
    assert await world.states([ended, running, ready]) == ["done", "running", "ready"]


async def test_a_retried_killer_starts_with_a_clean_record(world: World):
    """A person who retries a WORKER_KILLED item gives it its chances back."""
    [item] = await world.admit("poison")
    for solo in (False, False, True):
        await world.died_with(item, solo=solo)

    await world.store.retry([item], "ann")

    assert await world.store.suspects() == []
    [claim] = await world.claim(await world.join())
    assert claim.item.id == item
