"""
An answer meets what happens to its item at the same time, on PostgreSQL.

Stepped, as in test_races.py: no wake-up is lost, and nothing is taken twice.
"""

from __future__ import annotations

import pytest

from pipeline.model import Entry, State
from pipeline.store.signals import Taken
from tests.store.test_conformance_signals import ask, listening, said
from tests.store.test_races import at_once, crowd, in_turn, lawful

__all__ = ["crowd", "lawful"]  # fixtures

WAITING_ROW = "select 1 from waybill.waiting where item_id = $1 for update"
SIGNAL_ROW = "select 1 from waybill.signals where item_id = $1 for update"
SIGNAL_KEY = "insert into waybill.signals (item_id, name) values ($1, 'proof')"

pytestmark = pytest.mark.usefixtures("lawful")


async def test_one_of_twenty_answers_is_the_first(crowd):
    """All at once, each from its own sender: one is taken, the others are told so."""
    worker, [item] = await crowd.take("a")
    await crowd.move(worker, item, listening(ask()))

    taken = await at_once(
        *[
            lambda n=n: crowd.store.answer(item, "proof", said(n, f"d{n}"))
            for n in range(20)
        ]
    )

    assert taken.count(Taken.NOW) == 1
    assert taken.count(Taken.ANSWERED) == 19
    [row] = await crowd.store.signals(item)
    assert row.delivery == f"d{taken.index(Taken.NOW)}"
    assert await crowd.state(item) is State.READY


async def test_the_same_delivery_twenty_times_at_once_is_one(crowd):
    """A sender that is impatient is no conflict."""
    _, [item] = await crowd.take("a")

    taken = await at_once(*[lambda: crowd.store.answer(item, "proof", said())] * 20)

    assert taken.count(Taken.KEPT) == 1
    assert taken.count(Taken.AGAIN) == 19


@pytest.mark.parametrize("first", ["park", "answer"])
@pytest.mark.parametrize("asked", [False, True])
async def test_an_answer_meets_a_park(crowd, shared, owner, first: str, asked: bool):
    """Neither has committed when the other looks: the item is woken all the same."""
    worker, [item] = await crowd.take("a")
    if asked:
        await crowd.move(worker, item, listening(ask(), ask("other")))
        await crowd.store.answer(item, "other", said())
        await crowd.claim(worker)
    calls = {
        "park": lambda: crowd.move(worker, item, listening(ask())),
        "answer": lambda: crowd.store.answer(item, "proof", said()),
    }
    order = [calls.pop(first), *calls.values()]
    gate = SIGNAL_ROW if asked else SIGNAL_KEY

    both = await in_turn(shared, owner, (gate, item), *order)
    await crowd.store.wake()

    park, answer = both if first == "park" else both[::-1]
    assert park is True
    # A row that is new has no line of its own: either may be the first.
    assert answer is (Taken.NOW if first == "park" else Taken.KEPT) or not asked
    assert await crowd.state(item) is State.READY


async def test_answers_and_parks_at_once_lose_nothing(crowd):
    """A hundred items park while their answers come in, in any order."""
    worker, items = await crowd.take(*[f"{n}" for n in range(100)])

    await at_once(
        *[
            lambda part=items[n::5]: crowd.store.commit(
                worker, [Entry(i, None, listening(ask())) for i in part]
            )
            for n in range(5)
        ],
        *[lambda i=i: crowd.store.answer(i, "proof", said()) for i in items],
    )
    await crowd.store.wake()

    assert {await crowd.state(i) for i in items} == {State.READY}


@pytest.mark.parametrize("first", ["lapse", "answer"])
async def test_an_answer_meets_the_end_of_its_time(crowd, shared, owner, first: str):
    """One of both is so, and the row says which."""
    worker, [item] = await crowd.take("a")
    await crowd.move(worker, item, listening(ask(within_s=0.0)))
    calls = {
        "lapse": lambda: crowd.store.lapse(item, "proof", "read", 0.0),
        "answer": lambda: crowd.store.answer(item, "proof", said()),
    }
    order = [calls.pop(first), *calls.values()]

    both = await in_turn(shared, owner, (SIGNAL_ROW, item), *order)

    [row] = await crowd.store.signals(item)
    lapsed = both[0 if first == "lapse" else 1]
    assert lapsed is row.lapsed is (first == "lapse")
    assert row.delivery == '"yes"'


@pytest.mark.parametrize("first", ["cancel", "answer"])
async def test_a_cancel_meets_an_answer(crowd, shared, owner, first: str):
    """Whoever comes first, the item ends cancelled or goes on, and stands once."""
    worker, [item] = await crowd.take("a")
    await crowd.move(worker, item, listening(ask()))
    calls = {
        "cancel": lambda: crowd.store.cancel([item], "ann"),
        "answer": lambda: crowd.store.answer(item, "proof", said()),
    }
    order = [calls.pop(first), *calls.values()]

    await in_turn(shared, owner, (WAITING_ROW, item), *order)

    assert await crowd.state(item) is State.CANCELLED
