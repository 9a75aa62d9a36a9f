"""
What stays quick however much there is: the next hold, a claim among thousands of
tenants, references in place of what is large.  On both stores.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import anyio
import pytest

from pipeline.model import Entry
from pipeline.store.port import HISTORY_BYTES, TENANTS_MIN
from pipeline.store.rows import Share
from tests.store.world import World, parked, step

# -- the next hold ---------------------------------------------------------------------


async def test_the_next_hold_is_the_first_of_the_line(world: World):
    """Most urgent first; of those equally urgent, what needs only a look."""
    worker = await world.join()
    for name, deadline_s, needs in (
        ("late", 900, ()),
        ("typed", 100, ("text",)),
        ("look", 100, ()),
    ):
        [item] = await world.admit(name, batch=str(deadline_s), deadline_s=deadline_s)
        await world.claim(worker)
        await world.move(worker, item, replace(parked(), needs=needs))

    names = [
        (await world.store.claim_next(f"r{n}", lease_s=60)).item_name for n in range(3)
    ]

    assert names == ["look", "typed", "late"]
    assert await world.store.claim_next("r4", lease_s=60) is None


async def test_the_next_hold_is_claimed(world: World):
    """It is this reviewer's as if claimed by its number, and stays the next one."""
    hold = await world.hold()

    mine = await world.store.claim_next("ann", lease_s=60)
    again = await world.store.claim_next("ann", lease_s=90)

    assert mine.id == again.id == hold.id
    assert again.claimed_by == "ann"
    assert again.claimed_until > mine.claimed_until
    assert again == await world.store.hold(hold.id)


async def test_an_expired_lease_makes_a_hold_the_next_one_again(world: World):
    """Who went to lunch hides nothing."""
    hold = await world.hold()
    await world.store.claim_next("ann", lease_s=60)
    nothing = await world.store.claim_next("bob", lease_s=60)
    await world.clock.advance(61)

    found = await world.store.claim_next("bob", lease_s=60)

    assert nothing is None
    assert (found.id, found.claimed_by) == (hold.id, "bob")


async def test_many_claimed_ones_hide_none(world: World):
    """However many one reviewer has, the next free one is found."""
    holds = [await world.hold() for _ in range(30)]
    for hold in holds[:29]:
        await world.store.claim_hold(hold.id, "ann", lease_s=60)

    found = await world.store.claim_next("bob", lease_s=60)

    assert found.id == holds[29].id


async def test_the_next_hold_of_a_tenant(world: World):
    """A reviewer of one tenant gets no other's."""
    worker = await world.join()
    for tenant in ("acme", "bravo"):
        [item] = await world.admit("a", tenant=tenant, deadline_s=100)
        await world.claim(worker)
        await world.move(worker, item, parked())

    found = await world.store.claim_next("ann", lease_s=60, tenant="bravo")
    other = await world.store.claim_next("bob", lease_s=60, tenant="bravo")

    assert found.tenant == "bravo"
    assert other is None


async def test_reviewers_at_one_instant_get_different_holds(world: World):
    """As many holds as reviewers: everybody has one, nobody is refused."""
    holds = {(await world.hold()).id for _ in range(8)}
    got = []

    async def one(name: str) -> None:
        got.append((await world.store.claim_next(name, lease_s=60)).id)

    async with anyio.create_task_group() as tasks:
        for n in range(8):
            tasks.start_soon(one, f"reviewer-{n}")

    assert sorted(got) == sorted(holds)


async def test_a_decided_hold_is_nobodys_next(world: World):
    """There is nothing left to do about it."""
    await world.decide(await world.hold())

    assert await world.store.claim_next("ann", lease_s=60) is None


# -- references ------------------------------------------------------------------------


async def test_a_hold_keeps_the_names_of_what_is_large(world: World):
    """Picture and proposal may each stand in an artifact."""
    worker, [one, two] = await world.take("a", "b")
    picture = replace(parked(), shown=None, shown_ref="a" * 64)
    proposal = replace(parked(), proposal=None, proposal_ref="b" * 64)
    await world.move(worker, one, picture)
    await world.move(worker, two, proposal)

    first, second = await world.store.hold_of(one), await world.store.hold_of(two)

    assert (first.shown, first.shown_ref, first.proposal_ref) == ({}, "a" * 64, None)
    assert first.proposal == {"text": "proposed"}
    assert (second.proposal, second.proposal_ref) == ({}, "b" * 64)


async def test_a_large_ruling_is_a_reference(world: World):
    """What a decision puts into the state may stand in an artifact, too."""
    hold = await world.hold()

    await world.decide(hold, update=None, ref="c" * 64)

    [checkpoint] = (await world.store.history([hold.item_id]))[hold.item_id]
    assert (checkpoint.update, checkpoint.ref) == (None, "c" * 64)
    assert checkpoint.next_stage == "judge"


# -- claims ----------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [2, TENANTS_MIN + 6])
async def test_tenants_beyond_a_claim_have_their_turn(world: World, limit: int):
    """A claim looks at some of many tenants, and in turns at all of them."""
    count = TENANTS_MIN + 20
    for n in range(count):
        await world.admit(f"n{n}", tenant=f"tenant-{n:03}")
    worker = await world.join()
    seen: list[str] = []

    rounds = 0
    while claims := await world.claim(worker, limit):
        rounds += 1
        seen += [c.item.tenant for c in claims]

    assert Counter(seen) == {f"tenant-{n:03}": 1 for n in range(count)}
    assert rounds == -(-count // limit)


async def test_among_many_tenants_each_gets_as_much(world: World):
    """Everybody has had a turn before anybody has had two more than another."""
    count = TENANTS_MIN + 16
    for n in range(count):
        await world.admit(f"{n}-a", f"{n}-b", f"{n}-c", tenant=f"tenant-{n:03}")
    worker = await world.join()
    served = {f"tenant-{n:03}": 0.0 for n in range(count)}

    for _ in range(4):
        shares = {t: Share(s, 1.0) for t, s in served.items()}
        for claim in await world.claim(worker, TENANTS_MIN // 2, shares=shares):
            served[claim.item.tenant] += 1

    assert max(served.values()) - min(served.values()) <= 2
    assert sum(served.values()) == 4 * (TENANTS_MIN // 2)


async def test_a_small_tenant_beside_many_is_served_within_a_round(world: World):
    """The last to come waits no longer than until everybody was looked at once."""
    for n in range(TENANTS_MIN + 10):
        items = (f"{n}-{i}" for i in range(4))
        await world.admit(*items, tenant=f"tenant-{n:03}")
    [newcomer] = await world.admit("one", tenant="zulu")
    worker = await world.join()

    claimed = [await world.claim(worker, TENANTS_MIN) for _ in range(2)]

    assert newcomer in [c.item.id for claims in claimed for c in claims]


# -- histories -------------------------------------------------------------------------


async def test_histories_are_read_whole_in_slices(world: World):
    """However large they are together, every checkpoint is there, in order."""
    worker, items = await world.take("a", "b", "c")
    text = f'"{"x" * 8000}"'
    many = 2 * HISTORY_BYTES // 8000 // 3
    for item in items:
        steps = [step(n, "read", f"s{n}", text) for n in range(many)]
        await world.store.commit(worker, [Entry(item, s) for s in steps])

    found = await world.store.history(items)

    assert {i: [c.seq for c in kept] for i, kept in found.items()} == {
        i: list(range(many)) for i in items
    }


async def test_one_slice_leaves_out_what_is_not_whole(world: World):
    """Nobody goes on with half of a history."""
    worker, [small, large, none] = await world.take("a", "b", "c")
    await world.store.commit(worker, [Entry(small, step(0, "read", "s"))])
    many = 5000  # rows: whatever they hold, more than one slice
    text = f'"{"x" * 1000}"'
    for at in range(0, many, 500):
        steps = [step(n, "read", f"s{n}", text) for n in range(at, at + 500)]
        await world.store.commit(worker, [Entry(large, s) for s in steps])

    found = await world.store.history([none, small, large], slices=1)

    assert set(found) == {small}
    assert len((await world.store.history([large]))[large]) == many
    assert await world.store.history([none], slices=1) == {none: []}
