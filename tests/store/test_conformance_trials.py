"""
Trials: batches that are run to be scored.  On both stores.
"""

from __future__ import annotations

import pytest

from pipeline.errors import Conflict
from pipeline.model import Batch, Disposal, Entry, Spawn
from pipeline.outbox import EffectState as S
from pipeline.outbox import Planned, SinkClass
from pipeline.parts import Part
from pipeline.store.effects import Room
from pipeline.store.rows import EffortRow, TrialRow
from tests.store.world import World, done, finished, parked, sent, step

PLAN = Planned("read", "tell", "shop", "k1", SinkClass.A, "{}", None, "{}", True)
ROOMS = [Room("shop", SinkClass.A, 100)]


async def trial(world: World, name: str = "t1", of: str = "digest") -> Batch:
    return await world.store.open_batch("acme", name, deadline_s=3600, trial=of)


async def test_each_delivery_of_a_trial_is_an_item(world: World) -> None:
    """Of the same bytes, in it and elsewhere; offered again it is the one it was."""
    await world.receive(sent("a", "bytes"))
    first, second = sent("a", "bytes", token="1"), sent("a", "bytes", token="2")
    batch = await trial(world)

    receipts = await world.receive(first, second, batch=batch)
    again = await world.receive(second, first, batch=batch)
    after = await world.receive(sent("a", "bytes"))

    assert [r.disposal for r in receipts] == [Disposal.ITEM, Disposal.ITEM]
    assert len({r.item_id for r in receipts}) == 2
    assert [r.item_id for r in again] == [r.item_id for r in reversed(receipts)]
    assert after[0].disposal is Disposal.DUPLICATE


async def test_what_is_found_in_a_trials_item_is_its_own(world: World) -> None:
    """Known bytes are no duplicate there; twice in one item they are."""
    await world.receive(sent("inner", "bytes"))
    receipts = await world.receive(sent("bundle"), batch=await trial(world))
    worker = await world.join()
    claims = await world.claim(worker)
    parent = receipts[0].item_id
    assert {c.item.id: c.item.trial for c in claims} == {
        **{c.item.id: False for c in claims},
        parent: True,
    }
    parts = (Part("x", {}, "bytes"), Part("y", {}, "bytes"))
    born = Entry(parent, step(0, "read", "parts"), spawn=Spawn("read", "1/p", parts))

    await world.store.commit(worker, [born])

    found = await world.claim(worker)
    assert [(c.item.name, c.item.trial) for c in found] == [("x", True)]


async def test_an_effect_of_a_trial_is_written_down_and_never_sent(
    world: World,
) -> None:
    """No courier takes it, and no person can have it sent."""
    await world.receive(sent("a"), batch=await trial(world))
    worker = await world.join()
    [claim] = await world.claim(worker)
    entry = Entry(
        claim.item.id,
        finished(0, "read", ""),
        done(),
        effects=(PLAN, PLAN._replace(name="later", key="k2", released=False)),
    )

    await world.store.commit(worker, [entry])

    rows = await world.store.effects()
    assert [(e.state, e.due_at) for e in rows] == [(S.NOT_SENT, None)] * 2
    await world.clock.advance(20)
    assert await world.store.take_effects(worker, ROOMS) == []
    assert await world.store.count_effects() == {}
    assert await world.store.count_effects(rows[0].batch_id) == {
        ("shop", S.NOT_SENT): 2
    }
    ids = [e.id for e in rows]
    assert await world.store.release_effects("ann", ids=ids, in_s=0) == []
    for each in ids:
        with pytest.raises(Conflict):
            await world.store.resend_effect(each, "ann")


async def test_reviewers_are_not_shown_what_a_trial_holds(world: World) -> None:
    """But whoever names its batch."""
    await world.receive(sent("a"), batch=(batch := await trial(world)))
    worker = await world.join()
    [claim] = await world.claim(worker)
    await world.move(worker, claim.item.id, parked())
    hold = await world.store.hold_of(claim.item.id)
    ours = await world.hold()

    assert [h.id for h in await world.store.holds()] == [ours.id]
    assert [h.id for h in await world.store.holds(batch_id=batch.id)] == [hold.id]
    next_ = await world.store.claim_next("ann", lease_s=9)
    assert next_ is not None
    assert next_.id == ours.id
    assert await world.store.claim_next("bob", lease_s=9) is None
    await world.decide(hold, author="bob")
    assert await world.store.holds(decided=True) == []


async def test_a_trial_and_a_batch_never_share_a_name(world: World) -> None:
    """Nor do trials of two things."""
    await world.batch("may")
    await trial(world, "t1")

    assert (await trial(world, "t1")).trial == "digest"
    for name, of in (("may", "digest"), ("t1", ""), ("t1", "other")):
        with pytest.raises(Conflict, match="trial"):
            await trial(world, name, of)


async def test_trials_are_found_by_what_they_try(postgres: World) -> None:
    """Newest first, and whether their result is written; ordinary batches never end."""
    first, second = await trial(postgres, "t1"), await trial(postgres, "t2")
    await trial(postgres, "t3", "other")
    ordinary = await postgres.batch()

    await postgres.store.end_trials([first.id, ordinary.id])

    assert await postgres.store.trials("acme", "digest") == [
        TrialRow(second.id, "t2", ended=False),
        TrialRow(first.id, "t1", ended=True),
    ]
    assert await postgres.store.trials("nobody", "digest") == []
    listed = {b.name: b.trial for b in await postgres.store.batches()}
    assert listed == {"t1": True, "t2": True, "t3": True, "may": False}
    assert await postgres.store.stands() == []


async def test_an_items_effort_is_that_of_all_found_in_it(postgres: World) -> None:
    """Of stages, not of their steps again; what was refused has none."""
    batch = await trial(postgres)
    refused = sent("bad", refused_code="BAD")
    receipts = await postgres.receive(sent("a"), sent("b"), refused, batch=batch)
    worker = await postgres.join()
    await postgres.claim(worker)
    a, b = receipts[0].item_id, receipts[1].item_id
    assert a is not None
    assert b is not None
    parts = Spawn("read", f"{a}/p", (Part("x", {}),))
    await postgres.store.commit(
        worker, [Entry(a, step(0, "read", "parts"), spawn=parts)]
    )
    [child] = await postgres.claim(worker)
    for item, seq in ((a, 1), (child.item.id, 0)):
        entry = Entry(item, finished(seq, "read", ""), done())
        await postgres.store.commit(worker, [entry])

    found = await postgres.store.efforts(batch.id)
    assert {row.item: row for row in found} == {
        a: EffortRow(a, 1.0, 0, {}),
        b: EffortRow(b, 0.0, 0, {}),
    }
    assert await postgres.store.quarantined() == []
    assert len(await postgres.store.quarantined(batch_id=batch.id)) == 1
