"""
The ledger of calls in memory, and what sessions do to it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from pipeline.calls import CallId, CallOpening, Settled
from pipeline.model import ItemId, WorkerId
from pipeline.store.ledger import (
    Account,
    Change,
    Closed,
    Key,
    Where,
    changes_of,
    tokens_of,
)
from pipeline.store.memory.tables import MemoryTables
from pipeline.store.outside import UNKNOWN_END


@dataclass(slots=True)
class Kept:
    """A call's row in `calls`."""

    opening: CallOpening
    where: Where
    opened: float
    ended: float | None = None
    how: Settled | None = None

    @property
    def cost(self) -> Decimal:
        """What it did cost; open, nothing yet."""
        if self.how is None:
            return Decimal(0)
        return self.opening.most if self.how.cost is None else self.how.cost


class MemoryLedger(MemoryTables):
    """Rows of `calls` and `budgets`, and how calls are settled."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: defaultdict[ItemId, list[Kept]] = defaultdict(list)
        self._under_way: defaultdict[WorkerId, set[CallId]] = defaultdict(set)
        self._accounts: dict[Key, Account] = {}
        self._every_day: dict[str, Decimal] = {}  # what people bound each day to
        self._rests: dict[ItemId, tuple[Key, Decimal]] = {}  # for which, and how much

    def _settle(self, worker: WorkerId, settled: Iterable[Settled]) -> None:
        closed = []
        for how in settled:
            if how.call in self._under_way[worker]:
                self._under_way[worker].remove(how.call)
                call = self._calls[how.call.item_id][how.call.number - 1]
                call.how, call.ended = how, self.now()
                closed.append(
                    Closed(
                        call.where,
                        call.opening.currency,
                        call.opening.most,
                        call.cost,
                        how.code,
                        tokens_of(how.usage),
                    )
                )
        self._change(changes_of(closed))

    def _settle_lost(self, workers: Sequence[WorkerId]) -> None:
        for worker in workers:
            lost = [Settled(i, None, code=UNKNOWN_END) for i in self._under_way[worker]]
            self._settle(worker, lost)
            del self._under_way[worker]

    def _change(self, changes: Mapping[Key, Change]) -> None:
        for key, change in changes.items():
            account = self._accounts[key]
            account.reserved += change.reserved
            account.spent += change.spent
            account.calls += change.calls
            account.failed += change.failed
            input_tokens, cached, output, reasoning = change[4:]
            before = account.tokens
            account.tokens = (
                before[0] + input_tokens,
                before[1] + cached,
                before[2] + output,
                before[3] + reasoning,
            )

    def _today(self) -> int:
        return int(f"{self._at(self.now()):%Y%m%d}")
