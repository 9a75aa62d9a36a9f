"""What no budget pays for rests, and goes on; a loop ends; nothing finished is lost."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import anyio

from pipeline.calls import Budget, CallOpening, Money, Settled, WhenUsedUp
from pipeline.errors import BudgetUsedUp
from pipeline.model import Advance
from pipeline.vendors.cashier import Cashier
from pipeline.vendors.pacing import LimitSpec
from tests.unit.engine import Engine, Tape, until


class Spending:
    """Stages that call for 1 USD a step, by the cashier of their session."""

    def __init__(self, calls: int, **budget: Any) -> None:
        self.calls = calls
        self.budget = Budget(**budget)
        self.tape = Tape()
        self.engine = Engine([self.tape.station("one", self.run)])
        self.cashier: Cashier | None = None
        self.made = 0

    async def run(self, letter: Any, ctx: Any) -> Advance:
        for n in range(self.calls):
            await ctx.step(f"ask-{n}", self.ask, ctx.item.id, f"ask-{n}")
        return Advance()

    async def ask(self, item: int, step: str) -> str:
        assert self.cashier is not None
        opening = CallOpening(item, "one", step, "llm", Decimal(1), budget=self.budget)
        call = await self.cashier.open(opening)
        self.made += 1
        await self.cashier.settle(Settled(call, Decimal(1)))
        return "asked"

    async def work(self, tasks: Any, session: Any) -> None:
        self.cashier = Cashier(self.engine.store, session.worker)
        tasks.start_soon(self.cashier.run)


async def test_what_no_budget_pays_for_rests_until_it_is_raised() -> None:
    """Its attempt is not charged, its steps stay: no call is paid twice."""
    s = Spending(5)
    [item] = await s.engine.submit(tenant="acme")
    await s.engine.store.set_budget("tenant/acme", Money(Decimal(2), "USD"))
    async with s.engine.session() as session, anyio.create_task_group() as tasks:
        await s.work(tasks, session)
        await until(lambda: s.made == 2, within_s=10)
        await anyio.sleep(300)

        assert (await s.engine.store.item(item)).why == "BUDGET_USED_UP"
        assert len(s.tape.times()) == 1
        [failure] = await s.engine.store.failures(item)
        assert (failure.charged, failure.code) == (False, "BUDGET_USED_UP")
        assert "tenant/acme has 0 of 2 USD left" in failure.message

        await s.engine.store.set_budget("tenant/acme", Money(Decimal(5), "USD"))
        await s.engine.finish([item], within_s=10)
        tasks.cancel_scope.cancel()

    assert await s.engine.state(item) == "done"
    assert s.made == 5
    assert s.tape.times()[1] - s.tape.times()[0] < 400


async def test_a_limit_does_not_rest_with_an_item_that_has_no_money() -> None:
    """The others that call the same vendor go on."""
    s = Spending(1)
    s.engine = Engine(
        [s.tape.station("one", s.run, limit="llm")], {"llm": LimitSpec(100)}
    )
    poor = await s.engine.submit(3, tenant="poor")
    rich = await s.engine.submit(3, tenant="rich")
    await s.engine.store.set_budget("tenant/poor", Money(Decimal(0), "USD"))
    async with s.engine.session() as session, anyio.create_task_group() as tasks:
        await s.work(tasks, session)
        await s.engine.finish(rich, within_s=30)
        tasks.cancel_scope.cancel()

    assert {await s.engine.state(i) for i in poor} == {"waiting"}


async def test_a_loop_ends_its_item_and_no_other() -> None:
    """Whatever the prompt says."""
    s = Spending(100, calls_max=3)
    [item] = await s.engine.submit()
    async with s.engine.session() as session, anyio.create_task_group() as tasks:
        await s.work(tasks, session)
        await s.engine.finish([item], within_s=60)
        tasks.cancel_scope.cancel()

    assert (await s.engine.state(item), await s.engine.code(item)) == (
        "failed",
        "CALLS_LIMIT",
    )
    assert s.made == 3


async def test_what_stops_fails_and_keeps_its_steps() -> None:
    """Retried with more money it goes on where it was."""
    s = Spending(3, item="2 USD", when_used_up="stop")
    assert s.budget.when_used_up is WhenUsedUp.STOP
    [item] = await s.engine.submit()
    async with s.engine.session() as session, anyio.create_task_group() as tasks:
        await s.work(tasks, session)
        await s.engine.finish([item], within_s=60)
        assert await s.engine.code(item) == "BUDGET_USED_UP"

        await s.engine.store.set_budget(f"item/{item}", Money(Decimal(3), "USD"))
        await s.engine.store.retry([item], "ann")
        await s.engine.finish([item], within_s=60)
        tasks.cancel_scope.cancel()

    assert await s.engine.state(item) == "done"
    assert s.made == 3


async def test_a_stage_may_ask_for_something_cheaper() -> None:
    """What it catches is not yet the end of its try."""
    s = Spending(1, item="0.5 USD", when_used_up="degrade")

    async def cheaper(letter: Any, ctx: Any) -> Advance:
        try:
            await ctx.step("ask", s.ask, ctx.item.id, "ask")
        except BudgetUsedUp:
            return Advance(text="by rules alone")
        return Advance(text="by the model")

    s.engine = Engine([s.tape.station("one", cheaper)])
    [item] = await s.engine.submit()
    async with s.engine.session() as session, anyio.create_task_group() as tasks:
        await s.work(tasks, session)
        await s.engine.finish([item], within_s=60)
        tasks.cancel_scope.cancel()

    assert (await s.engine.letter(item)).text == "by rules alone"
