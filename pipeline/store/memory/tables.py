"""
The tables of the store in memory: a dictionary each, and the moves that all topics
share.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import anyio

from pipeline.errors import NotFound
from pipeline.model import (
    Attempt,
    Batch,
    Checkpoint,
    Finish,
    HoldId,
    Item,
    ItemId,
    Product,
    Progress,
    Receipt,
    State,
    WorkerId,
)
from pipeline.purse import Amounts, Purse
from pipeline.store.rows import HoldRow, Origin, PipelineRow, TroubleRow
from pipeline.store.signals import Delivery

EPOCH = datetime(2026, 12, 1, tzinfo=UTC)


@dataclass(slots=True)
class Place:
    """An item's row in `ready`, `running`, `waiting` or `joining`."""

    stage: str
    seq: int
    attempt: int = 0
    strikes: int = 0
    since: float = 0.0
    worker: WorkerId | None = None
    solo: bool = False
    until: float = 0.0
    why: str = ""
    listens: tuple[str, ...] = ()


@dataclass(slots=True)
class Admitted:
    """An item's row in `items`, and its checkpoints with who wrote them."""

    facts: Item
    key: str
    deadline: float
    received: float
    parent: ItemId | None = None
    checkpoints: list[Checkpoint] = field(default_factory=list)
    writers: dict[int, WorkerId | None] = field(default_factory=dict)


@dataclass(slots=True)
class Signal:
    """An item's row in `signals`, by name."""

    stage: str = ""
    asked: float = 0.0
    within_s: float | None = None
    poll: float | None = None
    schema: str | None = None
    lapsed: bool = False
    answer: Delivery | None = None
    answered: float = 0.0


@dataclass(slots=True)
class Holding:
    """What a conversation holds of a family's purse; `swept`: it is back in it."""

    root: ItemId
    holds: Amounts
    swept: bool = False


@dataclass(slots=True)
class Lease:
    """A worker's row in `workers`."""

    origin: Origin
    lease_until: float
    joined_us: int
    troubles: tuple[TroubleRow, ...] = ()


class MemoryTables:
    """Dictionaries, and an item's ways between them."""

    def __init__(self) -> None:
        self.attempts: list[tuple[ItemId, Attempt]] = []
        self._attempted: list[float] = []  # when, in the same order
        self._items: dict[ItemId, Admitted] = {}
        self._ready: dict[ItemId, Place] = {}
        self._line: dict[tuple[str, str], list[tuple[float, ItemId]]] = {}
        self._looked_at: dict[str, str] = {}  # the last tenant of each line
        self._running: dict[ItemId, Place] = {}
        self._waiting: dict[ItemId, Place] = {}
        self._timers: list[tuple[float, ItemId]] = []
        self._joining: dict[ItemId, Place] = {}
        self._outcomes: dict[ItemId, tuple[Finish, float]] = {}
        self._holds: dict[HoldId, HoldRow] = {}
        self._open: dict[ItemId, HoldId] = {}
        self._workers: dict[WorkerId, Lease] = {}
        self._cancels: dict[ItemId, str] = {}
        self._retried: Counter[ItemId] = Counter()  # by people
        self._batches: dict[tuple[str, str], Batch] = {}
        self._receipts: dict[str, tuple[int, Receipt]] = {}
        self._keys: dict[tuple[str, str, str], ItemId] = {}
        self._pipelines: dict[int, PipelineRow] = {}
        self._weights: dict[str, float] = {}
        self._kin: dict[ItemId, list[ItemId]] = {}
        self._progress: dict[ItemId, Progress] = {}
        self._products: dict[tuple[ItemId, str], Product] = {}
        self._signals: dict[tuple[ItemId, str], Signal] = {}
        self._purses: dict[ItemId, Purse] = {}
        self._holdings: dict[tuple[ItemId, str], Holding] = {}  # of a conversation

    def __repr__(self) -> str:
        return (
            f"<MemoryStore ready={len(self._ready)} running={len(self._running)} "
            f"waiting={len(self._waiting) + len(self._joining)} held={len(self._open)}>"
        )

    def now(self) -> float:
        """Seconds on the store's clock."""
        return anyio.current_time()

    def _at(self, instant: float) -> datetime:
        return EPOCH + timedelta(seconds=instant)

    def _put_ready(self, item: ItemId, place: Place) -> None:
        place.since = self.now()
        self._ready[item] = place
        row = self._items[item]
        line = self._line.setdefault((place.stage, row.facts.tenant), [])
        heapq.heappush(line, (row.deadline, item))

    def _on_again(self, item: ItemId) -> None:
        """Back in line, out of `waiting` or `joining`."""
        place = self._waiting.pop(item, None) or self._joining.pop(item)
        again = Place(place.stage, place.seq, place.attempt, place.strikes)
        self._put_ready(item, again)

    def _end(self, item: ItemId, end: Finish) -> None:
        self._outcomes[item] = (end, self.now())
        if end.state is State.CANCELLED:
            for child in self._open_kin(item):
                by = f"item {item}"
                if not self._cancel_parked(child, by) and child in self._running:
                    self._cancels.setdefault(child, by)

    def _cancel_parked(self, item: ItemId, author: str) -> bool:
        place = None
        for plane in (self._ready, self._waiting, self._joining):
            place = place or plane.pop(item, None)
        if item in self._open:
            number = self._open.pop(item)
            hold = self._holds[number]._replace(claimed_by=None, claimed_until=None)
            self._holds[number] = hold
            place = Place(hold.stage, hold.seq)
        if place is None:
            return False
        why = f"cancelled by {author}"
        self._end(item, Finish(State.CANCELLED, place.stage, "CANCELLED", why))
        return True

    def _open_kin(self, parent: ItemId) -> list[ItemId]:
        return [i for i in self._kin.get(parent, ()) if i not in self._outcomes]

    def _root(self, item: ItemId) -> ItemId:
        while (parent := self._items[item].parent) is not None:
            item = parent
        return item

    def _reached(self, item: ItemId, place: Place) -> str:
        """The stage its checkpoints since the claim lead to; "" when none does."""
        found = ""
        for c in self._items[item].checkpoints:
            if c.seq >= place.seq and c.next_stage:
                found = c.next_stage
        return found

    def _live(self, item: ItemId) -> tuple[Place, State]:
        for plane, state in (
            (self._ready, State.READY),
            (self._running, State.RUNNING),
            (self._waiting, State.WAITING),
            (self._joining, State.WAITING),
        ):
            if item in plane:
                place = plane[item]
                if state is State.RUNNING and (stage := self._reached(item, place)):
                    return replace(place, stage=stage), state
                return place, state
        raise NotFound(f"item {item} is astray")

    def _of_batch(self, batch_id: int | None) -> Callable[[ItemId], bool]:
        if batch_id is None:
            return lambda _: True
        name = {b.id: (b.tenant, b.name) for b in self._batches.values()}[batch_id]
        return lambda i: (
            (self._items[i].facts.tenant, self._items[i].facts.batch) == name
        )


def digest_of(hold: HoldRow) -> str:
    """What a decision is bound to, as `waybill.hold_digest` tells it of a row."""
    what = (hold.code, hold.why, hold.shown, hold.shown_ref, hold.proposal)
    how = (hold.proposal_ref, hold.needs, hold.again, hold.next_stage)
    until = None if hold.lapses_at is None else hold.lapses_at.timestamp()
    text = json.dumps((*what, *how, hold.lapse, until), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
