"""
Commits, and what becomes of an item when its worker goes, on both stores.

Every call in these tests is followed by the conservation law and a search for
items astray (`world.Lawful`).
"""

from __future__ import annotations

import json

import pytest

from pipeline.errors import LeaseLost, NotFound, Refused
from pipeline.model import Attempt, Entry, Finish, State, ToReady, ToWaiting
from tests.store.world import World, done, finished, parked, step, waiting

# -- commits ---------------------------------------------------------------------------


async def test_a_checkpoint_is_read_back_as_it_was_written(world: World):
    """History gives every field of a checkpoint back, in order of `seq`."""
    worker, [item] = await world.take("a")
    page = step(0, "read", "page-1", '"one"')
    whole = finished(1, "read", "judge", '{"text": "one"}')
    stored = finished(2, "judge", "write")._replace(update=None, ref="ab12")

    await world.store.commit(worker, [Entry(item, page), Entry(item, whole)])
    await world.store.commit(worker, [Entry(item, stored)])

    history = (await world.store.history([item]))[item]
    assert [c._replace(update=None) for c in history] == [
        c._replace(update=None) for c in (page, whole, stored)
    ]
    assert [c.update and json.loads(c.update) for c in history] == [
        "one",
        {"text": "one"},
        None,
    ]


async def test_history_is_by_item(world: World):
    """Several items' checkpoints are told apart; one without any has none."""
    worker, [one, two, none] = await world.take("a", "b", "c")
    await world.store.commit(
        worker,
        [Entry(one, finished(0, "read", "judge")), Entry(two, step(0, "read", "p"))],
    )

    history = await world.store.history([one, two, none, 10**9])

    assert {i: [c.step for c in found] for i, found in history.items()} == {
        one: [None],
        two: ["p"],
        none: [],
        10**9: [],
    }


async def test_checkpoint_move_and_attempt_are_one_write(world: World):
    """One entry's three parts stand together."""
    worker, [item] = await world.take("a")
    tried = Attempt("read", 0, "TRANSIENT", "again", True)
    entry = Entry(item, step(0, "read", "p"), ToWaiting("read", 1, 1, 60, "X"), tried)

    stood = await world.store.commit(worker, [entry])

    row = await world.store.item(item)
    assert stood == [True]
    assert (row.state, row.stage, row.attempt, row.why) == ("waiting", "read", 1, "X")
    assert len((await world.store.history([item]))[item]) == 1


async def test_a_step_alone_leaves_the_item_where_it_is(world: World):
    """An entry without a move stands, and the worker keeps the item."""
    worker, [item] = await world.take("a")

    stood = await world.store.commit(worker, [Entry(item, step(0, "read", "p"))])

    assert stood == [True]
    assert await world.store.owns(worker, item)


async def test_an_item_that_came_back_is_another_claims(world: World):
    """Whose it was before a checkpoint is told from whose it is since."""
    worker, [item] = await world.take("a")
    before = await world.store.owns(worker, item, 0)
    await world.store.commit(
        worker, [Entry(item, step(0, "read", "p"), ToReady("read", 1))]
    )
    await world.claim(worker, 1)

    assert before
    assert not await world.store.owns(worker, item, 0)
    assert await world.store.owns(worker, item, 1)


@pytest.mark.parametrize(
    ("move", "state"),
    [
        (ToReady("judge", 1), State.READY),
        (waiting(60), State.WAITING),
        (parked(), State.HELD),
        (done(), State.DONE),
        (Finish(State.REJECTED, "read", "BLANK", "no text"), State.REJECTED),
        (Finish(State.FAILED, "read", "OCR", "broken"), State.FAILED),
        (Finish(State.CANCELLED, "read", "CANCELLED", "by ann"), State.CANCELLED),
    ],
)
async def test_every_move_ends_where_it_says(world: World, move, state: State):
    """Each kind of move puts the item into its one state, away from the worker."""
    worker, [item] = await world.take("a")

    stood = await world.move(worker, item, move)

    row = await world.store.item(item)
    assert stood
    assert (row.state, row.stage) == (state, move.stage)
    assert not await world.store.owns(worker, item)


@pytest.mark.parametrize(
    "move",
    [ToReady("judge", 1), waiting(60), parked(), done()],
    ids=["ready", "waiting", "held", "finish"],
)
async def test_a_move_of_an_item_that_is_not_ours_is_void(world: World, move):
    """Such a move is False and changes nothing; its neighbours stand."""
    worker, [mine] = await world.take("mine")
    other, [theirs] = await world.take("theirs")
    [free] = await world.admit("free")
    before = [await world.store.item(i) for i in (theirs, free)]
    entries = [Entry(theirs, None, move), Entry(mine, None, done()), Entry(free, None)]
    entries[2].move = move

    stood = await world.store.commit(worker, entries)

    assert stood == [False, True, False]
    assert [await world.store.item(i) for i in (theirs, free)] == before
    assert await world.store.owns(other, theirs)
    assert await world.state(mine) is State.DONE


async def test_a_void_move_cannot_eat_a_cancellation(world: World):
    """A person's cancel reaches the item's worker, whoever else writes of it."""
    stranger, _ = await world.take("x")
    owner, [item] = await world.take("a")
    await world.store.cancel([item], "ann")

    stood = await world.move(stranger, item, done())

    assert not stood
    assert await world.store.renew(owner, lease_s=30) == [item]


async def test_moves_of_every_kind_in_one_commit(world: World):
    """One transaction takes what five items did, and answers in their order."""
    worker, items = await world.take("a", "b", "c", "d", "e")
    moves = [done(), ToReady("judge", 1), waiting(60), parked(), None]
    entries = [Entry(i, None, m) for i, m in zip(items, moves, strict=True)]

    stood = await world.store.commit(worker, entries)

    assert stood == [True] * 5
    assert await world.states(items) == ["done", "ready", "waiting", "held", "running"]


async def test_a_finished_checkpoint_is_never_overwritten(world: World):
    """A second checkpoint of the same number refuses its whole transaction."""
    worker, [item, neighbour] = await world.take("a", "b")
    await world.store.commit(worker, [Entry(item, step(0, "read", "p", '"first"'))])
    again = Entry(item, step(0, "read", "p", '"second"'), done())

    with pytest.raises(Refused):
        await world.store.commit(worker, [Entry(neighbour, None, done()), again])

    [kept] = (await world.store.history([item]))[item]
    assert json.loads(kept.update) == "first"
    assert await world.states([item, neighbour]) == ["running", "running"]


async def test_a_checkpoint_twice_in_one_commit_is_refused(world: World):
    """Two entries of one number are a mistake, and neither is written."""
    worker, [item] = await world.take("a")
    twin = step(0, "read", "p")

    with pytest.raises(Refused):
        await world.store.commit(worker, [Entry(item, twin), Entry(item, twin)])

    assert await world.store.history([item]) == {item: []}


async def test_recorded_settles_a_commit_in_doubt(world: World):
    """Only the very worker's own checkpoint counts as recorded."""
    worker, [item] = await world.take("a")
    other = await world.join()
    await world.store.commit(worker, [Entry(item, step(0, "read", "p"))])

    asked = [
        await world.store.recorded(worker, item, 0),
        await world.store.recorded(worker, item, 1),
        await world.store.recorded(other, item, 0),
    ]

    assert asked == [True, False, False]


async def test_owns_follows_the_item(world: World):
    """`owns` is true from the claim to the move, for one worker."""
    worker, [item] = await world.take("a")
    other = await world.join()

    had = (await world.store.owns(worker, item), await world.store.owns(other, item))
    await world.move(worker, item, ToReady("judge", 1))

    assert had == (True, False)
    assert not await world.store.owns(worker, item)


# -- workers that go -------------------------------------------------------------------


async def test_a_dead_workers_items_are_back_in_line(world: World):
    """Reaping puts everything the worker had back, and removes its row."""
    worker, items = await world.take("a", "b", "c")
    [other] = [(await world.take("d"))[0]]

    moved = await world.store.reap([worker], died=True)

    assert moved == 3
    assert await world.states(items) == ["ready"] * 3
    assert [s.id for s in await world.store.sessions()] == [other]


async def test_only_expired_sessions_are_reaped_without_a_death(world: World):
    """A lease that is still good protects its worker from a mere suspicion."""
    worker, [item] = await world.take("a")

    early = await world.store.reap([worker], died=False)
    await world.clock.advance(31)
    late = await world.store.reap([worker], died=False)

    assert (early, late) == (0, 1)
    assert await world.state(item) is State.READY


async def test_reaping_twice_moves_nothing_twice(world: World):
    """The second reaper of a session finds nothing to do."""
    worker, [item] = await world.take("a")
    await world.store.reap([worker], died=True)
    heir = await world.join()
    await world.claim(heir)

    moved = await world.store.reap([worker], died=True)

    assert moved == 0
    assert await world.store.owns(heir, item)


async def test_an_item_resumes_after_the_last_finished_stage(world: World):
    """After a death the item continues at the stage its checkpoints lead to."""
    worker, [item] = await world.take("a")
    for seq, (stage, after) in enumerate([("read", "judge"), ("judge", "write")]):
        await world.store.commit(worker, [Entry(item, finished(seq, stage, after))])

    await world.store.reap([worker], died=True)

    [claim] = await world.claim(await world.join(), stage="write")
    assert (claim.item.id, claim.seq, claim.attempt) == (item, 2, 0)


async def test_an_item_resumes_after_the_last_recorded_step(world: World):
    """Steps count in `seq`, but a stage with steps alone is not finished."""
    worker, [item] = await world.take("a")
    for n in range(3):
        await world.store.commit(worker, [Entry(item, step(n, "read", f"page-{n}"))])

    await world.store.reap([worker], died=True)

    [claim] = await world.claim(await world.join(), stage="read")
    assert (claim.item.id, claim.seq) == (item, 3)


async def test_charged_tries_outlive_a_death(world: World):
    """A crash does not give a stage its spent attempts back."""
    worker, [item] = await world.take("a")
    move = ToReady("judge", 1, attempt=3)
    await world.store.commit(worker, [Entry(item, finished(0, "read", "judge"), move)])
    await world.claim(worker, stage="judge")

    await world.store.reap([worker], died=True)

    [claim] = await world.claim(await world.join(), stage="judge")
    assert claim.attempt == 3


async def test_a_finished_stage_clears_the_tries_of_the_one_before(world: World):
    """The next stage begins with its own count, also after a crash."""
    worker, [item] = await world.take("a")
    await world.move(worker, item, ToReady("read", 0, attempt=3))
    await world.claim(worker)
    await world.store.commit(worker, [Entry(item, finished(0, "read", "judge"))])

    await world.store.reap([worker], died=True)

    [claim] = await world.claim(await world.join(), stage="judge")
    assert claim.attempt == 0


async def test_a_crash_after_a_retried_end_resumes_where_it_was_retried(world: World):
    """
    A rejected item leaves a checkpoint that leads nowhere.  Put back in line by
    a person, and crashed again, it is still at the stage where it ended.
    """
    worker, [item] = await world.take("a")
    end = Finish(State.REJECTED, "read", "BLANK")
    await world.store.commit(worker, [Entry(item, finished(0, "read", ""), end)])
    await world.store.retry([item], "ann")
    await world.claim(worker)

    running = await world.store.item(item)
    await world.store.reap([worker], died=True)

    assert (running.state, running.stage) == (State.RUNNING, "read")
    [claim] = await world.claim(await world.join(), stage="read")
    assert (claim.item.id, claim.seq) == (item, 1)


@pytest.mark.parametrize("way", ["leave", "expire"])
async def test_who_did_not_die_charges_nothing(world: World, way: str):
    """However often workers leave or expire, no item is suspected."""
    [item] = await world.admit("a")

    for _ in range(4):
        worker = await world.join()
        await world.claim(worker)
        if way == "leave":
            assert await world.store.leave(worker) == 1
        else:
            await world.clock.advance(31)
            assert await world.store.reap([worker], died=False) == 1

    assert await world.store.suspects() == []
    [claim] = await world.claim(await world.join())
    assert claim.item.id == item


async def test_who_left_is_gone(world: World):
    """A closed session can write nothing more and is listed no more."""
    worker, [item] = await world.take("a")

    await world.store.leave(worker)

    assert await world.store.sessions() == []
    with pytest.raises(LeaseLost):
        await world.move(worker, item, done())
    assert await world.store.leave(worker) == 0


async def test_disowning_puts_back_what_the_worker_does_not_know(world: World):
    """After a lost answer: unknown items go back uncharged, known ones stay."""
    worker, [known, lost] = await world.take("known", "lost")

    moved = await world.store.disown(worker, [known])

    assert moved == 1
    assert await world.states([known, lost]) == ["running", "ready"]
    assert await world.store.owns(worker, known)
    assert await world.store.disown(worker, [known]) == 0


@pytest.mark.parametrize("way", ["leave", "reap", "disown"])
async def test_a_cancelled_item_does_not_go_back_in_line(world: World, way: str):
    """A worker that goes before it let a cancelled item go ends it, too."""
    worker, [item] = await world.take("a")
    await world.store.cancel([item], "ann")

    if way == "leave":
        await world.store.leave(worker)
    elif way == "reap":
        await world.store.reap([worker], died=True)
    else:
        await world.store.disown(worker, [])

    row = await world.store.item(item)
    assert (row.state, row.code) == (State.CANCELLED, "CANCELLED")
    assert row.why == "cancelled by ann"


async def test_a_worker_learns_what_to_let_go(world: World):
    """Renewing tells which of its items were cancelled, until they are gone."""
    worker, [item, _] = await world.take("a", "b")
    other, _ = await world.take("c")
    await world.store.cancel([item], "ann")

    told = await world.store.renew(worker, lease_s=30)
    others = await world.store.renew(other, lease_s=30)
    await world.move(worker, item, Finish(State.CANCELLED, "read", "CANCELLED"))

    assert (told, others) == ([item], [])
    assert await world.store.renew(worker, lease_s=30) == []


# -- pipelines -------------------------------------------------------------------------


async def test_the_same_pipeline_version_is_one_row(world: World):
    """Registering again gives the same id; a new version another."""
    files = {"pipeline.toml": "ab12"}

    one = await world.store.register_pipeline("quotes", "v1", ["price"], files)
    same = await world.store.register_pipeline("quotes", "v1", ["price"], files)
    new = await world.store.register_pipeline("quotes", "v2", ["price", "sum"], files)

    assert one == same != new
    row = await world.store.pipeline(new)
    assert row in await world.store.pipelines()
    assert (row.name, row.version, row.stages, row.files) == (
        "quotes",
        "v2",
        ["price", "sum"],
        files,
    )


async def test_an_unknown_pipeline_is_not_found(world: World):
    """Asking for a version nobody registered is NotFound."""
    with pytest.raises(NotFound):
        await world.store.pipeline(10**6)
