"""The cashier: many items ask at once, one transaction answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import anyio
import pytest

from pipeline.calls import (
    Budget,
    CallId,
    CallOpening,
    Money,
    ServiceBudget,
    Settled,
    WhenUsedUp,
)
from pipeline.errors import (
    BudgetUsedUp,
    CallsLimit,
    Disposition,
    LeaseLost,
    Permanent,
    Refused,
    StoreUnavailable,
    WaybillError,
)
from pipeline.model import ItemId, WorkerId
from pipeline.store.outside import Spent, bounded_by
from pipeline.vendors.cashier import GATHERED_MAX, Cashier
from tests.unit.engine import ELSEWHERE, Engine, Tape, landed, lost, not_sent


def opening(item: ItemId, most: str = "1", **more: Any) -> CallOpening:
    return CallOpening(item, "one", "ask", "llm", Decimal(most), **more)


def usd(amount: str) -> Money:
    return Money(Decimal(amount), "USD")


class Till:
    """A cashier at work, over items that its worker owns."""

    def __init__(
        self, engine: Engine, worker: WorkerId, cashier: Cashier, items: list[ItemId]
    ) -> None:
        self.wire = engine.wire
        self.store = engine.store
        self.worker = worker
        self.cashier = cashier
        self.items = items

    async def open_all(self, **more: Any) -> list[Any]:
        """One call of each item, all at once; what became of each."""
        said: list[Any] = [None] * len(self.items)

        async def one(place: int) -> None:
            try:
                said[place] = await self.cashier.open(
                    opening(self.items[place], **more)
                )
            except WaybillError as error:
                said[place] = error

        async with anyio.create_task_group() as tasks:
            for place in range(len(self.items)):
                tasks.start_soon(one, place)
        return said

    async def spent(self) -> Spent:
        [row] = await self.store.spent()
        return row


@asynccontextmanager
async def till(
    count: int = 1, service: ServiceBudget | None = None
) -> AsyncIterator[Till]:
    engine = Engine(Tape().line("one"))
    items = await engine.submit(count)
    me = await engine.store.join(ELSEWHERE, lease_s=1e6)
    await engine.store.claim(me, "one", count, {})
    wire: Any = engine.wire
    cashier = Cashier(wire, me, service)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cashier.run)
        await anyio.wait_all_tasks_blocked()
        yield Till(engine, me, cashier, items)
        tasks.cancel_scope.cancel()


async def refusal_of(t: Till, **more: Any) -> WaybillError:
    with pytest.raises(WaybillError) as raised:
        await t.cashier.open(opening(t.items[0], **more))
    return raised.value


async def test_what_many_ask_at_once_is_one_transaction() -> None:
    """Nobody waits for a transaction of his own; none holds more than its bound."""
    async with till(GATHERED_MAX + 5) as t:
        said = await t.open_all()
        assert t.wire.calls["open_calls"] == 2
        for call in said:
            await t.cashier.settle(Settled(call, Decimal("0.5")))

        assert said == [CallId(item, 1) for item in t.items]
        spent = await t.spent()
        assert (spent.cost, spent.reserved) == (Decimal("0.5") * len(said), 0)


async def test_a_call_is_durable_before_open_returns() -> None:
    """Also while the database is away: nobody calls unwritten."""
    async with till() as t:
        t.wire.faults["open_calls"].extend([not_sent, not_sent])

        call = await t.cashier.open(opening(t.items[0]))

        assert t.wire.calls["open_calls"] == 3
        [row] = await t.store.calls_of(t.items[0])
        assert (row.number, row.settled_at) == (call.number, None)


@pytest.mark.parametrize("fault", [lost, landed])
async def test_a_commit_in_doubt_opens_one_call(fault: Any) -> None:
    """Whether it arrived or not."""
    async with till() as t:
        t.wire.faults["open_calls"].append(fault)
        t.wire.faults["settle_calls"].append(fault)

        call = await t.cashier.open(opening(t.items[0]))
        await t.cashier.settle(Settled(call, Decimal("0.5")))

        spent = await t.spent()
        assert (spent.calls, spent.cost, spent.reserved) == (1, Decimal("0.5"), 0)


async def test_one_that_the_database_refuses_harms_no_other() -> None:
    async with till(3) as t:

        async def refuse(call: Any) -> Any:
            raise Refused("no")

        t.wire.faults["open_calls"].extend([refuse, refuse])

        said = await t.open_all()

        # Whichever was gathered first.
        opened = [one for one in said if not isinstance(one, Refused)]
        assert len(opened) == len(t.items) - 1
        assert set(opened) < {CallId(item, 1) for item in t.items}


async def test_one_whose_asker_is_cancelled_costs_nothing() -> None:
    """It was written, and nobody makes it."""

    async def slow(call: Any) -> Any:
        await anyio.sleep(5)
        return await call()

    async with till() as t:
        t.wire.faults["open_calls"].append(slow)
        with anyio.move_on_after(1):
            await t.cashier.open(opening(t.items[0]))
        await anyio.sleep(10)

        [row] = await t.store.calls_of(t.items[0])
        assert (row.code, row.cost) == ("CANCELLED", 0)
        assert (await t.spent()).reserved == 0


async def test_an_end_is_written_whose_asker_is_cancelled() -> None:
    async with till() as t:
        call = await t.cashier.open(opening(t.items[0]))
        with anyio.CancelScope() as scope:
            scope.cancel()
            await t.cashier.settle(Settled(call, None, code="TIMEOUT"))
        await anyio.sleep(1)

        [row] = await t.store.calls_of(t.items[0])
        assert (row.code, row.cost) == ("TIMEOUT", 1)


async def test_a_call_that_is_given_up_costs_the_most() -> None:
    """Who was cancelled on the way can wait for nothing."""
    async with till() as t:
        t.cashier.give_up(await t.cashier.open(opening(t.items[0])))
        await anyio.sleep(1)

        [row] = await t.store.calls_of(t.items[0])
        assert (row.code, row.cost) == ("OUTCOME_UNKNOWN", 1)


async def test_a_used_up_budget_says_what_to_do() -> None:
    """The item rests; the message names the budget, and the command that raises it."""
    async with till(service=ServiceBudget(tenant=usd("0.5"))) as t:
        error = await refusal_of(t)

    assert isinstance(error, BudgetUsedUp)
    assert (error.code, error.disposition) == ("BUDGET_USED_UP", Disposition.REST)
    assert "tenant/north has 0.5 of 0.5 USD left" in error.message
    assert "waybill budgets set tenant/north" in error.hint


async def test_a_day_without_room_is_raised_as_each_day_is() -> None:
    """One day cannot be bounded by itself: no hint names it, whatever is short."""
    service = ServiceBudget(day=usd("1.5"))
    async with till(service=service) as t:
        call = await t.cashier.open(opening(t.items[0]))
        reserved = await refusal_of(t)
        await t.cashier.settle(Settled(call, None))
        used_up = await refusal_of(t)

    assert [reserved.code, used_up.code] == ["BUDGET_RESERVED", "BUDGET_USED_UP"]
    for error in (reserved, used_up):
        assert "`waybill budgets set day --limit …`" in error.hint
    assert bounded_by("tenant/day/x") == "tenant/day/x"


async def test_a_budget_that_others_may_use_up_is_waited_for() -> None:
    """Also where a used up one would end the item."""
    stop = Budget(item=usd("1.5"), when_used_up=WhenUsedUp.STOP)
    async with till() as t:
        call = await t.cashier.open(opening(t.items[0], budget=stop))
        error = await refusal_of(t, budget=stop)
        assert (error.code, error.disposition) == ("BUDGET_RESERVED", Disposition.REST)

        await t.cashier.settle(Settled(call, None))
        error = await refusal_of(t, budget=stop)

    assert (error.code, error.disposition) == ("BUDGET_USED_UP", Disposition.FAIL)
    assert isinstance(error, BudgetUsedUp)


async def test_a_loop_is_broken() -> None:
    async with till() as t:
        await t.cashier.open(opening(t.items[0], budget=Budget(calls_max=1)))
        error = await refusal_of(t, budget=Budget(calls_max=1))

    assert isinstance(error, CallsLimit)
    assert (error.code, error.disposition) == ("CALLS_LIMIT", Disposition.FAIL)


async def test_another_currency_is_a_mistake_of_who_configured_it() -> None:
    async with till() as t:
        error = await refusal_of(t, budget=Budget(item=Money(Decimal(1), "EUR")))

    assert isinstance(error, Permanent)
    assert error.code == "BUDGET_CURRENCY"


async def test_an_item_of_nobody_is_refused() -> None:
    async with till() as t:
        with pytest.raises(Refused):
            await t.cashier.open(opening(4711))


async def test_a_lost_lease_ends_everything() -> None:
    """Who waits, and who comes later."""
    gone: list[bool] = []
    async with till(2) as t:
        t.cashier._on_lost = lambda: gone.append(True)
        await t.store.reap([t.worker], died=True)

        said = await t.open_all()
        with pytest.raises(LeaseLost):
            await t.cashier.settle(Settled(CallId(t.items[0], 1), None))

    assert [type(s) for s in said] == [LeaseLost] * 2
    assert gone == [True]


async def test_a_session_that_ends_waits_for_no_database() -> None:
    async def away(call: Any) -> Any:
        raise StoreUnavailable("away")

    async with till() as t:
        t.wire.always["open_calls"] = away
        t.cashier.close()
        with pytest.raises(LeaseLost):
            await t.cashier.open(opening(t.items[0]))
