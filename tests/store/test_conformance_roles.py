"""Holds of a role, which stand in a line of their own, on both stores."""

from __future__ import annotations

from pipeline.store.rows import Sought
from tests.store.world import World

ROLE = "safeguarding"
COMMON, THEIRS = Sought(role=""), Sought(role=ROLE)


async def test_each_line_has_its_own_holds(world: World):
    """In neither list nor claim does one line show the other's; both together all."""
    common = await world.hold()
    grave = await world.hold(role=ROLE, within_s=60.0)

    lists = [
        [h.id for h in await world.store.holds(sought=line)]
        for line in (COMMON, THEIRS, Sought())
    ]
    first = await world.store.claim_next("ann", lease_s=60)
    second = await world.store.claim_next("bob", lease_s=60)
    theirs = await world.store.claim_next("bob", lease_s=60, role=ROLE)

    assert lists == [[common.id], [grave.id], [grave.id, common.id]]
    assert first is not None
    assert theirs is not None
    assert (first.id, second, theirs.id) == (common.id, None, grave.id)


async def test_its_clock_is_its_own_and_never_past_the_deadline(world: World):
    """So long from when it is held; and what has none is due by its deadline."""
    soon = await world.hold(role=ROLE, within_s=60.0)
    late = await world.hold(role=ROLE, within_s=1e8)
    plain = await world.hold()

    assert soon.due_at is not None
    assert abs((soon.due_at - soon.held_at).total_seconds() - 60) < 1
    assert late.due_at == late.deadline_at
    assert plain.due_at == plain.deadline_at
    assert [h.id for h in await world.store.holds(sought=THEIRS)] == [soon.id, late.id]


async def test_a_decided_hold_keeps_its_role(world: World):
    """And is found by it."""
    await world.decide(await world.hold())
    grave = await world.decide(await world.hold(role=ROLE))

    found = await world.store.holds(decided=True, sought=THEIRS)

    assert [h.id for h in found] == [grave.id]
