"""
Effects: planned with an outcome, taken, settled, given back by class, released.  On
both stores; every call is followed by the conservation law (`world.Lawful`).
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.errors import Conflict, LeaseLost, NotFound
from pipeline.model import Entry, ItemId, WorkerId
from pipeline.outbox import EffectState as S
from pipeline.outbox import Planned, SinkClass, key_of
from pipeline.store.effects import EffectRow, Room, Settlement
from tests.store.world import World, done, finished

A, B, C = SinkClass.A, SinkClass.B, SinkClass.C
ROOMS = [Room("shop", A, 100), Room("erp", B, 100), Room("mail", C, 100)]
OF = {A: "shop", B: "erp", C: "mail"}


def plan(of: SinkClass = A, key: str = "k1", **more: Any) -> Planned:
    """A plan of an effect of this class."""
    body = json.dumps(more.pop("body", {"to": "ann"}))
    planned = Planned("read", "tell", OF[of], key, of, body, None, "{}", True)
    return planned._replace(**more)


async def planned(world: World, *plans: Planned, name: str = "a") -> ItemId:
    """An item that is done, and what it planned."""
    worker, [item] = await world.take(name)
    entry = Entry(item, finished(0, "read", ""), done(), effects=plans)
    assert await world.store.commit(worker, [entry]) == [True]
    return item


async def taken(
    world: World, *plans: Planned, **more: Any
) -> tuple[WorkerId, list[EffectRow]]:
    """Planned effects, in the hands of a courier."""
    await planned(world, *plans, **more)
    courier = await world.join()
    return courier, await sent(world, courier)


async def sent(
    world: World, courier: WorkerId, rooms: list[Room] = ROOMS
) -> list[EffectRow]:
    """Taken, and begun where they are not to be asked for; as they stand then."""
    rows = await world.store.take_effects(courier, rooms)
    begin = [e.id for e in rows if e.state is S.PLANNED]
    assert all(await world.store.begin_effects(courier, begin))
    return [await world.store.effect(e.id) for e in rows]


async def ids(world: World) -> list[int]:
    return [e.id for e in reversed(await world.store.effects())]


async def states(world: World) -> list[str]:
    return [e.state.value for e in reversed(await world.store.effects())]


async def test_an_effect_is_planned_with_the_outcome(world: World) -> None:
    """With all that a courier and a person must know of it."""
    item = await planned(world, plan(artifacts='{"reply": "aa"}'))

    [row] = await world.store.effects()

    assert (row.item_id, row.item_name, row.tenant, row.batch) == (
        item,
        "a",
        "acme",
        "may",
    )
    assert row[6:12] == ("read", "tell", "shop", "k1", A, S.PLANNED)
    assert json.loads(row.payload or "") == {"to": "ann"}
    assert row.artifacts == {"reply": "aa"}
    assert (row.tries, row.worker, row.sent_at) == (0, None, None)
    assert await world.store.effect(row.id) == row
    assert await world.store.effects(item_id=item + 1) == []
    assert await world.store.effects(sink="mail") == []
    assert await world.store.effects(states=[S.SENDING]) == []


async def test_who_lost_the_item_plans_nothing(world: World) -> None:
    """Put back and claimed by another: the first worker's plans are void."""
    first, [item] = await world.take("a")
    await world.store.disown(first, [])
    await world.claim(await world.join())

    await world.store.commit(first, [Entry(item, effects=(plan(),))])
    await world.clock.advance(31)
    with pytest.raises(LeaseLost):
        await world.store.commit(first, [Entry(item, effects=(plan(),))])

    assert await world.store.effects() == []


async def test_one_key_of_a_sink_is_one_effect(world: World) -> None:
    """Planned again, also by another item; other sinks have keys of their own."""
    await planned(world, plan(), plan(B), name="a")
    await planned(world, plan(), name="b")

    assert {e.sink for e in await world.store.effects()} == {"erp", "shop"}
    assert len(await world.store.effects()) == 2


async def test_a_newer_plan_replaces_what_was_never_sent(world: World) -> None:
    """And nothing that may have been; of one that was refused it is a new try."""
    old, new = plan(body={"v": 1}), plan(body={"v": 2})
    await planned(world, old, name="a")
    await planned(world, new, name="b")
    courier = await world.join()
    [first] = await sent(world, courier)
    await planned(world, plan(body={"v": 3}), name="c")
    sending = await world.store.effect(first.id)
    unheard = Settlement(first.id, S.PLANNED, 5, perhaps=True)
    await world.store.settle_effects(courier, [unheard])
    await planned(world, plan(body={"v": 4}), name="d")
    again = await world.store.effect(first.id)
    await world.clock.advance(6)
    await sent(world, courier)
    await world.store.settle_effects(courier, [Settlement(first.id, S.REFUSED)])
    await planned(world, plan(body={"v": 5}), name="e")
    fresh = await world.store.effect(first.id)

    def body(row: EffectRow) -> Any:
        return json.loads(row.payload or "")["v"]

    assert [body(r) for r in (first, sending, again, fresh)] == [2, 2, 2, 5]
    assert fresh.state is S.PLANNED


async def test_what_is_taken_is_sending_before_anybody_calls(world: World) -> None:
    """In order, no more than there is room for; a second courier gets the rest."""
    await planned(world, *(plan(key=f"k{n}") for n in range(3)))
    one, two = await world.join(), await world.join()

    first = await sent(world, one, [Room("shop", A, 2)])
    second = await sent(world, two)
    nothing = await sent(world, two)

    assert [e.key for e in first] == ["k0", "k1"]
    assert [e.key for e in second] == ["k2"]
    assert nothing == []
    assert {(e.state, e.tries, e.worker) for e in first} == {(S.SENDING, 1, one)}
    assert all(e.sent_at is not None and e.due_at is None for e in first)
    assert await world.store.take_effects(one, []) == []


@pytest.mark.parametrize("how", ["reap", "leave", "disown", "settle"])
async def test_what_was_not_begun_was_not_sent(world: World, how: str) -> None:
    """Whoever dies in line for a vendor leaves no doubt, and counts no try."""
    await planned(world, plan(A), plan(B), plan(C))
    courier = await world.join()
    rows = await world.store.take_effects(courier, ROOMS)
    if how == "reap":
        await world.store.reap([courier], died=True)
    elif how == "leave":
        await world.store.leave(courier)
    elif how == "disown":
        await world.store.disown_effects(courier, [])
    else:
        away = [Settlement(e.id, S.PLANNED, 0, why="AWAY: x") for e in rows]
        assert await world.store.settle_effects(courier, away) == [True] * 3
    back = await world.store.effects()
    again = await world.store.take_effects(await world.join(), ROOMS)

    assert {(e.state, e.tries, e.worker) for e in back} == {(S.PLANNED, 0, None)}
    assert [e.id for e in again] == [e.id for e in rows]
    told = [[p.event for p in await world.store.passages(e.id)] for e in rows]
    assert told == [["effect_planned"]] * 3


async def test_what_was_called_back_is_not_begun(world: World) -> None:
    """Planned otherwise, undone, or cancelled while it waits for its turn."""
    await planned(world, plan(key="k0"))
    await planned(world, plan(C, "k1", released=False), name="b")
    worker, [item] = await world.take("c")
    reached = finished(0, "read", "judge")
    third = plan(key="k2")
    await world.store.commit(worker, [Entry(item, reached, effects=(third,))])
    await world.store.leave(worker)
    one, two, three = await ids(world)
    await world.store.release_effects("ann", ids=[two], in_s=0)
    courier = await world.join()
    assert len(await world.store.take_effects(courier, ROOMS)) == 3

    await planned(world, plan(key="k0", body={"to": "eve"}), name="d")
    await world.store.undo_release("ann", ids=[two])
    await world.store.cancel([item], "ann")
    begun = await world.store.begin_effects(courier, [one, two, three])
    void = await world.store.settle_effects(courier, [Settlement(one, S.PLANNED, 60)])
    [newer] = await world.store.take_effects(courier, ROOMS)

    assert (begun, void) == ([False] * 3, [False])
    assert await states(world) == ["planned", "awaiting_release", "planned"]
    assert json.loads(newer.payload or "") == {"to": "eve"}


async def test_each_is_settled_by_its_own_outcome(world: World) -> None:
    """Confirmed with what the receiver said, refused, or due again later."""
    courier, rows = await taken(world, *(plan(key=f"k{n}") for n in range(3)))
    a, b, c = [e.id for e in rows]

    stood = await world.store.settle_effects(
        courier,
        [
            Settlement(a, S.CONFIRMED, answer='{"id": "x1"}'),
            Settlement(b, S.REFUSED, why="VENDOR_REFUSED: no\x00such field"),
            Settlement(c, S.PLANNED, 20, why="VENDOR_DOWN: away"),
        ],
    )
    soon = await sent(world, courier)
    await world.clock.advance(21)
    later = await sent(world, courier)

    assert stood == [True] * 3
    assert await states(world) == ["confirmed", "refused", "sending"]
    assert (await world.store.effect(a)).answer == {"id": "x1"}
    assert (await world.store.effect(a)).ended_at is not None
    assert (await world.store.effect(b)).why == "VENDOR_REFUSED: nosuch field"
    assert soon == []
    assert [(e.id, e.tries) for e in later] == [(c, 2)]
    told = [p.event for p in await world.store.passages(c)]
    assert told == [
        *("effect_planned", "effect_sending", "effect_planned", "effect_sending")
    ]


async def test_a_zombie_neither_takes_nor_settles(world: World) -> None:
    """Reaped, its effects are others'; what it says of them is void."""
    courier, [row] = await taken(world, plan())
    await world.store.reap([courier], died=True)
    other = await world.join()
    [again] = await sent(world, other)

    with pytest.raises(LeaseLost):
        await world.store.settle_effects(courier, [Settlement(row.id, S.CONFIRMED)])
    with pytest.raises(LeaseLost):
        await world.store.take_effects(courier, ROOMS)
    with pytest.raises(LeaseLost):
        await world.store.begin_effects(courier, [row.id])
    with pytest.raises(LeaseLost):
        await world.store.disown_effects(courier, [])
    third = await world.join()
    void = await world.store.settle_effects(third, [Settlement(row.id, S.CONFIRMED)])

    assert void == [False]
    assert (again.id, again.tries, again.key) == (row.id, 2, row.key)
    assert await states(world) == ["sending"]


@pytest.mark.parametrize("how", ["reap", "leave"])
async def test_a_worker_that_ends_leaves_them_by_class(world: World, how: str) -> None:
    """A: planned again; B: asked for; C: in doubt, and never taken again."""
    courier, _ = await taken(world, plan(A), plan(B), plan(C))
    if how == "reap":
        await world.store.reap([courier], died=True)
    else:
        await world.store.leave(courier)
    found = {e.sink_class: e for e in await world.store.effects()}
    other = await world.join()
    again = await sent(world, other)

    assert [found[c].state for c in (A, B, C)] == [S.PLANNED, S.IN_DOUBT, S.IN_DOUBT]
    assert found[C].due_at is None
    assert "nobody heard" in found[C].why
    assert {(e.sink_class, e.state, e.tries) for e in again} == {
        (A, S.SENDING, 2),
        (B, S.IN_DOUBT, 1),
    }
    assert [e.worker for e in again] == [other, other]


async def test_who_asks_and_dies_leaves_the_question(world: World) -> None:
    """It is asked again by another, and nothing is sent meanwhile."""
    courier, _ = await taken(world, plan(B))
    await world.store.reap([courier], died=True)
    second, third = await world.join(), await world.join()
    await sent(world, second)
    [number] = await ids(world)
    with pytest.raises(Conflict):
        await world.store.resolve_effect(number, S.CONFIRMED, "ann", "")
    await world.store.reap([second], died=True)

    [asked] = await sent(world, third)
    await world.store.settle_effects(third, [Settlement(asked.id, S.PLANNED, 0)])

    assert (asked.state, asked.tries) == (S.IN_DOUBT, 1)
    assert await states(world) == ["planned"]


async def test_what_was_taken_unheard_was_never_sent(world: World) -> None:
    """The answer of `take_effects` was lost: of every class it is planned again."""
    await planned(world, plan(A), plan(B), plan(C))
    courier = await world.join()
    rows = await world.store.take_effects(courier, ROOMS)
    [kept] = [e.id for e in rows if e.sink_class is A]

    count = await world.store.disown_effects(courier, [kept])
    again = await sent(world, courier)

    assert count == 2
    assert {(e.sink_class, e.state, e.tries) for e in again} == {
        (B, S.SENDING, 1),
        (C, S.SENDING, 1),
    }


async def test_a_cancelled_item_sends_no_more(world: World) -> None:
    """What it planned stands still; put back in line, it goes on."""
    worker, [item] = await world.take("a")
    reached = finished(0, "read", "judge")
    await world.store.commit(worker, [Entry(item, reached, effects=(plan(),))])
    await world.store.leave(worker)
    await world.store.cancel([item], "ann")
    courier = await world.join()

    stopped = await sent(world, courier)
    [row] = await world.store.effects()
    aside = True
    if database := getattr(world.store, "database", None):
        # Met by that look, and by no other: they would be gone through for ever.
        aside = await database.fetchval("select still from waybill.effects")
    await world.store.retry([item], "ann")
    resumed = await sent(world, courier)

    assert stopped == []
    assert (row.state, row.cancelled) == (S.PLANNED, True)
    assert aside
    assert [e.id for e in resumed] == [row.id]


async def test_one_that_cannot_be_taken_back_waits_for_a_person(world: World) -> None:
    """Released, it is due after a window, in which it can be called back."""
    await planned(world, plan(C, released=False), plan(C, "k2", released=False))
    batch = await world.batch()
    one, two = await ids(world)
    courier = await world.join()
    held = await sent(world, courier)
    waiting = await world.store.awaiting_release(batch.id)
    released = await world.store.release_effects("ann", ids=waiting, in_s=20)
    early = await sent(world, courier)
    undone = await world.store.undo_release("bob", ids=[one])
    await world.clock.advance(21)
    gone = await sent(world, courier)
    late = await world.store.undo_release("bob", batch_id=batch.id)
    first, second = await world.store.effect(one), await world.store.effect(two)

    assert held == early == late == []
    assert (released, undone) == ([one, two], [one])
    assert [e.id for e in gone] == [two]
    assert (first.state, first.released_by) == (S.AWAITING_RELEASE, None)
    assert (second.state, second.released_by) == (S.SENDING, "ann")
    assert [(p.event, p.actor) for p in (await world.store.passages(one))[1:]] == [
        ("effect_released", "ann"),
        ("effect_awaiting_release", "bob"),
    ]


@pytest.mark.parametrize("of", [A, C])
async def test_what_surely_was_not_sent_is_called_back(
    world: World, of: SinkClass
) -> None:
    """However often it was tried; and what is planned and released anew after a no."""
    await planned(world, plan(of, released=False), name="a")
    [number] = await ids(world)
    courier = await world.join()

    async def tried(state: S, due_s: float | None = None) -> None:
        await world.store.release_effects("ann", ids=[number], in_s=0)
        await world.store.take_effects(courier, ROOMS)
        settled = [Settlement(number, state, due_s, why="VENDOR_DOWN: away")]
        assert await world.store.settle_effects(courier, settled) == [True]

    await tried(S.PLANNED, 60)
    away = await world.store.undo_release("bob", ids=[number])
    await planned(world, plan(of, released=False, body={"to": "eve"}), name="b")
    replaced = await world.store.effect(number)
    await tried(S.REFUSED)
    await planned(world, plan(of, released=False), name="c")
    await world.store.release_effects("ann", ids=[number], in_s=60)
    anew = await world.store.undo_release("bob", ids=[number])

    assert away == anew == [number]
    assert json.loads(replaced.payload or "") == {"to": "eve"}
    assert await states(world) == ["awaiting_release"]


async def test_what_may_have_happened_is_not_called_back(world: World) -> None:
    """It would be said to wait for a release, with another body."""
    plans = [plan(A, f"k{n}", released=False) for n in (1, 2, 3)]
    await planned(world, *plans, plan(C, "k4", released=False))
    given = doubtful, unheard, _, sent = await ids(world)
    await world.store.release_effects("ann", ids=given, in_s=0)
    courier = await world.join()
    await world.store.take_effects(courier, ROOMS)
    assert all(await world.store.begin_effects(courier, given))
    settled = [
        Settlement(unheard, S.PLANNED, 60, why="VENDOR_TIMEOUT: lost", perhaps=True),
        Settlement(sent, S.CONFIRMED),
    ]
    await world.store.settle_effects(courier, settled)
    await world.store.reap([courier], died=True)
    await world.store.resend_effect(sent, "ann")
    await world.store.resend_effect(doubtful, "ann")

    undone = await world.store.undo_release("bob", ids=given)

    assert undone == []
    assert await states(world) == ["planned"] * 4


async def test_a_release_is_of_what_was_seen(world: World) -> None:
    """Planned otherwise since, it waits again."""
    await planned(world, plan(C, released=False), name="a")
    [number] = await ids(world)
    await world.store.release_effects("ann", ids=[number], in_s=60)
    await planned(world, plan(C, released=False), name="b")
    same = await world.store.effect(number)
    await planned(world, plan(C, released=False, body={"to": "eve"}), name="c")
    other = await world.store.effect(number)

    assert (same.state, same.released_by) == (S.PLANNED, "ann")
    assert (other.state, other.released_by) == (S.AWAITING_RELEASE, None)


async def test_a_person_settles_a_doubt(world: World) -> None:
    """As done, as refused, or as not sent: then it is sent."""
    courier, _ = await taken(world, plan(C), plan(C, "k2"), plan(C, "k3"))
    a, b, c = await ids(world)
    with pytest.raises(Conflict):
        await world.store.resolve_effect(a, S.CONFIRMED, "ann", "")
    await world.store.reap([courier], died=True)

    await world.store.resolve_effect(a, S.CONFIRMED, "ann", "it is in the outbox")
    await world.store.resolve_effect(b, S.REFUSED, "ann", "")
    await world.store.resolve_effect(c, S.PLANNED, "ann", "not in the outbox")
    other = await world.join()
    again = await sent(world, other)

    assert await states(world) == ["confirmed", "refused", "sending"]
    assert (await world.store.effect(a)).why == "it is in the outbox"
    assert [(e.id, e.tries) for e in again] == [(c, 2)]
    with pytest.raises(NotFound):
        await world.store.resolve_effect(c + 99, S.CONFIRMED, "ann", "")


async def test_a_person_sends_again(world: World) -> None:
    """What was refused or is in doubt; what is confirmed only where a key is known."""
    courier, rows = await taken(world, plan(A), plan(C, "k2"), plan(C, "k3"))
    a, b, c = [e.id for e in sorted(rows, key=lambda e: e.key)]
    with pytest.raises(Conflict):
        await world.store.resend_effect(a, "ann")
    ends = [S.CONFIRMED, S.CONFIRMED, S.REFUSED]
    await world.store.settle_effects(
        courier, [Settlement(e, end) for e, end in zip((a, b, c), ends, strict=True)]
    )

    await world.store.resend_effect(a, "ann")
    await world.store.resend_effect(c, "ann")
    with pytest.raises(Conflict):
        await world.store.resend_effect(b, "ann")
    again = await sent(world, courier)

    assert {(e.id, e.key) for e in again} == {(a, "k1"), (c, "k3")}


async def test_effects_are_counted_by_sink_and_state(world: World) -> None:
    """Of a batch all; of everything what is not confirmed."""
    courier, rows = await taken(world, plan(A), plan(C))
    [shop] = [e.id for e in rows if e.sink == "shop"]
    await world.store.settle_effects(courier, [Settlement(shop, S.CONFIRMED)])
    await world.store.reap([courier], died=True)
    batch = await world.batch()
    other = await world.batch("june")

    assert await world.store.count_effects(batch.id) == {
        ("shop", S.CONFIRMED): 1,
        ("mail", S.IN_DOUBT): 1,
    }
    assert await world.store.count_effects() == {("mail", S.IN_DOUBT): 1}
    assert await world.store.count_effects(other.id) == {}


async def test_what_gathers_is_due_together(world: World) -> None:
    """All that is planned in a while, at its end."""
    await world.clock.advance(0.5)
    await planned(world, plan(gather_s=3600), name="a")
    await planned(world, plan(key="k2", gather_s=3600), name="b")
    courier = await world.join(lease_s=9000)

    early = await sent(world, courier)
    await world.clock.advance(3601)
    together = await sent(world, courier)

    assert early == []
    assert [e.key for e in together] == ["k1", "k2"]


def test_a_key_is_of_its_origin_alone() -> None:
    """The same for ever, and no two origins run into one another."""
    assert key_of("a", 1, "b") == key_of("a", "1", "b")
    assert key_of("ab", "c") != key_of("a", "bc")
    assert len(key_of("x")) == 40
