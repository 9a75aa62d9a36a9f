"""
Two at the same time, on PostgreSQL.

Interleavings are stepped, not hoped for: a gate holds a lock that the calls under
test need, each call is started when the one before is known to be blocked, and
then the gate opens.  The memory store has one await in a commit, tested last.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import asyncpg
import pytest

from pipeline.errors import Conflict, LeaseLost, Refused, StoreUnavailable, WaybillError
from pipeline.model import Disposal, Entry, Finish, ItemId, State, ToJoining, WorkerId
from pipeline.parts import Part
from pipeline.store.postgres import PostgresStore
from tests.store.conftest import Urls
from tests.store.test_conformance_kin import family, spawning
from tests.store.world import (
    Lawful,
    ServerClock,
    StillMemory,
    World,
    clock_sql,
    done,
    finished,
    sent,
    waiting,
)

GATE_S = 10.0  # a bound on polling, not a pace
ITEM_ROW = "select 1 from waybill.running where item_id = $1 for update"
HOLD_ROW = "select 1 from waybill.holds where id = $1 for update"
RUNNING_KEY = """
insert into waybill.running (item_id, stage, tenant_id, deadline_at, seq, attempt,
                             strikes, solo, worker_id)
values ($1, 'gate', 0, now(), 0, 0, 0, false, gen_random_uuid())"""

MIDDLE_KEY = """
insert into waybill.items (tenant_id, batch_id, pipeline_id, pipeline, name, key,
                           deadline_at, input)
select b.tenant_id, b.id, p.id, p.name, 'm', 'm', b.deadline_at, '{}'
  from waybill.batches b, waybill.pipelines p where b.id = $1"""


@pytest.fixture
async def crowd(shared: Urls, owner: asyncpg.Connection) -> AsyncIterator[World]:
    """A world whose store has a connection for everyone."""
    async with PostgresStore(shared.app, pool=20) as store:
        yield await World(store, ServerClock(owner)).open()


@pytest.fixture
async def lawful(crowd: World) -> AsyncIterator[None]:
    """Whatever happened: afterwards the law holds and no item is astray."""
    yield
    counts = await crowd.store.counts()
    assert counts.conserved, counts
    assert await crowd.store.astray() == []


pytestmark = pytest.mark.usefixtures("lawful")


async def blocked(owner: asyncpg.Connection, number: int) -> None:
    """Wait until so many sessions of this database wait for a lock."""
    sql = (
        "select count(*) from pg_stat_activity"
        " where datname = current_database() and wait_event_type = 'Lock'"
    )
    with anyio.fail_after(GATE_S):
        while True:
            if await owner.fetchval(sql) >= number:
                return
            await anyio.sleep(0.005)


async def ends(call: Awaitable[Any]) -> Any:
    """A call's result, or its error as a value."""
    try:
        return await call
    except WaybillError as error:
        return error


async def in_turn(
    shared: Urls,
    owner: asyncpg.Connection,
    gate: tuple[str, int],
    *calls: Callable[[], Awaitable[Any]],
) -> list[Any]:
    """Queue `calls` in this order behind the gate's lock, open it; their ends."""
    said: list[Any] = [None] * len(calls)

    async def one(place: int) -> None:
        said[place] = await ends(calls[place]())

    async with _gate(shared, *gate) as opened, anyio.create_task_group() as tasks:
        for place in range(len(calls)):
            tasks.start_soon(one, place)
            await blocked(owner, place + 1)
        await opened()
    return said


@asynccontextmanager
async def _gate(
    shared: Urls, sql: str, key: int
) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    con = await asyncpg.connect(shared.owner)
    try:
        transaction = con.transaction()
        await transaction.start()
        await con.execute(sql, key)
        yield transaction.rollback
    finally:
        await con.close()


async def at_once(*calls: Callable[[], Awaitable[Any]]) -> list[Any]:
    """Start all, wait for all; each one's end."""
    said: list[Any] = [None] * len(calls)

    async def one(place: int) -> None:
        said[place] = await ends(calls[place]())

    async with anyio.create_task_group() as tasks:
        for place in range(len(calls)):
            tasks.start_soon(one, place)
    return said


# -- commits and reapers ---------------------------------------------------------------


@pytest.mark.parametrize("how", ["reap", "leave"])
async def test_a_commit_under_way_wins_over_the_reaper(crowd, shared, owner, how: str):
    """A commit that has its worker's row makes the reaper wait, and find nothing."""
    worker, [item] = await crowd.take("a")
    entry = Entry(item, finished(0, "read", ""), done())

    stood, moved = await in_turn(
        shared,
        owner,
        (ITEM_ROW, item),
        lambda: crowd.store.commit(worker, [entry]),
        lambda: _put_back(crowd, worker, how),
    )

    assert (stood, moved) == ([True], 0)
    assert await crowd.state(item) is State.DONE


@pytest.mark.parametrize("how", ["reap", "leave"])
async def test_a_reaper_under_way_wins_over_a_commit(crowd, shared, owner, how: str):
    """Once the worker's row is going, its commits wait and are refused."""
    worker, [item] = await crowd.take("a")
    entry = Entry(item, finished(0, "read", ""), done())

    moved, lost = await in_turn(
        shared,
        owner,
        (ITEM_ROW, item),
        lambda: _put_back(crowd, worker, how),
        lambda: crowd.store.commit(worker, [entry]),
    )

    assert moved == 1
    assert isinstance(lost, LeaseLost)
    assert await crowd.state(item) is State.READY
    assert await crowd.store.history([item]) == {item: []}


async def _put_back(world: World, worker: Any, how: str) -> int:
    if how == "leave":
        return await world.store.leave(worker)
    return await world.store.reap([worker], died=True)


async def test_a_commit_that_outlives_its_lease_still_wins(crowd, shared, owner):
    """It began in time: the reaper waits for it, however late it is by then."""
    worker, [item] = await crowd.take("a")

    async def reap() -> int:
        con = await asyncpg.connect(shared.owner)  # the owner's is watching
        await con.execute(clock_sql(31))
        await con.close()
        return await crowd.store.reap([worker], died=False)

    stood, moved = await in_turn(
        shared,
        owner,
        (ITEM_ROW, item),
        lambda: crowd.store.commit(worker, [Entry(item, None, done())]),
        reap,
    )

    assert (stood, moved) == ([True], 0)


async def test_a_claim_under_way_leaves_no_orphan(crowd, shared, owner):
    """What a claim takes while its worker is reaped is put back by that reaper."""
    [item] = await crowd.admit("a")
    worker = await crowd.join()

    claims, moved = await in_turn(
        shared,
        owner,
        (RUNNING_KEY, item),
        lambda: crowd.claim(worker),
        lambda: crowd.store.reap([worker], died=True),
    )

    assert ([c.item.id for c in claims], moved) == ([item], 1)
    assert await crowd.state(item) is State.READY
    assert await owner.fetchval("select count(*) from waybill.running") == 0


async def test_a_reaper_under_way_refuses_the_claim(crowd, shared, owner):
    """A worker that is being removed gets nothing more."""
    worker, [held] = await crowd.take("held")
    [item] = await crowd.admit("a")

    moved, lost = await in_turn(
        shared,
        owner,
        (ITEM_ROW, held),
        lambda: crowd.store.reap([worker], died=True),
        lambda: crowd.claim(worker),
    )

    assert moved == 1
    assert isinstance(lost, LeaseLost)
    assert await crowd.states([held, item]) == ["ready", "ready"]


async def test_two_reapers_put_an_item_back_once(crowd):
    """Every worker reaps; a dead session's items move once."""
    worker, items = await crowd.take(*"abcdefgh")

    moved = await at_once(*[lambda: crowd.store.reap([worker], died=True)] * 6)

    assert sorted(moved) == [0, 0, 0, 0, 0, len(items)]


# -- claims ----------------------------------------------------------------------------


async def test_eight_claimers_never_share_an_item(crowd):
    """300 items, eight workers: everyone gets some turns, nobody another's item."""
    for tenant in ("acme", "bravo", "cargo"):
        await crowd.admit(*(f"{tenant}-{n}" for n in range(100)), tenant=tenant)
    taken: list[ItemId] = []

    async def worker() -> None:
        me = await crowd.join()
        while len(taken) < 300:
            claims = await crowd.claim(me, 7)
            assert len(claims) <= 7
            taken.extend(c.item.id for c in claims)

    with anyio.fail_after(60):
        await at_once(*[worker] * 8)

    assert len(taken) == len(set(taken)) == 300


# -- people ----------------------------------------------------------------------------


@pytest.mark.parametrize("reviewers", [2, 4, 16])
async def test_many_reviewers_one_decision(crowd, shared, owner, reviewers: int):
    """All press at the same instant: one rules, the others are told who did."""
    hold = await crowd.hold()
    calls = [
        lambda n=n: crowd.decide(hold, ["approve", "reject"][n % 2], f"reviewer-{n}")
        for n in range(reviewers)
    ]

    said = await in_turn(shared, owner, (HOLD_ROW, hold.id), *calls)

    won = [s for s in said if not isinstance(s, Exception)]
    assert len(won) == 1
    first = won[0].decision
    for refused in said:
        if refused is not won[0]:
            assert isinstance(refused, Conflict)
            assert f"{first.verb} by {first.author}" in str(refused)
    assert await owner.fetchval("select count(*) from waybill.decisions") == 1


async def test_a_hold_is_leased_to_one_reviewer(crowd):
    """Sixteen ask for the same hold; one gets it."""
    hold = await crowd.hold()

    said = await at_once(
        *[
            lambda n=n: crowd.store.claim_hold(hold.id, f"reviewer-{n}", lease_s=60)
            for n in range(16)
        ]
    )

    assert sum(isinstance(s, Conflict) for s in said) == 15


async def test_a_decision_before_a_cancel(crowd, shared, owner):
    """The item goes on by the decision, and the cancel finds it where it went."""
    hold = await crowd.hold()

    decided, said = await in_turn(
        shared,
        owner,
        (HOLD_ROW, hold.id),
        lambda: crowd.decide(hold),
        lambda: crowd.store.cancel([hold.item_id], "ann"),
    )

    assert decided.decision.verb == "approve"
    assert said == {hold.item_id: "cancelled"}
    assert await crowd.state(hold.item_id) is State.CANCELLED


async def test_a_cancel_before_a_decision(crowd, shared, owner):
    """The reviewer is told that the item was cancelled."""
    hold = await crowd.hold()

    said, refused = await in_turn(
        shared,
        owner,
        (HOLD_ROW, hold.id),
        lambda: crowd.store.cancel([hold.item_id], "ann"),
        lambda: crowd.decide(hold),
    )

    assert said == {hold.item_id: "cancelled"}
    assert isinstance(refused, Conflict)
    assert await crowd.state(hold.item_id) is State.CANCELLED


@pytest.mark.parametrize(
    ("move", "first", "said", "state"),
    [
        (done(), "move", "final", State.DONE),
        (done(), "cancel", "cancelling", State.DONE),
        (waiting(60), "move", "cancelled", State.CANCELLED),
        (waiting(60), "cancel", "cancelling", State.CANCELLED),
        (ToJoining("read", 0), "cancel", "cancelling", State.CANCELLED),
    ],
)
async def test_a_cancel_meets_a_move(crowd, shared, owner, move, first, said, state):
    """Whoever comes first, the answer is true and a live item does not get away."""
    worker, [item] = await crowd.take("a")
    calls = [
        lambda: crowd.move(worker, item, move),
        lambda: crowd.store.cancel([item], "ann"),
    ]
    if first == "cancel":
        calls.reverse()

    both = await in_turn(shared, owner, (ITEM_ROW, item), *calls)

    assert sorted(both, key=str) == sorted([True, {item: said}], key=str)
    assert await crowd.state(item) is state


async def test_a_cancel_that_came_too_late_does_not_haunt(crowd, shared, owner):
    """Lost to a failure, it is forgotten when somebody retries the item."""
    worker, [item] = await crowd.take("a")
    await in_turn(
        shared,
        owner,
        (ITEM_ROW, item),
        lambda: crowd.store.cancel([item], "ann"),
        lambda: crowd.move(worker, item, Finish(State.FAILED, "read", "OCR")),
    )
    await crowd.store.retry([item], "bob")

    await crowd.claim(worker)

    assert await crowd.store.renew(worker, lease_s=30) == []


async def test_two_retries_are_one(crowd):
    """An item that two people put back in line stands in it once."""
    worker, [item] = await crowd.take("a")
    await crowd.move(worker, item, Finish(State.FAILED, "read", "OCR"))

    said = await at_once(*[lambda: crowd.store.retry([item], "ann")] * 6)

    assert [s[item] for s in said].count("ready") == 1
    assert len(await crowd.claim(worker)) == 1


# -- admission -------------------------------------------------------------------------


async def test_the_same_bytes_at_the_same_time_are_one_item(crowd):
    """Two watchers, one document: one item, and the others are its duplicates."""
    batch = await crowd.batch()

    said = await at_once(
        *[
            lambda n=n: crowd.receive(sent(f"{n}.pdf", key="k"), batch=batch)
            for n in range(10)
        ]
    )

    receipts = [r for [r] in said]
    assert [r.disposal for r in receipts].count(Disposal.ITEM) == 1
    assert [r.disposal for r in receipts].count(Disposal.DUPLICATE) == 9
    assert len({r.item_id for r in receipts}) == 1


async def test_the_same_delivery_at_the_same_time_is_one_receipt(crowd):
    """One token, offered by many at once, is received once."""
    batch = await crowd.batch()
    letter = sent("a.pdf")

    said = await at_once(*[lambda: crowd.receive(letter, batch=batch)] * 10)

    assert len({r for [r] in said}) == 1
    assert (await crowd.store.counts()).received == 1


async def test_admissions_in_opposite_orders_do_not_deadlock(crowd, shared, owner):
    """The same files from both ends: nobody waits in a circle, each is one item."""
    batch = await crowd.batch()
    files = [sent(name, key=name) for name in "amz"]
    more = [sent(name, key=name) for name in "zma"]

    said = await in_turn(
        shared,
        owner,
        (MIDDLE_KEY, batch.id),
        lambda: crowd.receive(*files, batch=batch),
        lambda: crowd.receive(*more, batch=batch),
    )

    assert not [s for s in said if isinstance(s, Exception)]
    assert (await crowd.store.counts()).live == 3


async def test_a_batch_and_a_pipeline_are_made_once(crowd):
    """Everyone who opens or registers the same thing gets the same row."""
    batches = await at_once(*[lambda: crowd.batch("june", tenant="new")] * 10)
    pipelines = await at_once(
        *[lambda: crowd.store.register_pipeline("p", "v", ["read"], {})] * 10
    )

    assert len(set(batches)) == len(set(pipelines)) == 1


# -- families --------------------------------------------------------------------------


async def bundle(crowd: World, *names: str) -> tuple[WorkerId, ItemId, list[ItemId]]:
    """An item that waits for its children; they are in one worker's hands."""
    first, item, children = await family(crowd, *names)
    worker = await crowd.join()
    await crowd.claim(worker)
    await crowd.move(first, item, ToJoining("read", 1))
    return worker, item, children


async def test_the_last_two_children_end_together(crowd):
    """Neither sees the other go; their parent is woken all the same."""
    worker, item, [one, two] = await bundle(crowd, "a", "b")

    await at_once(
        lambda: crowd.store.commit(worker, [Entry(one, None, done())]),
        lambda: crowd.store.commit(worker, [Entry(two, None, done())]),
        crowd.store.wake,
    )
    await crowd.store.wake()

    assert await crowd.state(item) is State.READY


@pytest.mark.parametrize("first", ["cancel", "finish"])
async def test_a_cancelled_parent_meets_the_end_of_a_child(
    crowd, shared, owner, first: str
):
    """Whoever comes first: the child ends once, the other child is let go."""
    worker, item, [one, two] = await bundle(crowd, "a", "b")
    calls = {
        "cancel": lambda: crowd.store.cancel([item], "ann"),
        "finish": lambda: crowd.store.commit(worker, [Entry(one, None, done())]),
    }
    order = [calls.pop(first), *calls.values()]

    await in_turn(shared, owner, (ITEM_ROW, one), *order)

    assert await crowd.states([item, one]) == [State.CANCELLED, State.DONE]
    assert await crowd.store.renew(worker, lease_s=30) == [two]
    await crowd.move(worker, two, Finish(State.CANCELLED, "read", "CANCELLED", ""))
    assert await crowd.store.open_children(item) == 0


@pytest.mark.parametrize("first", ["spawn", "cancelled"])
async def test_a_birth_meets_the_end_of_the_parent(crowd, shared, owner, first: str):
    """A parent that is let go has no child that nobody cancels: it was born before
    and goes along, or is refused."""
    worker, [item] = await crowd.take("bundle.zip")
    end = Finish(State.CANCELLED, "read", "CANCELLED", "")
    calls = {
        "spawn": lambda: crowd.store.commit(worker, [spawning(item, "a")]),
        "cancelled": lambda: crowd.store.commit(worker, [Entry(item, None, end)]),
    }
    order = [calls.pop(first), *calls.values()]

    said = await in_turn(shared, owner, (ITEM_ROW, item), *order)

    kin = await crowd.store.kin(item)
    if first == "spawn":
        assert [k.state for k in kin] == ["cancelled"]
    else:
        assert kin == []
        assert isinstance(said[1], Refused)
    assert (await crowd.store.counts()).live == 0


async def test_a_retry_of_a_child_meets_the_wake_of_its_parent(crowd, owner):
    """Woken or not: the rows say that the child is open again."""
    worker, item, [child] = await bundle(crowd, "a")
    await crowd.move(worker, child, Finish(State.FAILED, "read", "X", ""))

    await at_once(lambda: crowd.store.retry([child], "ann"), crowd.store.wake)

    assert await crowd.store.open_children(item) == 1
    assert await owner.fetchval("select count(*) from waybill.open_children") == 1


async def test_bundles_with_the_same_parts_turned_round_end_well(crowd, shared, owner):
    """A deadlock is found, and who lost tries again: each part is one item."""
    worker, items = await crowd.take("a.zip", "b.zip")
    batch = await crowd.batch()
    again: list[ItemId] = []

    async def spawn(item: ItemId, order: str) -> None:
        parts = [Part(key, {}, key=key) for key in order]
        while True:
            try:
                await crowd.store.commit(worker, [spawning(item, *parts)])
                return
            except StoreUnavailable:
                again.append(item)

    said = await in_turn(
        shared,
        owner,
        (MIDDLE_KEY, batch.id),
        lambda: spawn(items[0], "amz"),
        lambda: spawn(items[1], "zma"),
    )

    counts = await crowd.store.counts()
    assert said == [None, None]
    assert again  # on a busy machine the loser may lose again
    assert (counts.received, counts.live, counts.duplicates) == (8, 5, 3)


# -- the memory store ------------------------------------------------------------------


async def test_memory_commits_are_fenced_at_the_moment_they_write():
    """A reaper that comes while a commit yields refuses it; no checkpoint is left."""
    store = StillMemory()
    world = await World(Lawful(store), store).open()
    worker, [item] = await world.take("a")
    entry = Entry(item, finished(0, "read", ""), done())

    stood, moved = await at_once(
        lambda: store.commit(worker, [entry]), lambda: store.reap([worker], died=True)
    )

    late = isinstance(stood, LeaseLost)
    assert (late, moved) in [(True, 1), (False, 0)]
    assert len((await world.store.history([item]))[item]) == (0 if late else 1)
    assert await world.state(item) is (State.READY if late else State.DONE)
