"""
Where items are, cancelled and retried, on both stores.

Every call in these tests is followed by the conservation law and a search for
items astray (`world.Lawful`).
"""

from __future__ import annotations

import json

import pytest

from pipeline.errors import NotFound
from pipeline.model import Attempt, Entry, Finish, Progress, State, ToJoining, ToReady
from pipeline.store.rows import Counts, WaitsRow
from tests.store.world import World, done, finished, parked, sent, step, waiting

# -- counts ----------------------------------------------------------------------------


async def test_an_item_that_waits_has_the_code_of_what_it_waits_for(world: World):
    """Of money, a vendor, an error; a sentence of a stage's own is none."""
    worker, items = await world.take(*"ab")
    moves = [waiting(60, why="BUDGET_USED_UP"), waiting(60, why="until Tuesday")]

    for item, move in zip(items, moves, strict=True):
        await world.move(worker, item, move)

    rows = [await world.store.item(item) for item in items]
    assert [row.code for row in rows] == ["BUDGET_USED_UP", ""]
    assert [row.why for row in rows] == ["BUDGET_USED_UP", "until Tuesday"]


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


async def test_an_items_input_can_be_read_again(world: World):
    """With its pipeline, as it was admitted; of no other item."""
    _, [item] = await world.take("a")

    pipeline, given = await world.store.facts(item)

    assert (pipeline, json.loads(given)) == (world.pipeline, sent("a").input)
    with pytest.raises(NotFound):
        await world.store.facts(item + 99)


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


async def test_failed_tries_are_kept_with_where_they_were_raised(world: World):
    """Newest first, each as it was: code, words, frames, and whether it is charged."""
    worker, [item, other] = await world.take("a", "b")
    first = Attempt(
        "read", 0, "STAGE_RAISED", "a bug", True, "a.py:1 in a\nb.py:2 in b"
    )
    await world.store.commit(worker, [Entry(item, None, waiting(5), first)])
    await world.clock.advance(6)
    await world.store.wake()
    await world.claim(worker)
    second = Attempt("read", 1, "THROTTLED", "slowly", False)
    await world.store.commit(worker, [Entry(item, None, waiting(5), second)])

    rows = await world.store.failures(item)

    assert [(r.code, r.attempt, r.charged) for r in rows] == [
        ("THROTTLED", 1, False),
        ("STAGE_RAISED", 0, True),
    ]
    assert [r.frames for r in rows] == [[], ["a.py:1 in a", "b.py:2 in b"]]
    assert (rows[1].stage, rows[1].message) == ("read", "a bug")
    assert await world.store.failures(item, limit=1) == rows[:1]
    assert await world.store.failures(other) == []


async def test_what_an_item_waits_for_is_known(world: World):
    """Strikes, how many are in its stage, and the limit it said it waits for."""
    worker, [item, other] = await world.take("a", "b")
    waits = Progress("read", 0, 0, "llm")
    await world.store.commit(worker, [Entry(item, progress=waits)])
    [third] = await world.admit("c")

    assert await world.store.waits(item) == WaitsRow(0, 2, "llm")
    assert await world.store.waits(other) == WaitsRow(0, 2, "")
    assert await world.store.waits(third) == WaitsRow(0, 2, "")
    assert await world.store.in_work() == []

    await world.store.commit(worker, [Entry(item, progress=Progress("read", 0, 0))])
    assert await world.store.waits(item) == WaitsRow(0, 2, "")
    await world.move(worker, item, done())
    assert await world.store.waits(item) == WaitsRow(0, 0, "")


# -- cancel ----------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["ready", "waiting", "joining", "held"])
async def test_what_is_parked_is_cancelled_at_once(world: World, where: str):
    """No worker has it: it is final, names who, and nobody gets it any more."""
    worker, [item] = await world.take("a")
    moves = {
        "ready": ToReady("read", 0),
        "waiting": waiting(60),
        "joining": ToJoining("read", 0),
        "held": parked(),
    }
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
    [ToReady("read", 0), waiting(60), ToJoining("read", 0), parked()],
    ids=["ready", "waiting", "joining", "held"],
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

    assert said == {ended: "done", running: "not final", ready: "not final"}
    assert await world.states([ended, running, ready]) == ["done", "running", "ready"]


async def test_a_retried_killer_starts_with_a_clean_record(world: World):
    """A person who retries a WORKER_KILLED item gives it its chances back."""
    [item] = await world.admit("poison")
    for suspects in (False, False, True, True):
        await world.died_with(item, suspects=suspects)

    await world.store.retry([item], "ann")

    assert await world.store.suspects() == []
    [claim] = await world.claim(await world.join())
    assert claim.item.id == item
