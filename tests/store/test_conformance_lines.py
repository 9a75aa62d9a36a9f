"""
Claims: who gets which item, on both stores.

Every call in these tests is followed by the conservation law and a search for
items astray (`world.Lawful`).
"""

from __future__ import annotations

from collections import Counter
from uuid import uuid4

import pytest

from pipeline.errors import LeaseLost
from pipeline.model import Entry, Finish, ItemId, State, ToReady
from pipeline.store.rows import Share
from tests.store.world import World, done, finished, waiting


async def test_the_earliest_deadline_of_a_tenant_is_claimed_first(world: World):
    """Within a tenant items are served by deadline, whatever their arrival."""
    late = await world.admit("a", batch="late", deadline_s=900)
    soon = await world.admit("b", batch="soon", deadline_s=100)
    middle = await world.admit("c", batch="middle", deadline_s=500)
    worker = await world.join()

    order = [(await world.claim(worker, 1))[0].item.id for _ in range(3)]

    assert order == [*soon, *middle, *late]


async def test_the_most_urgent_of_a_long_line_is_claimed_first(world: World):
    """However much came before it, an item with less time left goes first."""
    await world.admit(*(f"n{n}" for n in range(60)), batch="late", deadline_s=900)
    urgent = await world.admit("urgent", batch="soon", deadline_s=100)
    worker = await world.join()

    [claim] = await world.claim(worker, 1)

    assert [claim.item.id] == urgent


async def test_equal_deadlines_are_served_in_order_of_arrival(world: World):
    """Of two items with one deadline the first received goes first."""
    items = [(await world.admit(name))[0] for name in ("c", "a", "b")]
    worker = await world.join()

    order = [(await world.claim(worker, 1))[0].item.id for _ in range(3)]

    assert order == items


async def test_a_claim_tells_everything_a_stage_needs(world: World):
    """A claim carries the item's facts, its place, and the time that is left."""
    [item] = await world.admit("a", deadline_s=500)
    await world.clock.advance(200)
    worker = await world.join()

    [claim] = await world.claim(worker)

    assert (claim.item.id, claim.item.name, claim.item.tenant) == (item, "a", "acme")
    assert (claim.item.batch, claim.item.pipeline_id) == ("may", world.pipeline)
    assert (claim.stage, claim.seq, claim.attempt, claim.solo) == ("read", 0, 0, False)
    assert claim.left_s == pytest.approx(300, abs=5)


async def test_a_claim_never_takes_more_than_asked(world: World):
    """Whatever the number of tenants, at most `limit` items are taken."""
    for tenant in ("acme", "bravo", "cargo"):
        await world.admit(*(f"{tenant}-{n}" for n in range(20)), tenant=tenant)
    worker = await world.join()

    sizes = [len(await world.claim(worker, limit)) for limit in (1, 2, 7, 20)]

    assert sizes == [1, 2, 7, 20]


async def test_a_claim_takes_all_there_is_when_asked_for_more(world: World):
    """One tenant's backlog is claimed whole when there is room for it."""
    items = await world.admit(*(f"n{n}" for n in range(40)))
    worker = await world.join()

    claims = await world.claim(worker, 100)

    assert {c.item.id for c in claims} == set(items)


async def test_nothing_is_claimed_twice(world: World):
    """What one worker has, no other gets."""
    items = await world.admit(*(f"n{n}" for n in range(9)))
    one, two = await world.join(), await world.join()

    first = await world.claim(one, 5)
    second = await world.claim(two, 5)

    assert len(first) == 5
    assert sorted(c.item.id for c in first + second) == sorted(items)


async def test_a_claim_is_for_one_stage(world: World):
    """Items of other stages stay where they are."""
    worker, [moved] = await world.take("moved")
    await world.move(worker, moved, ToReady("judge", 1))
    await world.admit("fresh")

    claims = await world.claim(worker, stage="judge")

    assert [c.item.id for c in claims] == [moved]
    assert await world.store.lines() == ["read"]


async def test_lines_names_the_stages_with_ready_items(world: World):
    """`lines` lists each stage where something is ready, and no other."""
    empty = await world.store.lines()
    worker, [one, two, _] = await world.take("a", "b", "c")
    await world.move(worker, one, ToReady("write", 2))
    await world.move(worker, two, ToReady("judge", 1))

    lines = await world.store.lines()

    assert empty == []
    assert sorted(lines) == ["judge", "write"]


async def test_a_flood_of_one_tenant_does_not_starve_another(world: World):
    """A tenant with two items gets both into a claim of ten over a flood."""
    flood = await world.admit(*(f"f{n}" for n in range(300)), deadline_s=60)
    few = await world.admit("a", "b", tenant="bravo", deadline_s=9000)
    worker = await world.join()

    claims = await world.claim(worker, 10)

    assert {c.item.id for c in claims} >= set(few)
    assert len({c.item.id for c in claims} & set(flood)) == 8


async def test_a_claim_is_shared_by_weight(world: World):
    """Weights of 3 and 1 get 3 and 1 of every four items of one claim."""
    for tenant in ("acme", "bravo"):
        await world.admit(*(f"{tenant}-{n}" for n in range(60)), tenant=tenant)
    worker = await world.join()
    shares = {"acme": Share(0, 3), "bravo": Share(0, 1)}

    claims = await world.claim(worker, 40, shares=shares)

    assert Counter(c.item.tenant for c in claims) == {"acme": 30, "bravo": 10}


async def test_a_heavy_tenant_among_many_gets_its_weight(world: World):
    """One of ten parts each for two tenants leaves eight to the third."""
    for tenant in ("acme", "bravo", "cargo"):
        await world.admit(*(f"{tenant}-{n}" for n in range(60)), tenant=tenant)
    worker = await world.join()
    shares = {"acme": Share(0, 8), "bravo": Share(0, 1), "cargo": Share(0, 1)}

    claims = await world.claim(worker, 50, shares=shares)

    got = Counter(c.item.tenant for c in claims)
    assert got == {"acme": 40, "bravo": 5, "cargo": 5}


async def test_many_small_claims_are_shared_by_weight(world: World):
    """Served work is remembered: claims of one item each end up 3 to 1, too."""
    weights = {"acme": 3.0, "bravo": 1.0}
    for tenant in weights:
        await world.admit(*(f"{tenant}-{n}" for n in range(40)), tenant=tenant)
    worker = await world.join()
    served = dict.fromkeys(weights, 0.0)
    got: Counter[str] = Counter()

    for _ in range(24):
        shares = {t: Share(served[t], weights[t]) for t in weights}
        [claim] = await world.claim(worker, 1, shares=shares)
        served[claim.item.tenant] += 1 / weights[claim.item.tenant]
        got[claim.item.tenant] += 1

    assert got == {"acme": 18, "bravo": 6}


async def test_a_new_tenant_begins_level_with_the_least_served(world: World):
    """A tenant not met yet is owed nothing for the past, and waits for nobody."""
    for tenant in ("acme", "bravo", "newcomer"):
        await world.admit(*(f"{tenant}-{n}" for n in range(30)), tenant=tenant)
    worker = await world.join()
    shares = {"acme": Share(1000, 1), "bravo": Share(1000, 1)}

    claims = await world.claim(worker, 30, shares=shares)

    got = Counter(c.item.tenant for c in claims)
    assert got == {"acme": 10, "bravo": 10, "newcomer": 10}


async def test_who_was_served_less_is_served_first(world: World):
    """A tenant that is ahead waits until the other has caught up."""
    for tenant in ("acme", "bravo"):
        await world.admit(*(f"{tenant}-{n}" for n in range(30)), tenant=tenant)
    worker = await world.join()
    shares = {"acme": Share(6, 1), "bravo": Share(0, 1)}

    claims = await world.claim(worker, 10, shares=shares)

    assert Counter(c.item.tenant for c in claims) == {"acme": 2, "bravo": 8}


async def test_weights_lists_every_tenant(world: World):
    """A tenant weighs 1 until somebody says otherwise."""
    await world.batch(tenant="acme")
    await world.batch(tenant="bravo")

    assert await world.store.weights() == {"acme": 1.0, "bravo": 1.0}


# -- suspects: items that may be killing workers ---------------------------------------


async def test_a_suspect_is_in_no_line(world: World):
    """An item that two workers died with is not claimed among others."""
    [item] = await world.admit("poison")
    for _ in range(2):
        await world.died_with(item)
    worker = await world.join()

    assert await world.store.lines() == []
    assert await world.claim(worker) == []
    assert [stage for stage, _ in await world.store.suspects()] == ["read"]


async def test_a_suspect_does_not_hide_its_tenants_other_items(world: World):
    """Those behind a suspect are claimed past it."""
    [poison] = await world.admit("poison", deadline_s=10)
    for _ in range(2):
        await world.died_with(poison)
    innocent = await world.admit("a", "b", batch="later")
    worker = await world.join()

    claims = await world.claim(worker)

    assert {c.item.id for c in claims} == set(innocent)


async def die(world: World, *, suspects: bool = False) -> set[ItemId]:
    """A moment later a worker claims what it can and dies; who was there."""
    await world.clock.advance(1)
    victim = await world.join()
    claims = await world.claim(victim, 50, suspects=suspects)
    await world.store.reap([victim], died=True)
    return {claim.item.id for claim in claims}


async def test_suspects_run_together_until_a_worker_dies_of_them(world: World):
    """Then each by itself, longest waiting first; and nothing else ever with them."""
    items = set(await world.admit("poison", "a", "b"))
    for _ in range(2):
        assert await die(world) == items
    await world.admit("innocent", batch="later")

    together = await die(world, suspects=True)
    worker = await world.join()
    claims = [await world.claim(worker, 50, suspects=True) for _ in range(4)]

    assert together == items
    assert [len(claim) for claim in claims] == [1, 1, 1, 0]
    assert {claim.item.id for [claim] in claims[:3]} == items
    assert all(claim.solo for [claim] in claims[:3])


async def test_a_claim_of_suspects_takes_no_more_than_it_was_asked(world: World):
    """One that it took alone, and lost, is alone from then on."""
    items = set(await world.admit("a", "b", "c"))
    for _ in range(2):
        await die(world)
    victim = await world.join()
    [lone] = await world.claim(victim, 1, suspects=True)
    await world.clock.advance(1)
    await world.store.reap([victim], died=True)
    worker = await world.join()

    two = await world.claim(worker, 4, suspects=True)
    [one] = await world.claim(worker, 4, suspects=True)

    assert (lone.solo, [c.solo for c in two], one.solo) == (True, [False] * 2, True)
    assert one.item == lone.item
    assert {c.item.id for c in (*two, one)} == items


async def test_a_death_among_suspects_convicts_nobody(world: World):
    """Two more alone do, as for one that was the only suspect."""
    items = set(await world.admit("poison", "a"))
    for _ in range(2):
        await die(world)
    await die(world, suspects=True)
    turns = []
    for _ in range(4):  # turn by turn
        [item] = await die(world, suspects=True)
        turns.append((item, await world.state(item)))

    assert [state for _, state in turns] == [State.READY] * 2 + [State.FAILED] * 2
    assert [item for item, _ in turns[:2]] == [item for item, _ in turns[2:]]
    assert {item for item, _ in turns} == items


async def test_suspects_tells_how_long_the_oldest_waits(world: World):
    """The patience of the dispatcher is measured by the store's clock."""
    [item] = await world.admit("poison")
    for _ in range(2):
        await world.died_with(item)
    await world.clock.advance(40)

    [(stage, age_s)] = await world.store.suspects()

    assert stage == "read"
    assert age_s == pytest.approx(40, abs=5)


async def test_two_deaths_alone_fail_the_item(world: World):
    """Workers that die with nothing else in hand: one may have died of anything."""
    [item] = await world.admit("poison")
    for _ in range(2):
        await world.died_with(item)

    await world.died_with(item, suspects=True)
    once = await world.state(item)
    await world.died_with(item, suspects=True)

    assert once is State.READY
    row = await world.store.item(item)
    assert (row.state, row.code) == (State.FAILED, "WORKER_KILLED")


async def test_company_alone_never_fails_an_item(world: World):
    """Among others an item gathers two strikes at the most, then runs alone."""
    [item] = await world.admit("unlucky")
    worker = await world.join()
    for _ in range(2):
        await world.died_with(item)

    [claim] = await world.claim(worker, suspects=True)
    await world.store.leave(worker)

    assert claim.item.id == item
    assert await world.state(item) is State.READY
    assert [stage for stage, _ in await world.store.suspects()] == ["read"]


async def test_a_suspect_that_survives_goes_on_like_any_other(world: World):
    """A suspect that finishes its stage alone is cleared."""
    [item] = await world.admit("unlucky")
    for _ in range(2):
        await world.died_with(item)
    worker = await world.join()
    await world.claim(worker, suspects=True)
    move = ToReady("judge", 1)
    await world.store.commit(worker, [Entry(item, finished(0, "read", "judge"), move)])

    claims = await world.claim(worker, stage="judge")

    assert [c.item.id for c in claims] == [item]
    assert await world.store.suspects() == []


async def test_progress_before_a_death_resets_the_strikes(world: World):
    """An item that recorded something since its claim has one strike, not three."""
    [item] = await world.admit("long")
    for _ in range(2):
        await world.died_with(item)
    worker = await world.join()
    await world.claim(worker, suspects=True)
    await world.store.commit(worker, [Entry(item, finished(0, "read", "judge"))])

    await world.store.reap([worker], died=True)

    heir = await world.join()
    [claim] = await world.claim(heir, stage="judge")
    assert (claim.item.id, claim.seq) == (item, 1)


# -- leases ----------------------------------------------------------------------------


async def late(world: World, how: str) -> tuple:
    """A worker that lost its lease with an item in its hands."""
    worker, [item] = await world.take("a")
    await world.clock.advance(31)
    if how == "reaped":
        await world.store.reap([worker], died=True)
    return worker, item


@pytest.mark.parametrize("how", ["expired", "reaped"])
async def test_a_late_worker_cannot_commit(world: World, how: str):
    """After its lease a worker writes no checkpoint, attempt or move."""
    worker, item = await late(world, how)
    before = await world.store.item(item)

    with pytest.raises(LeaseLost):
        await world.store.commit(
            worker, [Entry(item, finished(0, "read", "judge"), done())]
        )

    assert await world.store.item(item) == before
    assert await world.store.history([item]) == {item: []}


@pytest.mark.parametrize("how", ["expired", "reaped"])
async def test_a_late_worker_cannot_renew(world: World, how: str):
    """An expired lease is lost even when nobody has reaped it yet."""
    worker, _ = await late(world, how)

    with pytest.raises(LeaseLost):
        await world.store.renew(worker, lease_s=30)

    with pytest.raises(LeaseLost):
        await world.store.renew(worker, lease_s=30)


@pytest.mark.parametrize("how", ["expired", "reaped"])
@pytest.mark.parametrize("suspects", [False, True])
async def test_a_late_worker_cannot_claim(world: World, how: str, suspects: bool):
    """A worker without a lease gets nothing more."""
    [fresh] = await world.admit("fresh")
    for _ in range(2 if suspects else 0):
        await world.died_with(fresh)
    await world.admit("b", tenant="bravo")
    worker = await world.join()
    await world.clock.advance(31)
    if how == "reaped":
        await world.store.reap([worker], died=True)

    with pytest.raises(LeaseLost):
        await world.claim(worker, suspects=suspects)

    assert await world.state(fresh) is State.READY


@pytest.mark.parametrize("how", ["expired", "reaped"])
async def test_a_late_worker_cannot_disown(world: World, how: str):
    """What a late worker had is the reaper's business."""
    worker, item = await late(world, how)
    before = await world.state(item)

    with pytest.raises(LeaseLost):
        await world.store.disown(worker, [])

    assert await world.state(item) is before


async def test_a_stranger_has_no_lease(world: World):
    """An id that no session ever had can do nothing."""
    [item] = await world.admit("a")
    stranger = uuid4()

    with pytest.raises(LeaseLost):
        await world.claim(stranger)
    with pytest.raises(LeaseLost):
        await world.store.commit(stranger, [Entry(item, None, done())])

    assert await world.state(item) is State.READY


async def test_a_late_worker_cannot_touch_what_its_successor_has(world: World):
    """The item is running again, elsewhere: the first worker's write is refused."""
    worker, item = await late(world, "reaped")
    heir = await world.join()
    await world.claim(heir)

    with pytest.raises(LeaseLost):
        await world.move(worker, item, Finish(State.FAILED, "read", "STALE"))

    assert await world.store.owns(heir, item)
    assert await world.move(heir, item, done())


async def test_a_renewed_lease_goes_on(world: World):
    """Renewing in time keeps worker and items for as long as it is asked."""
    worker, [item] = await world.take("a")

    for _ in range(3):
        await world.clock.advance(25)
        assert await world.store.renew(worker, lease_s=30) == []

    assert await world.move(worker, item, done())


async def test_sessions_tells_who_lives_where_and_for_how_long(world: World):
    """Every worker row is listed with the time its lease has left."""
    young, old = await world.join(lease_s=60), await world.join(lease_s=10)
    await world.clock.advance(20)

    left = {s.id: s for s in await world.store.sessions()}

    assert left[young].left_s == pytest.approx(40, abs=5)
    assert left[old].left_s == pytest.approx(-10, abs=5)
    assert left[young].origin == ("here/boot/1", 4711, "born")


async def test_every_session_has_an_id_of_its_own(world: World):
    """A worker that joins again is another worker."""
    one, two = await world.join(), await world.join()

    assert one != two
    assert {s.id for s in await world.store.sessions()} == {one, two}


async def test_waking_is_by_the_clock(world: World):
    """A waiting item is in line again when its time has come, and not before."""
    worker, [item] = await world.take("a")
    await world.move(worker, item, waiting(60, attempt=2))

    early = await world.store.wake()
    await world.clock.advance(61)
    moved, next_s = await world.store.wake()

    assert early == (0, pytest.approx(60, abs=5))
    assert (moved, next_s) == (1, None)
    [claim] = await world.claim(worker := await world.join())
    assert (claim.item.id, claim.stage, claim.attempt) == (item, "read", 2)


async def test_waking_is_bounded(world: World):
    """One call wakes at most `limit`; the next ones wake the others."""
    worker, items = await world.take("a", "b", "c")
    await world.store.commit(worker, [Entry(i, None, waiting(10)) for i in items])
    await world.clock.advance(11)

    first, _ = await world.store.wake(2)
    second, _ = await world.store.wake(2)

    assert (first, second) == (2, 1)


async def test_nobody_waits_past_the_deadline(world: World):
    """A wait longer than the item has left ends at its deadline."""
    [item] = await world.admit("a", deadline_s=100)
    worker = await world.join()
    await world.claim(worker)
    await world.move(worker, item, waiting(9999))

    row = await world.store.item(item)
    _, next_s = await world.store.wake()

    assert row.until == row.deadline_at
    assert next_s == pytest.approx(100, abs=5)
