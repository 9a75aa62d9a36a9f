"""Holds that nobody decides in time, on both stores."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.errors import Conflict, Integrity
from pipeline.model import State
from pipeline.store.rows import HoldRow
from tests.store.world import World

GOES_ON = json.dumps({"ends": False, "update": {"text": "nobody said"}})
LAPSE_S = 600.0
ENDS = json.dumps({"ends": True, "update": {}})


async def held(world: World, **more: Any) -> HoldRow:
    return await world.hold(lapse=GOES_ON, lapse_s=LAPSE_S, **more)


@pytest.mark.parametrize(("more", "stage"), [({}, "judge"), ({"again": True}, "read")])
async def test_it_goes_on_as_it_was_declared(
    world: World, more: dict[str, Any], stage: str
):
    """Expired, by nobody; with what was declared, and nothing that was proposed."""
    hold = await held(world, **more)

    moved, next_s = await world.store.wake()
    assert moved == 0
    assert 0 < next_s <= LAPSE_S
    assert await world.state(hold.item_id) is State.HELD
    await world.clock.advance(LAPSE_S + 1)
    moved, _ = await world.store.wake()

    assert moved == 1
    found = await world.store.item(hold.item_id)
    assert (found.state, found.stage) == (State.READY, stage)
    after = await world.store.hold(hold.id)
    assert after.decision is not None
    assert (after.decision.verb, after.decision.author) == ("expired", "nobody")
    [kept] = (await world.store.history([hold.item_id]))[hold.item_id]
    assert json.loads(kept.update or "") == {"text": "nobody said"}
    assert (await world.store.wake())[0] == 0


async def test_it_ends_as_it_was_declared(world: World):
    """Rejected, by its own code: nobody denied it."""
    hold = await world.hold(lapse=ENDS, lapse_s=LAPSE_S)

    await world.clock.advance(LAPSE_S + 1)
    await world.store.wake()

    found = await world.store.item(hold.item_id)
    assert (found.state, found.code) == (State.REJECTED, "HOLD_EXPIRED")


@pytest.mark.parametrize("woken", [False, True])
async def test_a_late_answer_is_refused(world: World, woken: bool):
    """Also before anybody has looked at the clock."""
    hold = await held(world)
    await world.clock.advance(LAPSE_S + 1)
    if woken:
        await world.store.wake()

    with pytest.raises(Conflict, match="lapsed at") as refused:
        await world.decide(hold)

    assert refused.value.code == "LAPSED"
    assert await world.state(hold.item_id) is (State.READY if woken else State.HELD)


async def test_who_decides_in_time_is_heard(world: World):
    """It lapses no more."""
    hold = await held(world)
    await world.clock.advance(LAPSE_S / 2)
    await world.decide(hold)
    await world.clock.advance(LAPSE_S)

    assert (await world.store.wake())[0] == 0
    after = await world.store.hold(hold.id)
    assert after.decision is not None
    assert after.decision.verb == "approve"


async def test_what_lapsing_does_is_a_part_of_what_was_shown(world: World):
    """Who changes it in the database has it refused, by people and by time."""
    hold = await held(world)
    plain = await world.hold()
    await world.change_hold(hold.id, lapse={"ends": True, "update": {}})

    with pytest.raises(Integrity):
        await world.decide(hold)
    await world.clock.advance(LAPSE_S + 1)

    assert (await world.store.wake())[0] == 0
    assert await world.states([hold.item_id, plain.item_id]) == [State.HELD] * 2
