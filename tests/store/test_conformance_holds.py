"""
Holds and decisions, on both stores.

Every call in these tests is followed by the conservation law and a search for
items astray (`world.Lawful`).
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from pipeline.errors import Conflict, Integrity, NotFound, Refused
from pipeline.model import Entry, State
from pipeline.store.rows import Sought
from tests.store.world import World, parked


async def test_a_hold_shows_what_was_parked(world: World):
    """A reviewer sees the picture, the proposal and what is needed."""
    worker, [item] = await world.take("a.pdf")
    move = parked()
    await world.move(worker, item, move)

    [hold] = await world.store.holds()

    assert (hold.item_id, hold.item_name, hold.tenant) == (item, "a.pdf", "acme")
    assert (hold.stage, hold.code, hold.why) == ("read", "LOOK", "why not")
    assert (hold.shown, hold.proposal) == ({"evidence": None}, {"text": "proposed"})
    assert (hold.needs, hold.next_stage, hold.changed) == (["text"], "judge", False)
    assert hold.claimed_by is hold.claimed_until is hold.decision is None
    assert await world.store.hold(hold.id) == await world.store.hold_of(item) == hold


async def test_a_hold_keeps_the_order_of_its_keys(world: World):
    """A stage puts first what a person should see first."""
    worker, [item] = await world.take("a.pdf")
    shown = '{"evidence": {"total": 1, "a": {"second": 2, "b": 3}}}'
    await world.move(
        worker, item, replace(parked(), shown=shown, proposal='{"z":1,"a":2}')
    )

    [hold] = await world.store.holds()

    assert json.dumps(hold.shown) == shown
    assert list(hold.proposal) == ["z", "a"]


async def test_holds_are_listed_by_deadline(world: World):
    """What must be decided first is on top, however late it was held."""
    worker = await world.join()
    items = []
    for name, deadline_s in (("late", 900), ("soon", 100), ("middle", 500)):
        [item] = await world.admit(name, batch=name, deadline_s=deadline_s)
        await world.claim(worker)
        await world.move(worker, item, parked())
        items.append(item)

    rows = await world.store.holds()
    two = await world.store.holds(limit=2)

    assert [h.item_name for h in rows] == ["soon", "middle", "late"]
    assert two == rows[:2]


async def test_holds_are_listed_by_tenant(world: World):
    """A reviewer of one tenant sees no other's holds."""
    worker = await world.join()
    for tenant in ("acme", "bravo"):
        [item] = await world.admit("a", tenant=tenant)
        await world.claim(worker)
        await world.move(worker, item, parked())

    rows = await world.store.holds(tenant="bravo")

    assert [h.tenant for h in rows] == ["bravo"]


NAMES = ["a/Müller_1.pdf", "mu\u0308ller.PDF", "x%y", "100 Евро"]
SOUGHT = [
    (Sought(), NAMES),
    (Sought(name="MÜLLER"), NAMES[:2]),
    (Sought(name="u\u0308ll"), NAMES[:2]),
    (Sought(name=".pdf"), NAMES[:2]),
    (Sought(name="r_1"), NAMES[:1]),
    (Sought(name="%"), ["x%y"]),
    (Sought(name="ЕВРО"), ["100 Евро"]),
    (Sought(name="m.ller"), []),
    (Sought(name="ler", code="LOOK", pipeline="letters", stage="read"), NAMES[:2]),
    (Sought(code="LOOK.*"), []),
    (Sought(stage="judge"), []),
    (Sought(pipeline="letter"), []),
]


@pytest.mark.parametrize("decided", [False, True])
async def test_holds_are_found_by_what_is_known(world: World, decided: bool):
    """A part of the name in any case and any spelling, and words that stand there."""
    worker, items = await world.take(*NAMES)
    for item in items:
        await world.move(worker, item, parked())
        if decided:
            await world.decide(await world.store.hold_of(item))

    found = [
        {h.item_name for h in await world.store.holds(decided=decided, sought=sought)}
        for sought, _ in SOUGHT
    ]

    assert found == [set(names) for _, names in SOUGHT]


@pytest.mark.parametrize("decided", [False, True])
async def test_holds_are_found_by_batch_and_time(world: World, decided: bool):
    """Of the batch, and held, or decided, at that time or later."""
    worker = await world.join()
    for name in ("first", "second"):
        [item] = await world.admit(name, batch=name)
        await world.claim(worker)
        await world.move(worker, item, parked())
        if decided:
            await world.decide(await world.store.hold_of(item))
        await world.clock.advance(5)
    batch = await world.batch("first")
    every = {h.item_name: h for h in await world.store.holds(decided=decided)}
    last = every["second"]
    at = last.decision.decided_at if decided else last.held_at

    of_batch = await world.store.holds(decided=decided, batch_id=batch.id)
    since = await world.store.holds(decided=decided, sought=Sought(since=at))

    assert [h.item_name for h in of_batch] == ["first"]
    assert [h.item_name for h in since] == ["second"]


async def test_decided_holds_are_listed_newest_first(world: World):
    """The open list and the decided list share nothing."""
    holds = [await world.hold() for _ in range(3)]
    for hold in holds[:2]:
        await world.decide(hold)
        await world.clock.advance(1)

    decided = await world.store.holds(decided=True)

    assert [h.id for h in decided] == [holds[1].id, holds[0].id]
    assert [h.id for h in await world.store.holds()] == [holds[2].id]


async def test_a_held_item_costs_nobody_anything(world: World):
    """It stays held when its worker leaves, dies or forgets."""
    worker, [item] = await world.take("a")
    await world.move(worker, item, parked())

    moved = [
        await world.store.disown(worker, []),
        await world.store.reap([worker], died=True),
    ]

    assert moved == [0, 0]
    assert await world.state(item) is State.HELD


# -- leases of reviewers ---------------------------------------------------------------


async def test_a_claimed_hold_is_one_reviewers(world: World):
    """A second reviewer is told who has it; the first may renew."""
    hold = await world.hold()
    mine = await world.store.claim_hold(hold.id, "ann", lease_s=60)

    with pytest.raises(Conflict) as refused:
        await world.store.claim_hold(hold.id, "bob", lease_s=60)

    assert (refused.value.code, "ann" in str(refused.value)) == ("CLAIMED", True)
    assert mine.claimed_by == "ann"
    await world.clock.advance(50)
    renewed = await world.store.claim_hold(hold.id, "ann", lease_s=60)
    assert renewed.claimed_until > mine.claimed_until


async def test_a_reviewers_lease_expires(world: World):
    """Who went to lunch blocks nobody: an expired lease is shown as none."""
    hold = await world.hold()
    await world.store.claim_hold(hold.id, "ann", lease_s=60)
    await world.clock.advance(61)

    seen = await world.store.hold(hold.id)
    stolen = await world.store.claim_hold(hold.id, "bob", lease_s=60)

    assert (seen.claimed_by, seen.claimed_until) == (None, None)
    assert stolen.claimed_by == "bob"
    with pytest.raises(Conflict):
        await world.decide(hold, author="ann")


async def test_a_released_hold_is_free(world: World):
    """After release anybody may take it; releasing twice does no harm."""
    hold = await world.hold()
    await world.store.claim_hold(hold.id, "ann", lease_s=60)

    await world.store.release_hold(hold.id, "ann")
    await world.store.release_hold(hold.id, "ann")

    assert (await world.store.hold(hold.id)).claimed_by is None
    assert (
        await world.store.claim_hold(hold.id, "bob", lease_s=60)
    ).claimed_by == "bob"


async def test_nobody_releases_anothers_hold(world: World):
    """A lease is given back by its reviewer or by time."""
    hold = await world.hold()
    await world.store.claim_hold(hold.id, "ann", lease_s=60)

    with pytest.raises(Conflict):
        await world.store.release_hold(hold.id, "bob")

    assert (await world.store.hold(hold.id)).claimed_by == "ann"


async def test_a_decided_hold_cannot_be_claimed(world: World):
    """There is nothing left to read in it."""
    hold = await world.hold()
    await world.decide(hold)

    with pytest.raises(Conflict) as refused:
        await world.store.claim_hold(hold.id, "bob", lease_s=60)

    assert refused.value.code == "DECIDED"


@pytest.mark.parametrize("ask", ["hold", "claim", "release", "decide", "hold_of"])
async def test_an_unknown_hold_is_not_found(world: World, ask: str):
    """Every question about a hold that never was is NotFound."""
    nobody = 10**6
    calls = {
        "hold": lambda s: s.hold(nobody),
        "claim": lambda s: s.claim_hold(nobody, "ann", lease_s=60),
        "release": lambda s: s.release_hold(nobody, "ann"),
        "hold_of": lambda s: s.hold_of(nobody),
        "decide": lambda s: s.decide(
            nobody, verb="approve", author="a", reason="", digest="", update="{}"
        ),
    }

    with pytest.raises(NotFound):
        await calls[ask](world.store)


# -- decisions -------------------------------------------------------------------------


async def test_an_approved_item_goes_on_with_the_proposal(world: World):
    """Its state receives what was shown, as a checkpoint, and the next stage runs."""
    hold = await world.hold()

    decided = await world.decide(hold)

    [checkpoint] = (await world.store.history([hold.item_id]))[hold.item_id]
    assert (checkpoint.seq, checkpoint.stage, checkpoint.step) == (0, "read", None)
    assert (checkpoint.next_stage, json.loads(checkpoint.update)) == (
        "judge",
        {"text": "proposed"},
    )
    [claim] = await world.claim(await world.join(), stage="judge")
    assert (claim.item.id, claim.seq, claim.attempt) == (hold.item_id, 1, 0)
    assert (decided.decision.verb, decided.decision.author) == ("approve", "ann")
    assert decided.decision.reason == "because"


async def test_an_edited_item_goes_on_with_the_reviewers_words(world: World):
    """The edit arrives in the state like any other update."""
    hold = await world.hold()

    decided = await world.decide(hold, "edit", update='{"text": "mended"}')

    [checkpoint] = (await world.store.history([hold.item_id]))[hold.item_id]
    assert json.loads(checkpoint.update) == {"text": "mended"}
    assert decided.decision.verb == "edit"


async def test_a_rejected_item_is_final(world: World):
    """It ends with the reviewer's reason, and no update reaches its state."""
    hold = await world.hold()

    decided = await world.decide(hold, "reject", reason="not for us")

    row = await world.store.item(hold.item_id)
    assert (row.state, row.stage) == (State.REJECTED, "read")
    assert (row.code, row.why) == ("REVIEW_REJECTED", "not for us")
    assert await world.store.history([hold.item_id]) == {hold.item_id: []}
    assert decided.decision.reason == "not for us"


async def test_a_question_runs_its_stage_again(world: World):
    """A hold that asked leads back to its own stage, with the answer."""
    hold = await world.hold(again=True)

    await world.decide(hold, update='{"text": "answer"}')

    [claim] = await world.claim(await world.join(), stage="read")
    assert (claim.item.id, claim.seq) == (hold.item_id, 1)


async def test_a_hold_of_the_last_stage_ends_the_item(world: World):
    """Approved at the end of the pipeline, the item is done."""
    hold = await world.hold(after="")

    await world.decide(hold)

    assert await world.state(hold.item_id) is State.DONE


async def test_an_item_may_be_held_again(world: World):
    """Each stay has its own hold and its own decision."""
    first = await world.hold(again=True)
    await world.decide(first)
    worker = await world.join()
    await world.claim(worker)
    await world.move(worker, first.item_id, parked(1, again=True))

    second = await world.store.hold_of(first.item_id)
    await world.decide(second, author="bob")

    assert second.id != first.id
    assert (await world.store.hold(first.id)).decision.author == "ann"
    assert (await world.store.hold(second.id)).decision.author == "bob"


async def test_a_decision_survives_a_crash_of_what_follows(world: World):
    """The item resumes after the ruling and does not ask a second time."""
    hold = await world.hold()
    await world.decide(hold)
    worker = await world.join()
    await world.claim(worker, stage="judge")

    await world.store.reap([worker], died=True)

    [claim] = await world.claim(await world.join(), stage="judge")
    assert (claim.item.id, claim.seq) == (hold.item_id, 1)


@pytest.mark.parametrize("second", ["approve", "reject", "edit"])
async def test_the_second_decision_is_told_of_the_first(world: World, second: str):
    """Two reviewers, one decision: the conflict names verb, author and time."""
    hold = await world.hold()
    decided = await world.decide(hold, author="ann")
    before = await world.store.item(hold.item_id)

    with pytest.raises(Conflict) as refused:
        await world.decide(hold, second, author="bob")

    said = str(refused.value)
    assert refused.value.code == "DECIDED"
    assert "approve by ann" in said
    assert f"{decided.decision.decided_at:%Y-%m-%d %H:%M:%S}" in said
    assert await world.store.item(hold.item_id) == before
    assert await world.store.hold(hold.id) == decided


async def test_a_decision_binds_to_what_was_shown(world: World):
    """A ruling on another digest is refused, and the hold stays open."""
    hold = await world.hold()

    with pytest.raises(Conflict) as refused:
        await world.decide(hold, digest="of an older picture")

    assert refused.value.code == "STALE"
    assert await world.state(hold.item_id) is State.HELD


CHANGES = [
    {"code": "FINE"},
    {"why": "all is well"},
    {"shown": {"evidence": "another"}},
    {"shown": {"evidence": None, "more": 1e-7}},
    {"proposal": {"text": "forged"}},
    {"needs": []},
    {"again": True},
    {"next_stage": ""},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
async def test_a_row_that_somebody_changed_is_not_decided(
    world: World, change: dict[str, Any]
):
    """Also when it was changed before anybody was shown it."""
    hold = await world.hold()

    await world.change_hold(hold.id, **change)

    assert (await world.store.hold(hold.id)).changed
    assert [row.changed for row in await world.store.holds()] == [True]
    for verb in ("approve", "reject", "edit"):
        with pytest.raises(Integrity) as refused:
            await world.decide(hold, verb)
        assert refused.value.code == "HOLD_CHANGED"
    assert await world.state(hold.item_id) is State.HELD


NUMBERS = [1e22, 1e23, 1.0, -0.0, 1e-7, 2**70, 0.1, 123456789.123456789]


@pytest.mark.parametrize(
    "text", [*map(json.dumps, NUMBERS), '"\\u00e4 \\ud83c\\udf85"']
)
async def test_what_the_database_keeps_in_its_own_form_is_unchanged(
    world: World, text: str
):
    """Keys in another order, numbers written otherwise."""
    worker, [item] = await world.take("a.pdf")
    shown = f'{{"evidence": {{"z": {text}, "a": [{text}], "bb": null}}}}'
    await world.move(worker, item, replace(parked(), shown=shown))

    [hold] = await world.store.holds()

    assert not hold.changed
    assert (await world.decide(hold)).decision is not None


async def test_nobody_decides_what_another_reads(world: World):
    """A live lease keeps the ruling with its reviewer; it needs no lease at all."""
    hold, free = await world.hold(), await world.hold()
    await world.store.claim_hold(hold.id, "ann", lease_s=60)

    with pytest.raises(Conflict) as refused:
        await world.decide(hold, author="bob")

    assert refused.value.code == "CLAIMED"
    assert (await world.decide(hold, author="ann")).claimed_by is None
    assert (await world.decide(free, author="bob")).decision.author == "bob"


async def test_a_cancelled_hold_takes_no_decision(world: World):
    """Who rules on an item that was cancelled meanwhile is told so."""
    hold = await world.hold()
    await world.store.cancel([hold.item_id], "ann")

    for call in (
        world.decide(hold, author="bob"),
        world.store.claim_hold(hold.id, "bob", lease_s=60),
    ):
        with pytest.raises(Conflict, match="cancelled"):
            await call

    assert await world.state(hold.item_id) is State.CANCELLED


@pytest.mark.parametrize(
    "bad",
    [
        {"verb": "shrug"},
        {"author": ""},
        {"verb": "reject", "reason": "", "update": None},
    ],
    ids=["verb", "author", "reason"],
)
async def test_a_decision_needs_a_verb_an_author_and_a_reason(world: World, bad):
    """An unknown verb, nobody, or a rejection without a reason is refused."""
    hold = await world.hold()

    with pytest.raises(Refused):
        await world.decide(hold, **bad)

    assert await world.state(hold.item_id) is State.HELD
    assert (await world.store.hold(hold.id)).decision is None


async def test_of_equally_urgent_holds_those_that_need_a_look_come_first(world: World):
    """A hold that waits for typing does not stand before one that only needs a yes."""
    worker, [typed, looked] = await world.take("a", "b")
    only_look = replace(parked(), needs=())
    await world.store.commit(worker, [Entry(typed, None, parked())])
    await world.store.commit(worker, [Entry(looked, None, only_look)])

    listed = [hold.item_id for hold in await world.store.holds()]

    assert listed == [looked, typed]
