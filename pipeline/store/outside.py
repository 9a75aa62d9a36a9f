"""
The store's port for the world outside: what is asked of it around calls of vendors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Literal, NamedTuple, Protocol

from pipeline.calls import CallId, CallOpening, Money, ServiceBudget, Settled, Usage
from pipeline.model import ItemId, WorkerId
from pipeline.purse import Amounts, Most
from pipeline.store.effects import EffectStore
from pipeline.store.limits import LimitStore
from pipeline.store.port import WorkStore

# -- breakers ----------------------------------------------------------------------

BreakerState = Literal["closed", "open", "half-open"]
# open: from closed, or after a failed probe; free: the probe told nothing.
BreakerMove = Literal["", "open", "close", "free"]

# A breaker that opens again this soon stays open for longer than the last time.
CALM_S = 60.0
# Repeats of failed calls that a vendor has in store: it grows by a share of first
# tries to the most, by time to the floor, so that a quiet service may repeat a call.
REPEATS_MAX = 500.0
REPEATS_FLOOR = 10.0
REPEATS_FLOOR_PER_S = 1.0


class BreakerRow(NamedTuple):
    """
    One vendor's breaker.

    Attributes:
        turn: Counts its moves: who names the turn it knows moves it once.
        failures: In a row, those for which it opened the last time.
        until: Open: when a probe may begin; half-open: when another one may.
        left_s: Until then; 0 when somebody may try now.
        closed_for_s: How long it has been closed again; None: it never was open.
        repeats: How many calls may be repeated now.
    """

    vendor: str
    state: BreakerState
    turn: int
    failures: int
    opened_at: datetime | None
    until: datetime | None
    left_s: float
    closed_for_s: float | None
    repeats: float

    @property
    def probing(self) -> bool:
        """Whether one call tries at this moment whether the vendor is back."""
        return self.state == "half-open" and self.left_s > 0


class BreakerNews(NamedTuple):
    """
    What a process has seen of one vendor since it last told.

    Attributes:
        move: What it makes of the breaker, as long as that is at `turn`.
        open_s, max_s: It stays open for this at first, doubling to at most that.
        earned: Repeats that its calls earned, or gave back.
        wanted: Repeats that it would make now.
    """

    vendor: str
    turn: int = 0
    move: BreakerMove = ""
    failures: int = 0
    open_s: float = 1.0
    max_s: float = 1.0
    earned: float = 0.0
    wanted: int = 0


class Learnt(NamedTuple):
    """All breakers, and by vendor how many of the wanted repeats are granted."""

    rows: list[BreakerRow]
    granted: Mapping[str, int]


class BreakerStore(Protocol):
    """What is known of vendors that fail, by all processes together."""

    async def breakers(self) -> list[BreakerRow]:
        """Every vendor's breaker, by name; of those that were ever told of."""
        ...

    async def tell_breakers(self, news: Sequence[BreakerNews]) -> Learnt:
        """Tell what was seen, at most one news a vendor; learn what others told."""
        ...

    async def probe(
        self, worker: WorkerId, vendor: str, *, for_s: float
    ) -> BreakerRow | None:
        """
        Take the one probe of an open breaker, for at most `for_s` seconds.

        Returns None when it is another's, or it is not yet time for one.  The probe
        of a worker that is gone is free at once.
        """
        ...


# -- calls and money ------------------------------------------------------------------

SCOPES = ("item", "batch", "tenant", "day")  # what a call is counted in
USED_UP, RESERVED = "BUDGET_USED_UP", "BUDGET_RESERVED"
RESTING = (USED_UP, RESERVED)  # why an item waits for money
WAIT_CODE = r"^[A-Z][A-Z0-9_]*$"  # of a wait's `why`, what is a code and no sentence
UNKNOWN_END = "OUTCOME_UNKNOWN"  # code of a call whose worker did not say how it ended


def bounded_by(budget: str) -> str:
    """The budget to bound where this one has no room: of one day that of each day."""
    scope, _, _ = budget.partition("/")
    return scope if scope == "day" else budget


class Short(NamedTuple):
    """
    Why a call may not be made.

    Attributes:
        code: BUDGET_USED_UP; BUDGET_RESERVED, where other calls under way may leave
            room; BUDGET_CURRENCY; CALLS_LIMIT; NOT_OURS, the item left this worker.
        budget: `tenant/acme`, of the first four codes but one.
        bound: Of that budget, or the calls that are allowed.
        left: Of it, in its currency.
    """

    code: str
    budget: str = ""
    bound: Decimal = Decimal(0)
    currency: str = ""
    left: Decimal = Decimal(0)


class Spent(NamedTuple):
    """What was called in one currency; settled calls, and what the open may cost."""

    currency: str
    calls: int
    failed: int
    cost: Decimal
    reserved: Decimal
    usage: Usage


class BudgetRow(NamedTuple):
    """A budget: `bound` is None where nothing bounds it."""

    name: str  # item/437, batch/12, tenant/acme, day/2026-12-31, day: of every day
    bound: Decimal | None
    declared: bool  # by a file, and not by a person
    spent: Spent
    waiting: int  # items that it keeps waiting


class CallRow(NamedTuple):
    """A call of a vendor, as it stands in the ledger; `settled_at` None: open."""

    number: int
    stage: str
    step: str
    tries: int
    vendor: str
    model: str
    opened_at: datetime
    settled_at: datetime | None
    code: str
    finish: str
    cost: Decimal
    reserved: Decimal
    currency: str
    usage: Usage
    took_s: float


class CallStore(Protocol):
    """
    The ledger of calls, as a worker writes it; raises as `WorkStore` does.

    Calls that a worker left open are settled, at the most they can have cost, when it
    leaves or is reaped.
    """

    async def open_calls(
        self, worker: WorkerId, openings: Sequence[CallOpening]
    ) -> list[CallId | Short]:
        """
        Write calls down and reserve the most they can cost, in one transaction.

        Each from all budgets that must pay for it, or from none.  The same token twice
        is one call.
        """
        ...

    async def settle_calls(self, worker: WorkerId, settled: Sequence[Settled]) -> None:
        """Settle this worker's open calls; `commit` does it with a step."""
        ...

    async def declare(self, service: ServiceBudget) -> None:
        """Have what a file bounds tenants and days to hold from now on."""
        ...


class PurseRow(NamedTuple):
    """
    What a family's agents have taken, by the id of its outermost item.

    Attributes:
        held: By conversations that go on.
        lacked: The key of `[budget]` that did not give what was last wanted; "" none.
    """

    item: ItemId
    most: Most
    taken: Amounts
    held: Amounts
    lacked: str


class BudgetStore(Protocol):
    """What people ask about money, and about what agents take."""

    async def purse(self, item: ItemId) -> PurseRow | None:
        """That of the item's family; None where nothing was drawn from one."""
        ...

    async def purses(self, *, limit: int = 100) -> list[PurseRow]:
        """Those that lacked something, by the id of their item."""
        ...

    async def budgets(self, *, limit: int = 100) -> list[BudgetRow]:
        """Those that are bounded or keep items waiting, and today; by name."""
        ...

    async def budget(self, name: str) -> list[BudgetRow]:
        """
        One budget, a row a currency; of `day` what each is bounded to, and today's.

        Raises:
            NotFound: it names nothing.
        """
        ...

    async def set_budget(self, name: str, bound: Money | None) -> list[BudgetRow]:
        """
        Bound a budget; None: to what files declare.  Who waits for it and has room
        goes on.

        Raises:
            NotFound: it names nothing.
        """
        ...

    async def calls_of(self, item: ItemId, *, limit: int = 100) -> list[CallRow]:
        """The item's calls, newest first."""
        ...

    async def spent(
        self, *, item: ItemId | None = None, batch_id: int | None = None
    ) -> list[Spent]:
        """What an item alone, a batch, or everything has called, by currency."""
        ...


class WorkerStore(
    WorkStore, BreakerStore, LimitStore, CallStore, EffectStore, Protocol
):
    """All that a worker's session asks."""
