"""
Many workers spend from the same budgets at once: never more than there is, and every
sum is that of its calls.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import anyio
import asyncpg
import pytest

from pipeline.calls import Budget, CallOpening, Money, Settled
from pipeline.errors import BudgetUsedUp, LeaseLost
from pipeline.model import Entry, ItemId, WorkerId
from pipeline.run.journal import Journal
from pipeline.store.postgres import PostgresStore
from pipeline.vendors.cashier import Cashier
from tests.store.conftest import Urls
from tests.store.world import ServerClock, World, step

WORKERS, CALLERS = 4, 16
BOUND, MOST = Decimal("10.00"), Decimal("0.50")

# Every budget beside the sum of its calls, where the two differ; a family has none
# until it is bounded.
DIFFERING = """
with summed as (
  select a.scope, a.of, c.currency, count(*) as calls,
         sum(c.cost) as spent,
         sum(case when c.settled_at is null then c.reserved else 0 end) as reserved,
         count(*) filter (where c.code <> '') as failed
    from waybill.calls c
   cross join lateral (values ('item', c.root_id), ('batch', c.batch_id),
                              ('tenant', c.tenant_id), ('day', c.day)) a(scope, of)
   group by 1, 2, 3)
select b.scope, b.of, b.spent, s.spent as summed
  from waybill.budgets b full join summed s using (scope, of, currency)
 where (b.scope is not null or s.scope <> 'item')
   and (b.calls, b.spent, b.reserved, b.failed)
       is distinct from (coalesce(s.calls, 0), coalesce(s.spent, 0),
                         coalesce(s.reserved, 0), coalesce(s.failed, 0))
"""


@pytest.fixture
async def stores(shared: Urls, owner: asyncpg.Connection) -> AsyncIterator[list[Any]]:
    """One for each worker process."""
    async with anyio.create_task_group():
        opened = [PostgresStore(shared.app) for _ in range(WORKERS)]
        for store in opened:
            await store.__aenter__()
        yield opened
        for store in opened:
            await store.__aexit__(None, None, None)


class Worker:
    """
    A worker with items, each of which calls until no budget pays.

    Args:
        patience: At most so many calls of an item.
        files: Whether files bound some of the families.
    """

    def __init__(
        self,
        store: PostgresStore,
        worker: WorkerId,
        *,
        patience: int = 10_000,
        files: bool = True,
    ) -> None:
        self.store = store
        self.patience, self.files = patience, files
        self.worker = worker
        self.journal = Journal(store, worker, lambda: None)
        self.cashier = Cashier(store, worker)
        self.billed = Decimal(0)  # by the vendor, who is told the truth

    async def work(self, items: list[ItemId]) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.journal.run)
            tasks.start_soon(self.cashier.run)
            async with anyio.create_task_group() as callers:
                for item in items:
                    callers.start_soon(self._calls, item)
            tasks.cancel_scope.cancel()

    async def _calls(self, item: ItemId) -> None:
        seq = 0
        while seq < self.patience:
            # Every third family is bounded from a call in its middle on.
            declared = self.files and seq > 1 and item % 3 == 0
            budget = Budget(item=Money(BOUND, "USD") if declared else None)
            asked = CallOpening(item, "read", f"ask-{seq}", "llm", MOST, budget=budget)
            try:
                call = await self.cashier.open(asked)
            except (BudgetUsedUp, LeaseLost) as error:
                if error.code != "BUDGET_RESERVED":
                    return
                await anyio.sleep(0.01)
                continue
            cost = Decimal(random.randint(5, 50)) / 100
            self.billed += cost
            await anyio.sleep(random.uniform(0, 0.02))
            try:
                if random.random() < 0.3:
                    await self.cashier.settle(Settled(call, cost, code="GARBAGE"))
                else:
                    made = step(seq, "read", f"ask-{seq}")
                    entry = Entry(item, made, settled=Settled(call, cost))
                    await self.journal.record(entry)
            except LeaseLost:
                return
            seq += 1


async def test_families_that_are_bounded_meanwhile_know_what_they_called(
    stores: list[PostgresStore], owner: asyncpg.Connection
) -> None:
    """Nothing else is bounded: who opens a call reads budgets and locks none."""
    world = await World(stores[0], ServerClock(owner)).open()
    await world.batch()
    workers, items = [], []
    for store in stores:
        items.append(await world.admit(*(f"{len(items)}-{i}" for i in range(4))))
        me = await world.join()
        assert len(await world.claim(me, 4)) == 4
        workers.append(Worker(store, me, patience=30, files=False))

    async with anyio.create_task_group() as working:
        for worker, own in zip(workers, items, strict=True):
            working.start_soon(worker.work, own)
        for turn in range(4):
            for own in items:
                await anyio.sleep(0.01)
                await world.store.set_budget(
                    f"item/{own[turn]}", Money(BOUND * 1000, "USD")
                )

    assert await owner.fetch(DIFFERING) == []
    for item in (one for own in items for one in own):
        [row] = await world.store.budget(f"item/{item}")
        assert (row.spent.calls, row.spent.reserved) == (30, 0)


async def test_no_budget_is_passed_by_any_number_of_workers(
    stores: list[PostgresStore], owner: asyncpg.Connection
) -> None:
    """One of them is killed meanwhile: what it had open counts at the most."""
    world = await World(stores[0], ServerClock(owner)).open()
    await world.batch()
    await world.store.set_budget("tenant/acme", Money(BOUND, "USD"))
    workers, items = [], []
    for n, store in enumerate(stores):
        items.append(await world.admit(*(f"{n}-{i}" for i in range(CALLERS))))
        me = await world.join()
        assert len(await world.claim(me, CALLERS)) == CALLERS
        workers.append(Worker(store, me))
    highest = Decimal(0)

    async def look(while_open: anyio.Event) -> None:
        nonlocal highest
        while not while_open.is_set():
            [row] = await world.store.budget("tenant/acme")
            highest = max(highest, row.spent.cost + row.spent.reserved)
            await anyio.sleep(0.005)

    async def bound() -> None:
        """A person bounds families while they call."""
        for item in (own[0] for own in items):
            await anyio.sleep(0.03)
            await world.store.set_budget(f"item/{item}", Money(BOUND, "USD"))

    async def kill() -> None:
        await anyio.sleep(0.1)
        await world.store.reap([workers[0].worker], died=True)

    over = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look, over)
        async with anyio.create_task_group() as working:
            working.start_soon(kill)
            working.start_soon(bound)
            for worker, own in zip(workers, items, strict=True):
                working.start_soon(worker.work, own)
        over.set()

    [row] = await world.store.budget("tenant/acme")
    assert highest <= BOUND
    assert BOUND - MOST < row.spent.cost <= BOUND
    assert row.spent.reserved == 0
    assert sum(w.billed for w in workers) <= row.spent.cost
    assert await owner.fetch(DIFFERING) == []
