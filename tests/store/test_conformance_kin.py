"""
Children: born with a checkpoint, waited for, cancelled with their parent.  On both
stores; every call is followed by the conservation law (`world.Lawful`).
"""

from __future__ import annotations

import json

import pytest

from pipeline.errors import LeaseLost, NotFound, Refused
from pipeline.model import (
    Checkpoint,
    Entry,
    Finish,
    ItemId,
    Spawn,
    State,
    ToJoining,
    ToReady,
    WorkerId,
)
from pipeline.parts import Part
from tests.store.world import World, done, finished, parked, sent, step, waiting

HOUR_S = 3600.0


def spawning(
    item: ItemId, *parts: Part | str, seq: int = 0, stage: str = "read", name="parts"
) -> Entry:
    """The entry of a step that spawns; a string is a part without a key."""
    made = tuple(Part(p, {"n": p}) if isinstance(p, str) else p for p in parts)
    spawn = Spawn(stage, f"{item}/read/{name}", made)
    checkpoint = Checkpoint(seq, "read", f"spawn:{name}", None, None, None, 0.1)
    return Entry(item, checkpoint, spawn=spawn)


async def family(world: World, *names: str) -> tuple[WorkerId, ItemId, list[ItemId]]:
    """An item in a worker's hands, and its children in line."""
    worker, [item] = await world.take("bundle.zip")
    await world.store.commit(worker, [spawning(item, *names)])
    return worker, item, json.loads(await world.store.result_of(item, 0))


async def joining(world: World, worker: WorkerId, item: ItemId) -> None:
    """The parent parks until its children are final."""
    assert await world.move(worker, item, ToJoining("read", 1))


async def end(world: World, child: ItemId, move: Finish) -> None:
    """A worker ends one child."""
    worker = await world.join()
    claims = await world.claim(worker)
    others = [c.item.id for c in claims if c.item.id != child]
    await world.move(worker, child, move)
    for other in others:
        await world.move(worker, other, ToReady("read", 0))


# -- birth -----------------------------------------------------------------------------


async def test_children_are_born_with_the_checkpoint(world: World):
    """The step's result is their ids; they are in line with their own input, in
    their parent's batch, at the stage that was asked for."""
    worker, [item] = await world.take("bundle.zip")

    await world.store.commit(worker, [spawning(item, "a.pdf", "b.pdf", stage="judge")])

    ids = json.loads(await world.store.result_of(item, 0))
    parent = await world.store.item(item)
    rows = [await world.store.item(i) for i in ids]
    assert [(r.name, r.state, r.stage) for r in rows] == [
        ("a.pdf", State.READY, "judge"),
        ("b.pdf", State.READY, "judge"),
    ]
    assert {(r.tenant, r.batch, r.pipeline_id, r.deadline_at) for r in rows} == {
        (parent.tenant, parent.batch, parent.pipeline_id, parent.deadline_at)
    }
    assert [r.parent_id for r in rows] == [item, item]
    claims = sorted(await world.claim(worker, stage="judge"))
    assert [c.item.input for c in claims] == [{"n": "a.pdf"}, {"n": "b.pdf"}]


async def test_children_are_numbered_in_their_order(world: World):
    """The number of a child says where it stood, whatever its key."""
    worker, [item] = await world.take("bundle.zip")
    parts = [Part(f"{n}", {}, key=f"{99 - n}") for n in range(12)]

    await world.store.commit(worker, [spawning(item, *parts)])

    ids = json.loads(await world.store.result_of(item, 0))
    assert ids == sorted(ids)
    assert [k.name for k in await world.store.kin(item)] == [p.name for p in parts]


async def test_the_history_holds_the_ids(world: World):
    """What resumes the parent is an ordinary step."""
    _, item, ids = await family(world, "a", "b")

    [kept] = (await world.store.history([item]))[item]

    assert (kept.step, json.loads(kept.update)) == ("spawn:parts", ids)


async def test_a_refused_spawn_leaves_nothing(world: World):
    """When the checkpoint cannot stand there are no children either."""
    worker, [item] = await world.take("bundle.zip")
    await world.store.commit(worker, [Entry(item, step(0, "read", "page-1"))])

    with pytest.raises(Refused):
        await world.store.commit(worker, [spawning(item, "a", seq=0)])

    assert (await world.store.counts()).received == 1
    assert await world.store.kin(item) == []


async def test_a_neighbours_refusal_leaves_no_children(world: World):
    """All entries are one transaction."""
    worker, [item, other] = await world.take("bundle.zip", "b")
    await world.store.commit(worker, [Entry(other, step(0, "read", "page-1"))])

    with pytest.raises(Refused):
        await world.store.commit(
            worker, [spawning(item, "a"), Entry(other, step(0, "read", "page-1"))]
        )

    assert await world.store.kin(item) == []


async def test_a_zombies_children_are_not_born(world: World):
    """A worker whose lease ran out makes nothing."""
    worker, [item] = await world.take("bundle.zip")
    await world.clock.advance(31)

    with pytest.raises(LeaseLost):
        await world.store.commit(worker, [spawning(item, "a")])

    assert (await world.store.counts()).received == 1


async def test_only_the_owner_of_a_parent_has_its_children(world: World):
    """A worker that no longer has the item makes no children for it."""
    worker, [item] = await world.take("bundle.zip")
    await world.move(worker, item, ToReady("read", 0))

    with pytest.raises(Refused):
        await world.store.commit(worker, [spawning(item, "a")])

    assert await world.store.kin(item) == []


async def test_a_crash_after_the_birth_does_not_repeat_it(world: World):
    """The next worker finds the step with its ids in the history."""
    worker, item, ids = await family(world, "a", "b")

    await world.store.reap([worker], died=True)

    heir = await world.join()
    claims = {c.item.id: c for c in await world.claim(heir)}
    assert claims[item].seq == 1
    [kept] = (await world.store.history([item]))[item]
    assert json.loads(kept.update) == ids
    assert (await world.store.counts()).received == 3


async def test_result_of_nothing_is_not_found(world: World):
    """A checkpoint that is not there has no result."""
    [item] = await world.admit("a")

    with pytest.raises(NotFound):
        await world.store.result_of(item, 0)


# -- duplicates and refusals -----------------------------------------------------------


async def test_a_part_that_is_known_is_a_duplicate(world: World):
    """Of an admitted item, or of a part of the same spawn: its id is that one's, and
    it is nobody's child twice."""
    worker, [item] = await world.take("bundle.zip")
    [known] = [r.item_id for r in await world.receive(sent("letter", key="same"))]
    one, two = Part("one", {}, key="new"), Part("two", {}, key="new")

    await world.store.commit(
        worker, [spawning(item, Part("again", {}, key="same"), one, two)]
    )

    ids = json.loads(await world.store.result_of(item, 0))
    assert ids == [known, ids[1], ids[1]]
    assert [k.id for k in await world.store.kin(item)] == [ids[1]]
    counts = await world.store.counts()
    assert (counts.received, counts.duplicates, counts.live) == (5, 2, 3)


async def test_children_of_several_are_born_in_one_commit(world: World):
    """Each has its own, in order; a part that two found is the first one's child."""
    worker, [one, two, three] = await world.take("a.zip", "b.zip", "c.zip")
    await world.store.commit(worker, [spawning(three, "seen")])
    shared, bad = Part("shared", {}, key="same"), Part("x", {}, "", 1, "EMPTY", "why")

    await world.store.commit(
        worker,
        [
            spawning(one, "p", shared, stage="judge"),
            spawning(two, bad, shared, "q"),
            spawning(three, "seen", seq=1),  # parts that were seen before
            spawning(one, "more", seq=1, name="others"),
        ],
    )

    ids = [json.loads(await world.store.result_of(i, 0)) for i in (one, two, three)]
    [more] = json.loads(await world.store.result_of(one, 1))
    assert ids[1] == [None, ids[0][1], ids[1][2]]
    made = [*ids[0], ids[1][2], ids[2][0], more]
    rows = [await world.store.item(i) for i in made]
    assert [(r.name, r.stage, r.parent_id) for r in rows] == [
        ("p", "judge", one),
        ("shared", "judge", one),
        ("q", "read", two),
        ("seen", "read", three),
        ("more", "read", one),
    ]


async def test_parts_without_a_key_are_never_duplicates(world: World):
    """Two bundles may hold empty keys by the dozen."""
    worker, [one, two] = await world.take("one.zip", "two.zip")

    await world.store.commit(worker, [spawning(one, "a", "a"), spawning(two, "a", "a")])

    first = json.loads(await world.store.result_of(one, 0))
    second = json.loads(await world.store.result_of(two, 0))
    assert len({*first, *second}) == 4
    assert (await world.store.counts()).duplicates == 0


async def test_two_spawns_of_one_item_are_told_apart(world: World):
    """Slices of a large bundle have names of their own."""
    worker, item, first = await family(world, "a")

    await world.store.commit(worker, [spawning(item, "b", seq=1, name="parts-2")])

    second = json.loads(await world.store.result_of(item, 1))
    assert [k.id for k in await world.store.kin(item)] == [*first, *second]


async def test_a_refused_part_is_a_quarantined_receipt(world: World):
    """No item, but it is counted and says why."""
    worker, [item] = await world.take("bundle.zip")
    bad = Part("bomb.zip", {}, refused_code="TOO_DEEP", refused_why="bundles in it")

    await world.store.commit(worker, [spawning(item, bad, "a")])

    ids = json.loads(await world.store.result_of(item, 0))
    counts = await world.store.counts()
    assert ids[0] is None
    assert [k.id for k in await world.store.kin(item)] == ids[1:]
    assert (counts.received, counts.quarantined) == (3, 1)


# -- waiting for them ------------------------------------------------------------------


@pytest.mark.parametrize(
    "last",
    [
        done(),
        Finish(State.REJECTED, "read", "BLANK", "no ink"),
        Finish(State.FAILED, "read", "OCR", "broken"),
        Finish(State.CANCELLED, "read", "CANCELLED", "by ann"),
    ],
)
async def test_the_last_child_wakes_its_parent(world: World, last: Finish):
    """However it ends, and not before; the parent does not fail with it."""
    worker, item, [one, two] = await family(world, "a", "b")
    await joining(world, worker, item)
    await end(world, one, done())

    early, _ = await world.store.wake()
    await end(world, two, last)
    moved, _ = await world.store.wake()

    row = await world.store.item(item)
    assert (early, moved) == (0, 1)
    assert (row.state, row.stage, row.attempt) == (State.READY, "read", 0)


async def test_children_that_end_before_the_parent_parks_are_not_missed(world: World):
    """Who parks late is woken by what stands, not by what happens."""
    worker, item, [child] = await family(world, "a")
    await end(world, child, done())

    await joining(world, worker, item)

    assert (await world.store.wake())[0] == 1


async def test_held_children_are_open(world: World):
    """A person's answer is waited for; approving the last hold wakes the parent."""
    worker, item, [child] = await family(world, "a")
    await joining(world, worker, item)
    other = await world.join()
    await world.claim(other)
    await world.move(other, child, parked(after=""))

    early, _ = await world.store.wake()
    await world.decide(await world.store.hold_of(child))
    moved, _ = await world.store.wake()

    assert (early, moved) == (0, 1)


async def test_a_child_killed_with_its_workers_wakes_its_parent(world: World):
    """The reaper's ends count like any other."""
    worker, item, [child] = await family(world, "a")
    await joining(world, worker, item)
    for suspects in (False, False, True, True):
        await world.died_with(child, suspects=suspects)

    moved, _ = await world.store.wake()

    assert await world.state(child) is State.FAILED
    assert moved == 1


async def test_a_retried_child_is_waited_for_again(world: World):
    """Put back in line it is open."""
    worker, item, [child] = await family(world, "a")
    await end(world, child, Finish(State.FAILED, "read", "OCR", "broken"))
    await joining(world, worker, item)

    await world.store.retry([child], "ann")

    assert await world.store.open_children(item) == 1
    assert (await world.store.wake())[0] == 0
    await end(world, child, done())
    assert (await world.store.wake())[0] == 1


async def test_waiting_for_children_ends_at_the_deadline(world: World):
    """Then the parent goes on, and finds that it is over."""
    worker, item, _ = await family(world, "a")
    await joining(world, worker, item)

    await world.clock.advance(HOUR_S + 1)

    assert (await world.store.wake())[0] == 1
    assert await world.state(item) is State.READY


async def test_what_joins_is_a_waiting_item(world: World):
    """It says what for, and goes on at its deadline at the latest."""
    worker, item, _ = await family(world, "a")
    await joining(world, worker, item)

    row = await world.store.item(item)
    counts = await world.store.counts()
    moved, next_s = await world.store.wake()

    assert (row.state, row.stage, row.attempt) == (State.WAITING, "read", 0)
    assert (row.joining, row.why, row.until) == (True, "its children", row.deadline_at)
    assert (counts.live, counts.conserved) == (2, True)
    assert moved == 0
    assert HOUR_S - 60 < (next_s or 0) <= HOUR_S


async def test_the_next_timer_is_the_sooner_of_both_places(world: World):
    """A wait before the deadline of what joins is told, and the other way round."""
    worker, item, _ = await family(world, "a")
    [other] = await world.admit("b")
    await world.claim(worker)
    await joining(world, worker, item)
    _, alone_s = await world.store.wake()
    await world.move(worker, other, waiting(60))

    _, beside_s = await world.store.wake()

    assert (alone_s or 0) > 60 >= (beside_s or 0)


async def test_a_move_of_somebody_elses_item_to_join_is_void(world: World):
    """A worker that no longer has the item parks nothing."""
    _, item, _ = await family(world, "a")
    other = await world.join()

    assert not await world.move(other, item, ToJoining("read", 1))

    assert await world.state(item) is State.RUNNING


async def test_what_was_cancelled_while_it_ran_does_not_join(world: World):
    """The cancellation that its worker had not heard of ends it, and its child."""
    worker, item, [child] = await family(world, "a")
    await world.store.cancel([item], "ann")

    await joining(world, worker, item)

    assert await world.states([item, child]) == [State.CANCELLED, State.CANCELLED]


@pytest.mark.parametrize("why", ["THROTTLED", "JOIN", "its children"])
async def test_other_waits_are_not_children(world: World, why: str):
    """A childless item that waits for a vendor waits on, whatever its reason says."""
    worker, [item] = await world.take("a")
    await world.move(worker, item, waiting(60, why=why))

    assert (await world.store.wake())[0] == 0
    assert not (await world.store.item(item)).joining


async def test_kin_tells_how_each_child_ended(world: World):
    """By id; open ones have no state yet."""
    _, item, [one, two, three] = await family(world, "a", "b", "c")
    await end(world, one, done("write"))
    await end(world, two, Finish(State.REJECTED, "judge", "BLANK", "no ink"))

    rows = await world.store.kin(item)

    assert [(r.id, r.name, r.state, r.stage, r.code) for r in rows] == [
        (one, "a", "done", "write", ""),
        (two, "b", "rejected", "judge", "BLANK"),
        (three, "c", None, "", ""),
    ]
    assert [r.input for r in rows] == [{"n": "a"}, {"n": "b"}, {"n": "c"}]
    assert [r.id for r in await world.store.kin(item, [two])] == [two]
    assert await world.store.open_children(item) == 1


# -- cancelling a family ---------------------------------------------------------------


async def test_cancelling_a_parent_cancels_its_open_children(world: World):
    """Ready, waiting and held ones at once, running ones through their worker;
    what is final stays as it is; grandchildren too."""
    worker, item, ids = await family(world, "ready", "waits", "held", "runs", "done")
    ready, waits, held, runs, ended = ids
    await end(world, ended, done())
    other = await world.join()
    await world.claim(other)
    await world.move(other, waits, waiting(60))
    await world.move(other, held, parked())
    await world.store.commit(other, [spawning(ready, "grandchild")])
    [grandchild] = json.loads(await world.store.result_of(ready, 0))
    await world.move(other, ready, ToReady("read", 1))
    await joining(world, worker, item)

    said = await world.store.cancel([item], "ann")

    assert said == {item: "cancelled"}
    assert await world.states([ready, waits, held, runs, ended, grandchild]) == [
        State.CANCELLED,
        State.CANCELLED,
        State.CANCELLED,
        State.RUNNING,
        State.DONE,
        State.CANCELLED,
    ]
    assert await world.store.renew(other, lease_s=30) == [runs]


async def test_a_running_parent_takes_its_children_along(world: World):
    """Cancelled while it runs: its children end when its worker lets go."""
    worker, item, [child] = await family(world, "a")
    await world.store.cancel([item], "ann")

    before = await world.state(child)
    await world.move(worker, item, Finish(State.CANCELLED, "read", "CANCELLED", ""))

    assert (before, await world.state(child)) == (State.READY, State.CANCELLED)
    assert (await world.store.item(child)).why == f"cancelled by item {item}"


async def test_a_parent_that_fails_leaves_its_children_alone(world: World):
    """They are documents of their own."""
    worker, item, [child] = await family(world, "a")

    await world.move(worker, item, Finish(State.FAILED, "read", "X", ""))

    assert await world.state(child) is State.READY


async def test_a_finished_step_beside_a_spawn_stands(world: World):
    """One commit, several items: each gets its own."""
    worker, [item, other] = await world.take("bundle.zip", "b")

    stood = await world.store.commit(
        worker,
        [spawning(item, "a"), Entry(other, finished(0, "read", ""), done())],
    )

    assert stood == [True, True]
    assert await world.state(other) is State.DONE
    assert len(await world.store.kin(item)) == 1
