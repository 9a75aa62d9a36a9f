"""
The cashier: who pays for a call, asked for many items in one transaction.

A call is opened before it is made: it stands in the ledger, and the most that it can
cost is reserved in every budget that must pay for it.  It is settled with the step that
records its answer (`Entry.settled`), or, where there is none, by `Cashier.settle`.

As in the journal there is no timer: what gathers while one transaction is in the
database is the next one.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import anyio
import structlog

from pipeline.calls import (
    UNBOUNDED_SERVICE,
    CallId,
    CallOpening,
    ServiceBudget,
    Settled,
    WhenUsedUp,
)
from pipeline.errors import (
    BudgetStops,
    BudgetUsedUp,
    CallsLimit,
    LeaseLost,
    Permanent,
    Refused,
    StoreUnavailable,
    WaybillError,
)
from pipeline.model import WorkerId
from pipeline.store import outside
from pipeline.store.gathering import Gathering
from pipeline.store.outside import UNKNOWN_END, CallStore, Short

log = structlog.get_logger()

# Openings lock budgets that everybody shares until they are committed: many at once
# are cheaper than often.
GATHERED_MAX = 1000
PAUSE_MAX_S = 2.0
LOST = "this worker's lease ran out"


class _Gathered:
    """Rows that are written together, and what was said to each."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self.said: list[Any] = []  # in the same order, when it is done
        self.done = anyio.Event()
        self.given_up: set[int] = set()  # whose asker was cancelled meanwhile


class _Line:
    """Askers in the order in which they came."""

    def __init__(self, write: Callable[[Sequence[Any]], Awaitable[list[Any]]]) -> None:
        self.write = write
        self.waiting: list[_Gathered] = []

    def join(self, row: Any) -> tuple[_Gathered, int]:
        """What `row` will be written with, and its place there."""
        if not self.waiting or len(self.waiting[-1].rows) >= GATHERED_MAX:
            self.waiting.append(_Gathered())
        self.waiting[-1].rows.append(row)
        return self.waiting[-1], len(self.waiting[-1].rows) - 1


class Cashier:
    """
    Opens and settles the calls of one worker session.

    Args:
        service: What the service allows tenants and days.
        on_lost: Called once when the lease turns out to be lost.
        in_hand: How many items the worker has.
    """

    def __init__(
        self,
        store: CallStore,
        worker: WorkerId,
        service: ServiceBudget | None = None,
        on_lost: Callable[[], None] = lambda: None,
        in_hand: Callable[[], int] = lambda: 0,
    ) -> None:
        self._store = store
        self._worker = worker
        self._service = service or UNBOUNDED_SERVICE
        self._on_lost = on_lost
        self._lost = False
        self._closing = False
        self._bell = anyio.Event()
        self._openings = _Line(lambda rows: store.open_calls(worker, rows))
        self._ends = _Line(self._write_ends)
        self._gathering = Gathering(in_hand)

    def __repr__(self) -> str:
        opening = sum(len(g.rows) for g in self._openings.waiting)
        return f"<Cashier opening={opening}>"

    async def open(self, opening: CallOpening) -> CallId:
        """
        Return when the call stands in the ledger and is paid for: only then make it.

        One whose asker is cancelled meanwhile is settled at nothing.

        Raises:
            BudgetUsedUp: a budget has no room for the most it can cost.
            CallsLimit: the item has called as often as its pipeline allows.
            Permanent: BUDGET_CURRENCY.
            LeaseLost: nothing was written; abandon the item.
            Refused: the item is no longer this worker's.
        """
        row = opening
        if opening.service is not self._service:
            row = replace(opening, service=self._service)
        said = await self._ask(self._openings, row)
        if isinstance(said, Short):
            raise refusal(row, said)
        return said  # type: ignore[no-any-return]

    async def settle(self, settled: Settled) -> None:
        """
        Return when the end of a call is durable that has no step to be written with.

        It is written also when the wait for it is cancelled.

        Raises:
            LeaseLost: it was settled by whoever replaced this worker.
        """
        await self._ask(self._ends, settled)

    def give_up(self, call: CallId) -> None:
        """Nobody waits to hear how it ended: it did cost the most that it can."""
        self.leave(Settled(call, None, code=UNKNOWN_END))

    def leave(self, settled: Settled) -> None:
        """Settle a call without a wait for that."""
        if not self._lost:
            self._ends.join(settled)
            self._bell.set()

    async def run(self) -> None:
        """Write what is asked; the session starts one of these."""
        with anyio.CancelScope(shield=True):
            await self._patiently(lambda: self._store.declare(self._service))
        while not self._lost:
            line = self._ends if self._ends.waiting else self._openings
            if not line.waiting:
                self._bell = anyio.Event()
                await self._bell.wait()
                continue
            pause_s = self._gathering.pause_s(len(line.waiting[0].rows))
            if pause_s:
                await anyio.sleep(pause_s)
                continue
            # Shielded: a session that ends still learns what it wrote.
            with anyio.CancelScope(shield=True):
                await self._flush(line)

    def close(self) -> None:
        """The session ends: a database that is away is not waited for any more."""
        self._closing = True

    def lose(self) -> None:
        """The lease is gone: everyone who waits gets LeaseLost."""
        if self._lost:
            return
        self._lost = True
        self._bell.set()
        for line in (self._openings, self._ends):
            for gathered in line.waiting:
                self._answer(gathered, [LeaseLost(LOST)] * len(gathered.rows))
            line.waiting.clear()
        self._on_lost()

    async def _ask(self, line: _Line, row: Any) -> Any:
        if self._lost:
            raise LeaseLost(LOST)
        gathered, place = line.join(row)
        self._bell.set()
        try:
            await gathered.done.wait()
        except BaseException:
            gathered.given_up.add(place)
            if gathered.done.is_set():
                self._give_back(gathered.said[place])
            raise
        said = gathered.said[place]
        if isinstance(said, WaybillError):
            raise said
        return said

    async def _flush(self, line: _Line) -> None:
        gathered = line.waiting.pop(0)
        try:
            said = await self._written(line, gathered.rows)
        except LeaseLost as error:
            self._answer(gathered, [error] * len(gathered.rows))
            self.lose()
            return
        self._answer(gathered, said)

    async def _written(self, line: _Line, rows: Sequence[Any]) -> list[Any]:
        """What is said to each row; one that the database refuses harms no other."""
        try:
            said: list[Any] = await self._patiently(lambda: line.write(rows))
            return said
        except Refused as error:
            if len(rows) == 1:
                return [error]
            return [one for row in rows for one in await self._written(line, [row])]

    async def _patiently(self, write: Callable[[], Awaitable[Any]]) -> Any:
        """Write, waiting out a database that is away; written twice it is the same."""
        pause_s = 0.05
        while True:
            try:
                return await write()
            except StoreUnavailable as error:
                if self._lost or self._closing:
                    raise LeaseLost(LOST) from None
                log.warning("cashier_waits", code=error.code, why=str(error))
                await anyio.sleep(random.uniform(0, pause_s))
                pause_s = min(pause_s * 2, PAUSE_MAX_S)

    async def _write_ends(self, rows: Sequence[Settled]) -> list[None]:
        await self._store.settle_calls(self._worker, rows)
        return [None] * len(rows)

    def _answer(self, gathered: _Gathered, said: list[Any]) -> None:
        gathered.said = said
        gathered.done.set()
        for place in gathered.given_up:
            self._give_back(said[place])

    def _give_back(self, said: Any) -> None:
        """Nobody makes the call that was opened: it costs nothing."""
        if isinstance(said, CallId) and not self._lost:
            self._ends.join(Settled(said, Decimal(0), code="CANCELLED"))
            self._bell.set()


def refusal(opening: CallOpening, short: Short) -> WaybillError:
    """The error that says why a call may not be made."""
    used = f"{short.budget} has {short.left:f} of {short.bound:f} {short.currency} left"
    more = outside.bounded_by(short.budget)
    match short.code:
        case outside.USED_UP:
            stops = opening.budget.when_used_up is WhenUsedUp.STOP
            return (BudgetStops if stops else BudgetUsedUp)(
                f"{used}, and a call of {opening.vendor} can cost {opening.most:f}",
                hint=f"`waybill budgets set {more} --limit …` lets it go on"
                + " before tomorrow" * (more != short.budget),
            )
        case outside.RESERVED:
            return BudgetUsedUp(
                f"{used}, which calls under way may use up",
                code=short.code,
                hint="it goes on when they leave room, or by"
                f" `waybill budgets set {more} --limit …`",
            )
        case "BUDGET_CURRENCY":
            return Permanent(
                f"{short.budget} is bounded in {short.currency}, and "
                f"{opening.vendor} costs {opening.currency}",
                code=short.code,
                hint=f"bound it in {opening.currency}, or call another vendor",
            )
        case "CALLS_LIMIT":
            return CallsLimit(
                f"the item called {short.bound:f} times, as often as it may",
                hint="look for a loop in its stage; `calls_max` in [budget] of "
                "pipeline.toml allows more",
            )
        case _:
            return Refused(f"item {opening.item_id} is not this worker's")
