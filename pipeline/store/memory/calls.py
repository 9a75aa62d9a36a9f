"""
Calls and budgets in memory, decided by the same ledger as in PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import chain

import anyio.lowlevel

from pipeline.calls import CallId, CallOpening, Money, ServiceBudget, Settled, Usage
from pipeline.model import ItemId, WorkerId
from pipeline.names import number_in
from pipeline.purse import Purse
from pipeline.store.ledger import (
    IDLE_CODES,
    Account,
    Caller,
    Key,
    Where,
    day_of,
    grant,
    name_of,
    of_one_day,
    tokens_of,
    unnamed,
)
from pipeline.store.memory.ledger import Kept
from pipeline.store.memory.sessions import MemorySessions
from pipeline.store.outside import RESTING, BudgetRow, CallRow, PurseRow, Short, Spent


class MemoryCalls(MemorySessions):
    """Calls and budgets; see the port for every contract."""

    async def open_calls(
        self, worker: WorkerId, openings: Sequence[CallOpening]
    ) -> list[CallId | Short]:
        await anyio.lowlevel.checkpoint()
        self._alive(worker)
        callers = {o.item_id: self._caller(worker, o.item_id) for o in openings}
        for o in openings:
            for key in callers[o.item_id].keys(o.currency):
                if callers[o.item_id].mine:
                    self._account(key, o)
        found = grant(openings, callers, self._accounts)
        for call, opening in found.written:
            where = callers[call.item_id].where
            self._calls[call.item_id].append(Kept(opening, where, self.now()))
            self._under_way[worker].add(call)
            self._rests.pop(call.item_id, None)
        for key, change in found.changes.items():
            self._accounts[key].calls += change.calls  # it has reserved already
        self._rests.update(found.waits)
        return found.verdicts

    def _caller(self, worker: WorkerId, item: ItemId) -> Caller:
        row = self._items.get(item)
        if row is None:
            return Caller(Where(0, 0, 0, 0), "", mine=False)
        facts = row.facts
        batch = self._batches[facts.tenant, facts.batch].id
        place = self._running.get(item)
        calls = self._calls[item]
        return Caller(
            Where(self._root(item), batch, self._tenant(facts.tenant), self._today()),
            facts.tenant,
            place is not None and place.worker == worker,
            len(calls),
            self._retried[item],
            {c.opening.token: n for n, c in enumerate(calls, 1) if c.how is None},
            idle=sum(c.how is not None and c.how.code in IDLE_CODES for c in calls),
        )

    async def purse(self, item: ItemId) -> PurseRow | None:
        root = self._root(item)
        found = self._purses.get(root)
        return None if found is None else _purse_row(root, found)

    async def purses(self, *, limit: int = 100) -> list[PurseRow]:
        rows = sorted(self._purses.items())
        return [_purse_row(of, p) for of, p in rows if p.lacked][:limit]

    def _tenant(self, name: str) -> int:
        return self._tenants().index(name) + 1

    def _tenants(self) -> list[str]:
        return list(dict.fromkeys(tenant for tenant, _ in self._batches))

    def _account(self, key: Key, opening: CallOpening) -> None:
        new = key not in self._accounts
        account = self._accounts.setdefault(key, Account())
        bound = opening.declared(key.scope)
        same = bound is not None and bound.currency == key.currency
        account.declared = bound.amount if bound and same else None
        if new and key.scope == "day":
            account.most = self._every_day.get(key.currency)

    async def settle_calls(self, worker: WorkerId, settled: Sequence[Settled]) -> None:
        await anyio.lowlevel.checkpoint()
        self._alive(worker)
        self._settle(worker, settled)

    async def declare(self, service: ServiceBudget) -> None:
        for key, account in self._accounts.items():
            if key.scope == "tenant" or (
                key.scope == "day" and key.of >= self._today()
            ):
                bound: Money | None = getattr(service, key.scope)
                if bound is None or bound.currency == key.currency:
                    account.declared = bound and bound.amount

    def _go_on(self, limit: int) -> list[ItemId]:
        """Items that rest, and whose budget has room for them and those before."""
        found: list[ItemId] = []
        used: dict[Key, Decimal] = {}
        urgent = sorted(self._rests, key=lambda i: (self._items[i].deadline, i))
        for item in urgent[:limit]:
            key, needs = self._rests[item]
            account = self._accounts[key]
            over = key.scope == "day" and key.of < self._today()
            taken = used.get(key, Decimal(0)) + needs
            if not over and account.bound is not None:
                if taken > account.bound - account.spent - account.reserved:
                    continue
                used[key] = taken
            place = self._waiting.get(item)
            if place is not None and place.why in RESTING:
                found.append(item)
            elif item not in self._running and item not in self._ready:
                del self._rests[item]
        return found

    # -- what people ask ---------------------------------------------------------------

    async def budgets(self, *, limit: int = 100) -> list[BudgetRow]:
        lacking = {key for key, _ in self._rests.values()}
        keys = {
            key
            for key, account in self._accounts.items()
            if key in lacking
            or account.most is not None
            or key.scope == "tenant"
            or key[:2] == ("day", self._today())
        }
        keys |= {Key("day", 0, currency) for currency in self._every_day}
        return [self._budget(key) for key in sorted(keys)[:limit]]

    async def budget(self, name: str) -> list[BudgetRow]:
        return self._rows(self._named(name))

    async def set_budget(self, name: str, bound: Money | None) -> list[BudgetRow]:
        scope, of = self._named(name)
        if scope == "day" and of:
            raise of_one_day(name)
        for key, account in self._accounts.items():
            if key[:2] == (scope, of):
                account.most = None
        if scope == "day":
            self._every_day = {bound.currency: bound.amount} if bound else {}
            for key, account in self._accounts.items():
                if key.scope == "day" and key.of >= self._today():
                    account.most = self._every_day.get(key.currency)
        elif bound is not None:
            key = Key(scope, of, bound.currency)
            self._accounts.setdefault(key, Account()).most = bound.amount
        for item in self._go_on(1000):
            self._on_again(item)
        return self._rows((scope, of))

    async def calls_of(self, item: ItemId, *, limit: int = 100) -> list[CallRow]:
        calls = self._calls[item]
        numbers = range(len(calls), max(0, len(calls) - limit), -1)
        return [_call(CallId(item, n), calls[n - 1], self._at) for n in numbers]

    async def spent(
        self, *, item: ItemId | None = None, batch_id: int | None = None
    ) -> list[Spent]:
        sums: dict[str, Account] = {}
        every = [self._calls[item]] if item is not None else self._calls.values()
        for kept in chain.from_iterable(every):
            if batch_id in (None, kept.where.batch):
                _count(sums.setdefault(kept.opening.currency, Account()), kept)
        return [_spent(currency, a) for currency, a in sorted(sums.items())]

    def _rows(self, of: tuple[str, int]) -> list[BudgetRow]:
        keys = [key for key in self._accounts if key[:2] == of]
        if of == ("day", 0):
            keys = [Key("day", 0, currency) for currency in self._every_day]
            today = ("day", self._today())
            keys += [key for key in self._accounts if key[:2] == today]
        return [self._budget(key) for key in sorted(keys)]

    def _budget(self, key: Key) -> BudgetRow:
        every = Account(most=self._every_day.get(key.currency))
        account = every if key[:2] == ("day", 0) else self._accounts[key]
        name = name_of(key)
        if key.scope == "tenant":
            name = f"tenant/{self._tenants()[key.of - 1]}"
        by_file = account.most is None and account.declared is not None
        waiting = sum(
            k == key for i, (k, _) in self._rests.items() if i in self._waiting
        )
        spent = _spent(key.currency, account)
        return BudgetRow(name, account.bound, by_file, spent, waiting)

    def _named(self, name: str) -> tuple[str, int]:
        scope, _, of = name.partition("/")
        if scope == "day":
            return scope, day_of(of, name)
        if scope == "tenant" and of in self._tenants():
            return scope, self._tenant(of)
        if scope == "batch" and of in {str(b.id) for b in self._batches.values()}:
            return scope, int(of)
        number = number_in(of)
        if scope == "item" and number in self._items:
            return scope, self._root(number)
        raise unnamed(name)


def _call(call: CallId, kept: Kept, at: Callable[[float], datetime]) -> CallRow:
    how = kept.how or Settled(call, Decimal(0))
    o = kept.opening
    return CallRow(
        call.number,
        o.stage,
        o.step,
        o.tries,
        o.vendor,
        how.model,
        at(kept.opened),
        None if kept.ended is None else at(kept.ended),
        how.code,
        how.finish,
        kept.cost,
        o.most,
        o.currency,
        how.usage,
        how.took_s,
    )


def _count(account: Account, kept: Kept) -> None:
    account.calls += 1
    account.spent += kept.cost
    if kept.how is None:
        account.reserved += kept.opening.most
        return
    account.failed += kept.how.code != ""
    more = tokens_of(kept.how.usage)
    one, two, three, four = (a + b for a, b in zip(account.tokens, more, strict=True))
    account.tokens = one, two, three, four


def _spent(currency: str, account: Account) -> Spent:
    input_tokens, cached, output, reasoning = account.tokens
    usage = Usage(
        input_tokens=input_tokens,
        cached_input_tokens=cached,
        output_tokens=output,
        reasoning_tokens=reasoning,
    )
    sums = account.calls, account.failed, account.spent, account.reserved
    return Spent(currency, *sums, usage)


def _purse_row(root: ItemId, purse: Purse) -> PurseRow:
    return PurseRow(root, purse.most, purse.taken, purse.held, purse.lacked)
