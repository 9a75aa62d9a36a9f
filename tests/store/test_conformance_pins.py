"""
Items go on with another version of their pipeline, on both stores.

Every call in these tests is followed by the conservation law and a search for
items astray (`world.Lawful`).
"""

from __future__ import annotations

import pytest

from pipeline.errors import Conflict
from pipeline.model import Entry, Finish, Move, State, ToJoining, ToReady
from pipeline.store.rows import Mark
from tests.store.world import STAGES, World, done, finished, parked, step, waiting


async def mended(world: World) -> int:
    """Another version of the world's pipeline."""
    return await world.store.register_pipeline("letters", "v2", STAGES, {})


@pytest.mark.parametrize(
    "move",
    [
        ToReady("judge", 2, 3),
        Finish(State.FAILED, "judge", "STAGE_RAISED"),
        Finish(State.REJECTED, "judge", "NO"),
        Finish(State.CANCELLED, "judge", "CANCELLED"),
        parked(2, stage="judge", after="write"),
        None,
    ],
    ids=["ready", "failed", "rejected", "cancelled", "held", "waiting"],
)
async def test_an_item_goes_on_where_it_stands(world: World, move: Move | None):
    """With the new version, its checkpoints, and fresh tries; its hold is closed."""
    worker, [item, other] = await world.take("a", "b")
    await world.store.commit(worker, [Entry(item, finished(0, "read", "judge"))])
    await world.store.commit(worker, [Entry(item, step(1, "judge", "rule-1"))])
    if move is None:
        wait = waiting(60)
        move = type(wait)("judge", 2, 3, 60, "THROTTLED")
    await world.move(worker, item, move)
    await world.move(worker, other, ToReady("judge", 0))
    number = await mended(world)

    said = await world.store.pin({item: Mark("judge", 1)}, number, "ann")

    assert said == {item: "ready"}
    assert await world.store.holds() == []
    claims = await world.claim(await world.join(), stage="judge")
    [mine] = [c for c in claims if c.item.id == item]
    [its] = [c for c in claims if c.item.id == other]
    assert (mine.seq, mine.attempt, mine.item.pipeline_id) == (2, 0, number)
    assert its.item.pipeline_id == world.pipeline
    assert len((await world.store.history([item]))[item]) == 2


async def test_what_moved_since_it_was_looked_at_stays(world: World):
    """Another stage, or one more checkpoint: nobody looked whether those fit."""
    worker, [item] = await world.take("a")
    await world.store.commit(worker, [Entry(item, finished(0, "read", "judge"))])
    await world.move(worker, item, Finish(State.FAILED, "judge", "ODD"))
    number = await mended(world)

    for mark in (Mark("read", 0), Mark("judge", -1), Mark("judge", 1)):
        assert await world.store.pin({item: mark}, number, "ann") == {item: "moved"}

    row = await world.store.item(item)
    assert (row.state, row.pipeline_id) == (State.FAILED, world.pipeline)


async def test_what_a_worker_has_and_what_is_done_stay(world: World):
    """A running item ends as it began, and a done one never runs again."""
    worker, [ended, running] = await world.take("a", "b")
    await world.move(worker, ended, done())
    number = await mended(world)
    marks = {ended: Mark("read", -1), running: Mark("read", -1)}

    said = await world.store.pin(marks, number, "ann")

    assert said == {ended: "moved", running: "moved"}
    for item, state in ((ended, State.DONE), (running, State.RUNNING)):
        row = await world.store.item(item)
        assert (row.state, row.pipeline_id) == (state, world.pipeline)


async def test_who_waits_for_children_waits_on(world: World):
    """Pinned, it still joins when they are final."""
    worker, [item] = await world.take("a")
    await world.move(worker, item, ToJoining("read", 0))
    number = await mended(world)

    said = await world.store.pin({item: Mark("read", -1)}, number, "ann")

    assert said == {item: "joining"}
    row = await world.store.item(item)
    assert (row.joining, row.pipeline_id) == (True, number)


async def test_a_hold_that_somebody_reads_is_not_taken_away(world: World):
    """Until that reviewer's time is over."""
    hold = await world.hold()
    await world.store.claim_hold(hold.id, "ann", lease_s=60)
    number = await mended(world)
    marks = {hold.item_id: Mark("read", -1)}

    first = await world.store.pin(marks, number, "bob")
    await world.clock.advance(61)
    then = await world.store.pin(marks, number, "bob")

    assert (first, then) == ({hold.item_id: "moved"}, {hold.item_id: "ready"})
    with pytest.raises(Conflict, match="cancelled or retried"):
        await world.decide(hold)


async def test_a_suspect_starts_with_a_clean_record(world: World):
    """It was the old code that killed its workers."""
    [item] = await world.admit("a")
    await world.died_with(item)
    await world.died_with(item)
    assert await world.store.suspects() != []

    await world.store.pin({item: Mark("read", -1)}, await mended(world), "ann")

    assert await world.store.suspects() == []
    [claim] = await world.claim(await world.join())
    assert claim.item.id == item
