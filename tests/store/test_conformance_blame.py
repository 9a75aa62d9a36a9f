"""For whom a worker ended: one item answers for it, those beside it do not."""

from __future__ import annotations

import pytest

from pipeline.model import Attempt, Entry, ItemId, State, ToWaiting
from pipeline.store.strikes import Blame
from tests.store.world import World, finished


def blocked(attempt: int) -> Attempt:
    return Attempt("read", attempt, "LOOP_BLOCKED", "held up the loop", True)


async def test_who_ended_its_worker_runs_alone_and_nobody_else_is_charged(world: World):
    """One death with its name on it is enough to be a suspect."""
    worker, [evil, *good] = await world.take("evil", "a", "b")

    moved = await world.store.leave(worker, died=True, blamed=Blame(evil))
    heir = await world.join()
    claims = await world.claim(heir)
    [alone] = await world.claim(heir, suspects=True)

    assert moved == 3
    assert {c.item.id for c in claims} == set(good)
    assert (alone.item.id, alone.attempt) == (evil, 0)


async def test_who_ends_its_worker_again_alone_fails(world: World):
    """By its code, and nobody is told how many workers died."""
    worker, [evil] = await world.take("evil")
    await world.store.leave(worker, died=True, blamed=Blame(evil))
    heir = await world.join()
    await world.claim(heir, suspects=True)

    await world.store.leave(heir, died=True, blamed=Blame(evil))

    row = await world.store.item(evil)
    assert (row.state, row.code) == (State.FAILED, "WORKER_KILLED")
    assert "three" not in row.why


@pytest.mark.parametrize("last", [False, True])
async def test_a_try_that_ended_its_worker_is_charged(world: World, last: bool):
    """With the try's own code; the last one fails the item with it."""
    worker, [evil, good] = await world.take("evil", "good")

    await world.store.leave(worker, died=True, blamed=Blame(evil, blocked(0), last))

    row = await world.store.item(evil)
    if last:
        assert (row.state, row.code) == (State.FAILED, "LOOP_BLOCKED")
        assert row.why == "held up the loop"
    else:
        heir = await world.join()
        [claim] = await world.claim(heir, suspects=True)
        assert (claim.item.id, claim.attempt) == (evil, 1)
    assert await world.state(good) is State.READY


async def test_a_stranger_is_not_blamed(world: World):
    """Who was reaped meanwhile, and is in other hands, has answered already."""
    worker, [item] = await world.take("a")
    await world.store.reap([worker], died=True)
    heir = await world.join()
    await world.claim(heir)

    moved = await world.store.leave(worker, died=True, blamed=Blame(item, blocked(0)))

    assert moved == 0
    assert await world.store.owns(heir, item)


async def test_who_was_cancelled_meanwhile_is_cancelled(world: World):
    """A person's word goes before the charge."""
    worker, [item] = await world.take("a")
    await world.store.cancel([item], "ann")

    await world.store.leave(worker, died=True, blamed=Blame(item, blocked(0), True))

    assert await world.state(item) is State.CANCELLED


async def test_what_finished_a_stage_resumes_behind_it(world: World):
    """A finished stage is not run again, whoever is blamed."""
    worker, [item] = await world.take("a")
    await world.store.commit(worker, [Entry(item, finished(0, "read", "judge"))])

    await world.store.leave(worker, died=True, blamed=Blame(item))

    [claim] = await world.claim(await world.join(), stage="judge", suspects=True)
    assert (claim.item.id, claim.seq) == (item, 1)


async def test_who_waits_to_run_alone_does(world: World):
    """When its time has come it is a suspect, and no other worker's claim."""
    worker, [item] = await world.take("a")
    move = ToWaiting("read", 0, 1, 5.0, "LOOP_BLOCKED", alone=True)

    await world.move(worker, item, move)
    await world.clock.advance(6)
    await world.store.wake()

    assert await world.claim(worker) == []
    [claim] = await world.claim(worker, suspects=True)
    assert (claim.item.id, claim.attempt) == (item, 1)


async def test_where_several_kill_the_rest_of_theirs_runs_apart(world: World):
    """
    Of one tenant, at one stage of one pipeline: the third death says that more may.

    Those of others stay in line, or dozens of killers would stop everybody.
    """
    killers = await world.admit(*(f"killer {n}" for n in range(5)))
    innocent = await world.admit("x", "y", tenant="other", batch="june")

    for number, item in enumerate(killers[:3]):
        worker = await world.join()
        claims = await world.claim(worker)
        assert len(claims) == len(killers) - number + len(innocent)
        await world.store.leave(worker, died=True, blamed=Blame(item))

    worker = await world.join()
    assert {claim.item.id for claim in await world.claim(worker)} == set(innocent)
    assert [stage for stage, _ in await world.store.suspects()] == ["read"]


async def test_suspects_of_every_tenant_have_their_turn(world: World):
    """However many one has, and whatever is known of its oldest."""
    [innocent] = await world.admit("x", tenant="other", batch="june")
    for _ in range(2):
        worker = await world.join()
        await world.claim(worker)
        await world.store.leave(worker, died=True)
    for item in (await world.admit(*(f"killer {n}" for n in range(40))))[:3]:
        worker = await world.join()
        await world.claim(worker)
        await world.store.leave(worker, died=True, blamed=Blame(item))

    first, groups = set[ItemId](), 0
    for _ in range(40):
        worker = await world.join()
        claims = await world.claim(worker, 8, suspects=True)
        groups += len(claims) > 1
        first |= {claim.item.id for claim in claims}
        await world.store.leave(worker)

    assert innocent in first
    assert groups, "those who need not run alone were never beside each other"
