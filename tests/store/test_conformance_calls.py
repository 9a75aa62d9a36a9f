"""The ledger of calls, on both stores: opened before, settled after, never lost."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from pipeline.calls import (
    Budget,
    CallId,
    CallOpening,
    Money,
    ServiceBudget,
    Settled,
    Usage,
    WhenUsedUp,
)
from pipeline.errors import LeaseLost, NotFound
from pipeline.model import Entry, Finish, ItemId, Spawn, State
from pipeline.parts import Part
from pipeline.store.outside import Short, Spent
from tests.store.world import World, done, step, waiting

DAY_S = 86400
NONE = Usage()


def opening(item: ItemId, most: str = "1", **more: Any) -> CallOpening:
    """A call of the LLM that can cost so much."""
    return CallOpening(item, "read", "ask-1", "llm", Decimal(most), **more)


def usd(amount: str) -> Money:
    return Money(Decimal(amount), "USD")


def paid(call: CallId, cost: str | None = "0.25", **more: Any) -> Settled:
    return Settled(call, None if cost is None else Decimal(cost), **more)


def refused(said: Any) -> tuple[str, str]:
    assert isinstance(said, Short)
    return said.code, said.budget


async def reserved(world: World, name: str) -> tuple[Decimal, Decimal]:
    """What a budget has spent and reserved."""
    [row] = await world.store.budget(name)
    return row.spent.cost, row.spent.reserved


async def test_a_call_is_written_down_and_paid_for_before_it_is_made(world: World):
    """It stands in the ledger, open, and what it can cost is reserved everywhere."""
    worker, [item] = await world.take("a")

    [call] = await world.store.open_calls(worker, [opening(item, "0.70")])

    assert call == CallId(item, 1)
    [row] = await world.store.calls_of(item)
    assert (row.number, row.stage, row.step, row.vendor) == (1, "read", "ask-1", "llm")
    assert (row.settled_at, row.reserved) == (None, Decimal("0.70"))
    batch = await world.batch()
    for name in (f"item/{item}", f"batch/{batch.id}", "tenant/acme"):
        assert await reserved(world, name) == (0, Decimal("0.70"))


@pytest.mark.parametrize("number", ["٣", "²", "-1", "1" * 25, "{item}" + "0" * 18])
async def test_a_budget_of_what_is_no_number_of_ours_is_nobodys(
    world: World, number: str
):
    """Neither other digits nor a number that is too long mean another item."""
    _, [item] = await world.take("a")

    with pytest.raises(NotFound, match="nothing named"):
        await world.store.set_budget(f"item/{number.format(item=item)}", usd("1"))


async def test_it_is_settled_in_the_transaction_of_its_step(world: World):
    """What it did cost is spent, the rest free; the usage is kept, in four parts."""
    worker, [item] = await world.take("a")
    [call] = await world.store.open_calls(worker, [opening(item)])
    used = Usage(
        input_tokens=10, cached_input_tokens=7, output_tokens=5, reasoning_tokens=3
    )
    how = paid(call, usage=used, model="small-2", finish="stop", took_s=1.5)

    await world.store.commit(
        worker, [Entry(item, step(0, "read", "ask-1"), settled=how)]
    )

    [row] = await world.store.calls_of(item)
    assert (row.cost, row.usage, row.model, row.finish) == (
        Decimal("0.25"),
        used,
        "small-2",
        "stop",
    )
    assert row.settled_at is not None
    batch = await world.batch()
    spent = [Spent("USD", 1, 0, Decimal("0.25"), Decimal(0), used)]
    assert await world.store.spent(item=item) == spent
    assert await world.store.spent(batch_id=batch.id) == spent
    assert await world.store.spent() == spent


async def test_a_call_is_settled_once(world: World):
    """A commit that is sent again after a lost answer counts nothing twice."""
    worker, [item] = await world.take("a")
    [call] = await world.store.open_calls(worker, [opening(item)])

    for cost in ("0.25", "0.99"):
        await world.store.settle_calls(worker, [paid(call, cost)])
        await world.store.commit(worker, [Entry(item, settled=paid(call, cost))])

    assert await reserved(world, "tenant/acme") == (Decimal("0.25"), 0)


async def test_the_same_opening_sent_again_is_one_call(world: World):
    """As after a COMMIT whose answer was lost."""
    worker, [item] = await world.take("a")
    asked = opening(item)

    first = await world.store.open_calls(worker, [asked])
    again = await world.store.open_calls(worker, [asked, opening(item)])

    assert again == [*first, CallId(item, 2)]
    assert await reserved(world, "tenant/acme") == (0, 2)


async def test_a_call_that_failed_counts_at_what_it_cost(world: World):
    """Without a step; when nobody knows what it cost, at the most."""
    worker, [item] = await world.take("a")
    known, unknown = await world.store.open_calls(
        worker, [opening(item), opening(item)]
    )

    ends = [paid(known, "0.1", code="GARBAGE"), paid(unknown, None, code="TIMEOUT")]
    await world.store.settle_calls(worker, ends)

    [spent] = await world.store.spent(item=item)
    assert (spent.calls, spent.failed, spent.cost) == (2, 2, Decimal("1.1"))
    assert [c.code for c in await world.store.calls_of(item)] == ["TIMEOUT", "GARBAGE"]


@pytest.mark.parametrize("end", ["reap", "leave"])
async def test_open_calls_of_a_worker_that_is_gone_cost_the_most(world: World, end):
    """Nobody can say what became of them; what was settled stays as it was."""
    worker, [item] = await world.take("a")
    asked = [opening(item, "2"), opening(item, "3")]
    known, _ = await world.store.open_calls(worker, asked)
    await world.store.settle_calls(worker, [paid(known)])

    if end == "reap":
        await world.store.reap([worker], died=True)
    else:
        await world.store.leave(worker)

    lost, _ = await world.store.calls_of(item)
    assert (lost.code, lost.cost) == ("OUTCOME_UNKNOWN", 3)
    assert lost.settled_at is not None
    assert await reserved(world, "tenant/acme") == (Decimal("3.25"), 0)


async def test_a_replaced_worker_neither_opens_nor_settles(world: World):
    """Its lease is gone: what it wrote would not be so any more."""
    worker, [item] = await world.take("a")
    [call] = await world.store.open_calls(worker, [opening(item)])
    await world.store.reap([worker], died=True)

    with pytest.raises(LeaseLost):
        await world.store.open_calls(worker, [opening(item)])
    with pytest.raises(LeaseLost):
        await world.store.settle_calls(worker, [paid(call)])
    with pytest.raises(LeaseLost):
        await world.store.commit(worker, [Entry(item, settled=paid(call))])
    assert len(await world.store.calls_of(item)) == 1


async def test_a_worker_settles_its_own_calls_only(world: World):
    """Another one's call stays open."""
    worker, [item] = await world.take("a")
    [call] = await world.store.open_calls(worker, [opening(item)])
    other = await world.join()

    await world.store.settle_calls(other, [paid(call)])
    await world.store.commit(other, [Entry(item, settled=paid(call))])

    assert await reserved(world, "tenant/acme") == (0, 1)


async def test_an_item_that_left_its_worker_calls_nobody(world: World):
    """A task that goes on after its item has opens nothing."""
    worker, [item, other] = await world.take("a", "b")
    await world.move(worker, item, waiting(60))

    said = await world.store.open_calls(worker, [opening(item), opening(other)])

    assert refused(said[0]) == ("NOT_OURS", "")
    assert said[1] == CallId(other, 1)
    assert await world.store.calls_of(item) == []


async def test_a_budget_is_never_passed(world: World):
    """All that is open counts at the most that it can cost."""
    worker, items = await world.take(*"abcde")
    await world.store.set_budget("tenant/acme", usd("2.5"))

    said = await world.store.open_calls(worker, [opening(i) for i in items])

    assert [isinstance(s, CallId) for s in said] == [True, True, False, False, False]
    assert {refused(s) for s in said[2:]} == {("BUDGET_RESERVED", "tenant/acme")}
    assert await reserved(world, "tenant/acme") == (0, 2)

    await world.store.settle_calls(worker, [paid(s, "1") for s in said[:2]])
    [said] = await world.store.open_calls(worker, [opening(items[3])])
    assert refused(said) == ("BUDGET_USED_UP", "tenant/acme")
    assert (said.bound, said.left, said.currency) == (
        Decimal("2.5"),
        Decimal("0.5"),
        "USD",
    )


async def test_all_budgets_pay_or_none(world: World):
    """A call that its batch cannot pay takes nothing from its tenant either."""
    worker, [item] = await world.take("a")
    await world.store.set_budget("tenant/acme", usd("5"))
    poor = Budget(batch=usd("0.5"))

    [said] = await world.store.open_calls(worker, [opening(item, budget=poor)])

    batch = await world.batch()
    assert refused(said) == ("BUDGET_USED_UP", f"batch/{batch.id}")
    assert await reserved(world, "tenant/acme") == (0, 0)
    assert await world.store.calls_of(item) == []


@pytest.mark.parametrize(
    ("declared", "name"),
    [
        ({"budget": Budget(item=usd("1"))}, "item/{item}"),
        ({"budget": Budget(batch=usd("1"))}, "batch/{batch}"),
        ({"service": ServiceBudget(tenant=usd("1"))}, "tenant/acme"),
        ({"service": ServiceBudget(day=usd("1"))}, "day/{day}"),
    ],
)
async def test_files_bound_every_kind_of_budget(world: World, declared, name):
    """And a person's word goes before the file's."""
    worker, [item] = await world.take("a")
    batch = await world.batch()
    [first, second] = await world.store.open_calls(
        worker, [opening(item, **declared), opening(item, **declared)]
    )
    [row] = [r for r in await world.store.budgets() if r.name.startswith("day/")]
    name = name.format(item=item, batch=batch.id, day=row.name[4:])

    assert first == CallId(item, 1)
    assert refused(second) == ("BUDGET_RESERVED", name)

    every_day = "day" if name.startswith("day/") else name
    await world.store.set_budget(every_day, usd("2"))
    [third] = await world.store.open_calls(worker, [opening(item, **declared)])
    assert third == CallId(item, 2)


async def test_children_spend_from_the_budget_of_their_family(world: World):
    """However deep: one row, of the outermost; each has its own calls."""
    worker, [item] = await world.take("a")
    spawn = Spawn("judge", "t", (Part("b", {}), Part("c", {})))
    await world.store.commit(worker, [Entry(item, step(0, "read", "kin"), spawn=spawn)])
    kin = [k.id for k in await world.store.kin(item)]
    await world.claim(worker, stage="judge")
    deeper = Spawn("write", "u", (Part("d", {}),))
    await world.store.commit(
        worker, [Entry(kin[0], step(0, "judge", "kin"), spawn=deeper)]
    )
    [grandchild] = [k.id for k in await world.store.kin(kin[0])]
    await world.claim(worker, stage="write")
    poor = Budget(item=usd("3"))

    said = await world.store.open_calls(
        worker, [opening(i, budget=poor) for i in (item, *kin, grandchild)]
    )

    assert said[:3] == [CallId(i, 1) for i in (item, *kin)]
    assert refused(said[3]) == ("BUDGET_RESERVED", f"item/{item}")
    for name in (f"item/{item}", f"item/{grandchild}"):
        assert await reserved(world, name) == (0, 3)
    [own] = await world.store.spent(item=kin[1])
    assert (own.calls, own.reserved) == (1, 1)


async def test_a_free_call_needs_no_budget(world: World):
    """Nothing is reserved, nothing refused; it is counted."""
    worker, [item] = await world.take("a")
    await world.store.set_budget("tenant/acme", usd("0"))

    said = await world.store.open_calls(
        worker, [opening(item, "0"), opening(item, "0", currency="EUR")]
    )

    assert said == [CallId(item, 1), CallId(item, 2)]


@pytest.mark.parametrize("by", ["person", "file"])
async def test_a_call_in_another_currency_is_refused(world: World, by):
    """Dollars bound no euros: that would be no bound at all."""
    worker, [item] = await world.take("a")
    budget = Budget(item=usd("5")) if by == "file" else Budget()
    if by == "person":
        await world.store.set_budget(f"item/{item}", usd("5"))

    [said] = await world.store.open_calls(
        worker, [opening(item, currency="EUR", budget=budget)]
    )

    assert refused(said) == ("BUDGET_CURRENCY", f"item/{item}")
    assert said.currency == "USD"


async def test_money_of_two_currencies_is_counted_apart(world: World):
    worker, [item] = await world.take("a")

    said = await world.store.open_calls(
        worker, [opening(item), opening(item, "3", currency="EUR")]
    )
    await world.store.settle_calls(worker, [paid(s, None) for s in said])

    assert [(s.currency, s.cost) for s in await world.store.spent()] == [
        ("EUR", 3),
        ("USD", 1),
    ]


async def test_an_item_calls_as_often_as_its_pipeline_allows(world: World):
    """Calls that failed count; of another item they do not."""
    worker, [item, other] = await world.take("a", "b")
    few = Budget(calls_max=2)
    ask = [opening(item, budget=few) for _ in range(3)]

    *made, last = await world.store.open_calls(
        worker, [*ask[:2], opening(other, budget=few), ask[2]]
    )
    await world.store.settle_calls(worker, [paid(made[0], "0", code="TIMEOUT")])
    [again] = await world.store.open_calls(worker, [opening(item, budget=few)])

    assert made[2] == CallId(other, 1)
    assert refused(last) == refused(again) == ("CALLS_LIMIT", "")
    assert last.bound == 2


async def test_calls_that_were_refused_for_now_make_no_loop(world: World):
    """Whoever waits for a vendor that is busy calls it often."""
    worker, [item] = await world.take("a")
    few = Budget(calls_max=2)
    for code in ("THROTTLED", "LIMIT_WAIT", "CANCELLED", "", "QUOTA"):
        [call] = await world.store.open_calls(worker, [opening(item, budget=few)])
        assert isinstance(call, CallId)
        await world.store.settle_calls(worker, [paid(call, "0", code=code)])

    last, more = await world.store.open_calls(
        worker, [opening(item, budget=few), opening(item, budget=few)]
    )

    assert last == CallId(item, 6)
    assert refused(more) == ("CALLS_LIMIT", "")


async def test_what_a_person_retries_may_call_as_often_again(world: World):
    """Else it would end again before its first call."""
    worker, [item] = await world.take("a")
    one = Budget(calls_max=1)
    await world.store.open_calls(worker, [opening(item, budget=one)])
    failed = Finish(State.FAILED, "read", "CALLS_LIMIT")
    await world.move(worker, item, failed)
    await world.store.retry([item], "ann")
    await world.claim(worker)

    said = await world.store.open_calls(
        worker, [opening(item, budget=one), opening(item, budget=one)]
    )

    assert said[0] == CallId(item, 2)
    assert refused(said[1]) == ("CALLS_LIMIT", "")


# -- who rests, and goes on ------------------------------------------------------------


async def rest(world: World, worker: Any, said: Short, item: ItemId) -> None:
    """What a worker does with an item that was refused."""
    await world.move(worker, item, waiting(6 * 3600, why=said.code))


async def resting(world: World, **more: Any) -> tuple[Any, list[ItemId], list[CallId]]:
    """Five items of a tenant with 2 USD: two call for 1 USD each, three rest."""
    await world.batch()
    await world.store.set_budget("tenant/acme", usd("2"))
    worker, items = await world.take(*"abcde")
    said = await world.store.open_calls(worker, [opening(i, **more) for i in items])
    for short, item in zip(said[2:], items[2:], strict=True):
        await rest(world, worker, short, item)
    return worker, items, said[:2]


async def test_who_rests_goes_on_when_the_budget_is_raised(world: World):
    """As many as there is room for; nobody has to approve each."""
    worker, items, calls = await resting(world)
    await world.store.settle_calls(worker, [paid(c, "1") for c in calls])
    assert (await world.store.wake())[0] == 0

    [row] = await world.store.set_budget("tenant/acme", usd("4"))

    assert (row.bound, row.waiting) == (4, 1)
    assert [s.value for s in await world.states(items[2:])] == [
        "ready",
        "ready",
        "waiting",
    ]


async def test_who_rests_goes_on_when_a_call_left_room(world: World):
    """What was reserved and not spent is free for the next one."""
    worker, items, calls = await resting(world)
    assert (await world.store.wake())[0] == 0

    await world.store.settle_calls(worker, [paid(calls[0], "0")])

    assert (await world.store.wake())[0] == 1
    assert (await world.store.wake())[0] == 0
    assert await world.state(items[2]) is State.READY


async def test_who_was_refused_as_the_budget_was_raised_goes_on(world: World):
    """Its worker had not yet put it aside: the next look finds it."""
    await world.batch()
    await world.store.set_budget("tenant/acme", usd("0.5"))
    worker, [item] = await world.take("a")
    [said] = await world.store.open_calls(worker, [opening(item)])
    await world.store.set_budget("tenant/acme", usd("5"))
    assert (await world.store.wake())[0] == 0  # still in its worker's hands

    await rest(world, worker, said, item)

    assert (await world.store.wake())[0] == 1
    assert await world.state(item) is State.READY


async def test_who_rests_for_a_day_goes_on_with_the_next(world: World):
    """What people bound each day to holds for the new one as well."""
    await world.store.set_budget("day", usd("1"))
    worker = await world.join(lease_s=2 * DAY_S)
    [one, two] = await world.admit("c", "d", batch="june", deadline_s=3 * DAY_S)
    await world.claim(worker)
    _, said = await world.store.open_calls(worker, [opening(one), opening(two)])
    assert said.code == "BUDGET_RESERVED"
    assert said.budget.startswith("day/20")
    await rest(world, worker, said, two)

    await world.clock.advance(DAY_S)

    moved, _ = await world.store.wake()
    assert moved >= 1
    assert await world.state(two) is State.READY
    await world.claim(worker)
    said = await world.store.open_calls(worker, [opening(two), opening(two)])
    assert said[0] == CallId(two, 1)
    assert said[1].code == "BUDGET_RESERVED"


async def test_who_ended_meanwhile_rests_no_more(world: World):
    """A cancelled item takes nobody's place."""
    worker, items, calls = await resting(world)
    await world.store.cancel([items[2]], "ann")
    await world.store.settle_calls(worker, [paid(c, "0") for c in calls[:1]])

    await world.store.wake()
    await world.store.wake()

    assert await world.state(items[2]) is State.CANCELLED
    assert await world.state(items[3]) is State.READY


async def test_what_stops_waits_for_no_budget(world: World):
    """Its item fails: nothing puts it in line again."""
    await world.batch()
    await world.store.set_budget("tenant/acme", usd("0.5"))
    worker, [item] = await world.take("a")
    stop = Budget(when_used_up=WhenUsedUp.STOP)

    [said] = await world.store.open_calls(worker, [opening(item, budget=stop)])

    assert said.code == "BUDGET_USED_UP"
    [row] = await world.store.budget("tenant/acme")
    assert row.waiting == 0


async def test_what_a_file_declares_anew_holds_for_who_rests(world: World):
    """A service that starts with more in its file lets them go on."""
    little = ServiceBudget(tenant=usd("0.5"))
    worker, [item] = await world.take("a")
    [said] = await world.store.open_calls(worker, [opening(item, service=little)])
    await rest(world, worker, said, item)

    await world.store.declare(ServiceBudget(tenant=usd("5")))

    assert (await world.store.wake())[0] == 1
    [row] = await world.store.budget("tenant/acme")
    assert (row.bound, row.declared) == (5, True)


# -- what people ask -------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["tenant/nobody", "batch/99999999", "item/0", "item/x", "month", "day/soon"]
)
async def test_a_budget_of_nothing_is_not_found(world: World, name):
    with pytest.raises(NotFound):
        await world.store.budget(name)
    with pytest.raises(NotFound):
        await world.store.set_budget(name, usd("1"))


async def test_a_budget_has_one_bound(world: World):
    """Set in another currency it replaces the first; `None` takes it back."""
    await world.batch()
    await world.store.set_budget("tenant/acme", usd("1"))

    rows = await world.store.set_budget("tenant/acme", Money(Decimal(2), "EUR"))
    assert [(r.spent.currency, r.bound) for r in rows] == [("EUR", 2), ("USD", None)]

    rows = await world.store.set_budget("tenant/acme", None)
    assert [r.bound for r in rows] == [None, None]


async def test_budgets_are_listed_that_say_something(world: World):
    """Bounded ones, those who keep somebody waiting, tenants and today."""
    worker, [item] = await world.take("a")
    await world.store.set_budget(f"item/{item}", usd("0.5"))
    await world.store.set_budget("day", usd("9"))

    [said] = await world.store.open_calls(worker, [opening(item)])
    await rest(world, worker, said, item)

    rows = {r.name: r for r in await world.store.budgets()}
    [today] = [name for name in rows if name.startswith("day/")]
    assert set(rows) == {f"item/{item}", "day", today, "tenant/acme"}
    assert rows[f"item/{item}"].waiting == 1
    assert rows[today].bound == 9


async def test_an_item_that_is_done_keeps_what_it_cost(world: World):
    worker, [item] = await world.take("a")
    [call] = await world.store.open_calls(worker, [opening(item)])

    await world.store.commit(
        worker, [Entry(item, None, done(), settled=paid(call, "0.5"))]
    )

    [spent] = await world.store.spent(item=item)
    assert spent.cost == Decimal("0.5")
