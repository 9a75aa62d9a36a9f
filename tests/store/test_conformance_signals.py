"""
Signals: asked for by whoever parks, answered once, by whoever comes first.  On both
stores; every call is followed by the conservation law (`world.Lawful`).
"""

from __future__ import annotations

import json

import pytest

from pipeline.model import Entry, Finish, ItemId, State, ToWaiting, WorkerId
from pipeline.signals import Ask
from pipeline.store.rows import Mark
from pipeline.store.signals import SIGNALS_MAX, Delivery, Taken
from tests.store.world import World, done, finished, parked, waiting

HOUR_S = 3600.0
SCHEMA = '{"type": "string"}'


def ask(name: str = "proof", within_s: float | None = None, **more) -> Ask:
    """What a stage asks for; it looks again when its time is over."""
    wake_s = more.pop("wake_s", 1e6 if within_s is None else within_s)
    return Ask(name, more.pop("schema", None), within_s, wake_s, **more)


def listening(*asks: Ask, stage: str = "read", seq: int = 0) -> ToWaiting:
    """Parked with these."""
    for_s = min(a.wake_s for a in asks)
    return ToWaiting(stage, seq, 0, for_s, "the signal", asks=asks)


def said(text: object = "yes", name: str = "", **more) -> Delivery:
    """An answer; what it says is its id, unless it has a name."""
    payload = json.dumps(text)
    return Delivery(name or payload, payload, None, "ann", **more)


async def listens(world: World, *asks: Ask) -> tuple[WorkerId, ItemId]:
    """A new item that waits for signals."""
    worker, [item] = await world.take("a")
    assert await world.move(worker, item, listening(*(asks or (ask(),))))
    return worker, item


# -- the answer ------------------------------------------------------------------------


async def test_an_answer_wakes_the_item_that_waits_for_it(world: World):
    """It is in line again at once, where it was, and the answer is there."""
    worker, item = await listens(world)

    assert await world.store.answer(item, "proof", said({"ok": 1})) is Taken.NOW

    assert await world.state(item) is State.READY
    [claim] = await world.claim(worker)
    assert (claim.item.id, claim.stage, claim.seq, claim.attempt) == (
        item,
        "read",
        0,
        0,
    )
    [row] = await world.store.signals(item)
    assert json.loads(row.payload) == {"ok": 1}
    assert (row.delivery, row.author) == ('{"ok": 1}', "ann")
    assert not row.open


async def test_another_answer_does_not_wake_it(world: World):
    """It is kept, for whoever asks for it."""
    _, item = await listens(world)

    assert await world.store.answer(item, "other", said()) is Taken.KEPT

    assert await world.state(item) is State.WAITING
    assert [r.name for r in await world.store.signals(item) if r.open] == ["proof"]


async def test_any_of_several_wakes_it(world: World):
    """All that were asked for are, until they are answered."""
    _, item = await listens(world, ask("a"), ask("b"))

    assert await world.store.answer(item, "b", said()) is Taken.NOW

    assert [(r.name, r.open) for r in await world.store.signals(item)] == [
        ("a", True),
        ("b", False),
    ]
    assert [r.name for r in await world.store.signals(item, "b")] == ["b"]


@pytest.mark.parametrize("where", ["ready", "running", "waiting", "held"])
async def test_an_early_answer_is_kept_wherever_the_item_is(world: World, where):
    """It is not moved; and when it asks, it does not wait."""
    worker, [item] = await world.take("a")
    if where == "ready":
        await world.store.leave(worker)
    elif where != "running":
        move = waiting(60) if where == "waiting" else parked()
        await world.move(worker, item, move)

    assert await world.store.answer(item, "proof", said()) is Taken.KEPT

    assert (await world.state(item)).value == where


async def test_one_that_parks_with_an_answer_there_goes_on(world: World):
    """The answer came after its stage had looked."""
    worker, [item] = await world.take("a")
    await world.store.answer(item, "proof", said())

    await world.move(worker, item, listening(ask()))
    await world.store.wake()

    assert await world.state(item) is State.READY


async def test_the_first_answer_stands(world: World):
    """Others are told so; the same delivery again is acknowledged, for ever."""
    worker, item = await listens(world)
    await world.store.answer(item, "proof", said("yes", "one"))

    assert await world.store.answer(item, "proof", said("no", "two")) is Taken.ANSWERED
    assert await world.store.answer(item, "proof", said("no", "one")) is Taken.AGAIN
    await world.claim(worker)
    await world.move(worker, item, done())
    assert await world.store.answer(item, "proof", said("no", "one")) is Taken.AGAIN
    assert await world.store.answer(item, "proof", said("no", "two")) is Taken.ANSWERED
    [row] = await world.store.signals(item)
    assert json.loads(row.payload) == "yes"


@pytest.mark.parametrize("state", [State.DONE, State.FAILED, State.CANCELLED])
async def test_a_late_answer_is_refused(world: World, state):
    """The item has ended."""
    worker, [item] = await world.take("a")
    await world.move(worker, item, Finish(state, "read", "X"))

    assert await world.store.answer(item, "proof", said()) is Taken.LATE

    assert await world.store.signals(item) == []


async def test_a_foreign_answer_is_refused(world: World):
    """An item of another tenant is as unknown as one that there is not."""
    _, item = await listens(world)

    for number, tenant in ((item, "other"), (item + 1, "acme"), (item + 1, "")):
        answer = world.store.answer(number, "proof", said(), tenant=tenant)
        assert await answer is Taken.UNKNOWN

    assert await world.state(item) is State.WAITING
    taken = await world.store.answer(item, "proof", said(), tenant="acme")
    assert taken is Taken.NOW


async def test_an_answer_that_came_too_late_by_its_own_word(world: World):
    """What it was signed for has an end, by the store's clock."""
    _, item = await listens(world)
    until = await world.store.callback_until(item, 60)
    later = await world.store.callback_until(item, None)
    assert later - until > 30 * 86400

    await world.clock.advance(62)

    answer = said(until=until)
    assert await world.store.answer(item, "proof", answer) is Taken.EXPIRED
    answer = said(until=later)
    assert await world.store.answer(item, "proof", answer) is Taken.NOW


async def test_what_nobody_asks_for_is_bounded(world: World):
    """An item keeps so many; what it asked for is taken all the same."""
    _, item = await listens(world)
    for n in range(SIGNALS_MAX):
        assert await world.store.answer(item, f"s{n}", said()) is Taken.KEPT

    assert await world.store.answer(item, "more", said()) is Taken.FULL
    assert await world.store.answer(item, "proof", said()) is Taken.NOW


async def test_an_answer_in_an_artifact(world: World):
    """Its name stands in the row."""
    _, item = await listens(world)
    answer = Delivery("d", None, "f" * 64, "ann")

    assert await world.store.answer(item, "proof", answer) is Taken.NOW

    [row] = await world.store.signals(item)
    assert (row.payload, row.ref) == (None, "f" * 64)


async def test_an_answer_must_have_been_seen_to_fit(world: World):
    """By what is asked for now; nothing is done with one that was not."""
    _, item = await listens(world, ask(schema=SCHEMA))

    for schema in (None, {"type": "number"}):
        answer = said("1", schema=schema)
        assert await world.store.answer(item, "proof", answer) is Taken.UNSEEN
    assert (await world.store.signals(item))[0].open

    answer = said("1", schema=json.loads(SCHEMA))
    assert await world.store.answer(item, "proof", answer) is Taken.NOW


# -- asking ----------------------------------------------------------------------------


async def test_where_it_is_and_what_it_waits_for(world: World):
    """Seen by whoever asks where an item is."""
    await world.batch(deadline_s=9 * HOUR_S)
    _, item = await listens(world, ask(within_s=HOUR_S, schema=SCHEMA))

    row = await world.store.item(item)
    [asked] = await world.store.signals(item)

    assert (row.state, row.code, row.why) == (State.WAITING, "SIGNAL", "the signal")
    assert asked.schema == {"type": "string"}
    assert asked.stage == "read"
    assert abs((row.until - asked.until).total_seconds()) < 1  # a statement each
    assert (asked.until - asked.asked_at).total_seconds() == HOUR_S
    assert (asked.open, asked.poll_s) == (True, None)


async def test_an_item_that_waits_for_something_else_has_no_such_code(world: World):
    """And no signal wakes it."""
    worker, [item] = await world.take("a")
    await world.move(worker, item, listening(ask()))
    await world.clock.advance(HOUR_S - 1)
    await world.store.pin({item: Mark("read", -1)}, world.pipeline, "ann")
    again = await world.join()
    await world.claim(again)
    await world.move(again, item, waiting(60))

    assert (await world.store.item(item)).code == "THROTTLED"
    assert await world.store.answer(item, "proof", said()) is Taken.KEPT
    assert await world.state(item) is State.WAITING


async def test_its_time_is_over(world: World):
    """It is woken; its stage goes on without, and that stands."""
    await world.batch(deadline_s=9 * HOUR_S)
    _, item = await listens(world, ask(within_s=60))
    assert not await world.store.lapse(item, "proof", "read", 60)

    await world.clock.advance(61)
    await world.store.wake()

    assert await world.state(item) is State.READY
    assert not await world.store.lapse(item, "proof", "judge", 60)
    assert await world.store.lapse(item, "proof", "read", 60)
    [row] = await world.store.signals(item)
    assert (row.lapsed, row.open) == (True, False)
    assert row.asked_s >= 61
    assert await world.store.answer(item, "proof", said()) is Taken.KEPT
    [row] = await world.store.signals(item)
    assert (row.lapsed, row.delivery) == (True, '"yes"')


async def test_an_answer_before_the_stage_went_on_counts(world: World):
    """Whoever is first in the row: it has not lapsed any more."""
    await world.batch(deadline_s=9 * HOUR_S)
    _, item = await listens(world, ask(within_s=60))
    await world.clock.advance(61)
    await world.store.answer(item, "proof", said())

    assert not await world.store.lapse(item, "proof", "read", 60)

    [row] = await world.store.signals(item)
    assert not row.lapsed


async def test_time_runs_from_the_first_ask_of_a_stage(world: World):
    """Parked again it waits no longer; another stage has its own time."""
    await world.batch(deadline_s=9 * HOUR_S)
    _, item = await listens(world, ask(within_s=100, wake_s=30))
    [first] = await world.store.signals(item)
    await world.clock.advance(31)
    await world.store.wake()
    again = await world.join()
    await world.claim(again)
    await world.move(again, item, listening(ask(within_s=200, poll_s=7.0)))
    [second] = await world.store.signals(item)
    assert second.asked_at == first.asked_at
    assert (second.until - second.asked_at).total_seconds() == 200
    assert 6 <= second.poll_s <= 7

    await world.clock.advance(201)
    assert await world.store.lapse(item, "proof", "read", 200)
    await world.store.wake()
    third = await world.join()
    await world.claim(third)
    await world.move(third, item, listening(ask(within_s=50), stage="judge"))

    [row] = await world.store.signals(item)
    assert (row.stage, row.lapsed, row.open) == ("judge", False, True)
    assert (row.until - row.asked_at).total_seconds() == 50
    assert row.asked_at > first.asked_at


async def test_nobody_waits_past_the_deadline(world: World):
    """Whatever time it asked for."""
    _, item = await listens(world, ask(within_s=9e6))

    row = await world.store.item(item)
    assert row.until == row.deadline_at
    await world.clock.advance(HOUR_S + 1)
    await world.store.wake()

    assert await world.state(item) is State.READY


async def test_an_answer_that_does_not_fit_is_forgotten(world: World):
    """The next one is the first.  A later one that took its place stays."""
    worker, [item] = await world.take("a")
    await world.store.answer(item, "proof", said("bad", "bad"))
    await world.move(worker, item, listening(ask(void="bad")))

    assert await world.state(item) is State.WAITING
    assert await world.store.answer(item, "proof", said("good", "good")) is Taken.NOW

    again = await world.join()
    await world.claim(again)
    await world.move(again, item, listening(ask(void="bad")))
    await world.store.wake()
    assert await world.state(item) is State.READY


async def test_whoever_lost_the_item_asks_for_nothing(world: World):
    """A worker that was replaced changes no row."""
    worker, [item] = await world.take("a")
    await world.store.answer(item, "proof", said("bad", "bad"))
    await world.store.reap([worker], died=True)
    other = await world.join()
    third = await world.join()
    await world.claim(third)

    assert not await world.move(other, item, listening(ask(), ask("b", void="bad")))

    [row] = await world.store.signals(item)
    assert (row.name, row.stage, row.delivery) == ("proof", "", "bad")


async def test_a_neighbours_park_is_its_own(world: World):
    """Many park in one commit, each with its own signals."""
    worker, items = await world.take("a", "b", "c")
    await world.store.answer(items[1], "proof", said())
    moves = [Entry(i, finished(0, "read", "judge"), listening(ask())) for i in items]

    assert await world.store.commit(worker, moves) == [True] * 3
    await world.store.wake()

    states = [await world.state(i) for i in items]
    assert states == [State.WAITING, State.READY, State.WAITING]


# -- people ----------------------------------------------------------------------------


async def test_a_parked_item_is_cancelled_at_once(world: World):
    """And answered no more."""
    _, item = await listens(world)

    assert await world.store.cancel([item], "ann") == {item: "cancelled"}
    assert await world.store.answer(item, "proof", said()) is Taken.LATE


@pytest.mark.parametrize("how", ["retry", "pin"])
async def test_put_back_in_line_it_asks_anew(world: World, how):
    """Its time begins again, and what came late counts."""
    await world.batch(deadline_s=9 * HOUR_S)
    _, item = await listens(world, ask(within_s=60))
    await world.clock.advance(61)
    await world.store.wake()
    await world.store.lapse(item, "proof", "read", 60)
    await world.store.answer(item, "proof", said())
    again = await world.join()
    await world.claim(again)
    await world.move(again, item, Finish(State.FAILED, "read", "SIGNAL_TIMEOUT"))

    if how == "retry":
        await world.store.retry([item], "ann")
    else:
        await world.store.pin({item: Mark("read", -1)}, world.pipeline, "ann")

    [row] = await world.store.signals(item)
    assert (row.stage, row.lapsed, row.until) == ("", False, None)
    assert row.delivery == '"yes"'


async def test_pinned_while_it_waits_it_keeps_its_time(world: World):
    """It looks again with the new version, and asks for the same."""
    _, item = await listens(world, ask(within_s=600))

    said_ = await world.store.pin({item: Mark("read", -1)}, world.pipeline, "ann")

    assert said_ == {item: "ready"}
    [row] = await world.store.signals(item)
    assert row.open
