"""
The store's port for limits: what workers tell each other of them, and the owner's hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from pipeline.model import ItemId, WorkerId

# What a worker told of its lines counts for so long.
FRESH_S = 5.0


class LimitAsk(NamedTuple):
    """
    What a worker tells of one limit, and has of it.

    Attributes:
        rank: Of its declaration; the highest stands.  None: when the worker joined, by
            the store's clock, in microseconds.
        rate, per_s, burst, every_s, concurrency: As declared; `rate` None and
            `every_s` 0: not paced; `concurrency` None: any number at once.
        booked: Calls under way, and those that have their permit.
        waiting, waiting_units, oldest_s: Calls that have none, what they weigh, and
            how long the first of them has waited.
        begun: Units that began since this was told the last time.
        owed: Units that calls took beyond those of their permits; below 0: left over.
        pause_s: A vendor wants to be left alone for so long.
        back_end, back_from: Permits from `back_from` on, the last that were leased
            when the limit's `tat` was `back_end`, are not used.
    """

    key: str
    rank: int | None
    rate: float | None
    per_s: float
    burst: int
    every_s: float
    concurrency: int | None
    booked: int = 0
    waiting: int = 0
    waiting_units: float = 0.0
    oldest_s: float = 0.0
    begun: float = 0.0
    owed: float = 0.0
    pause_s: float = 0.0
    back_end: float | None = None
    back_from: float | None = None


class LineAsk(NamedTuple):
    """Calls of a line, in order; each takes units of all of its `limits` together."""

    limits: tuple[int, ...]  # places in what is asked of limits
    calls: Sequence[Sequence[float]]


class LimitNews(NamedTuple):
    """
    What a worker learns of a limit.

    Attributes:
        every_s, per_s, burst, cap: As they are in force; `cap` of calls at once.
        units: So many calls of this worker may be under way, of `cap`.
        paused_s: So long nobody begins.
        tat: The instant of the next permit, in seconds on the store's clock.
        others: Units that wait in other workers, of which there are `workers`.
    """

    key: str
    every_s: float
    per_s: float
    burst: int
    cap: int | None
    units: int
    others: float
    workers: int
    paused_s: float
    tat: float


class LimitLease(NamedTuple):
    """
    What an exchange brought.

    Attributes:
        now: Of the store's clock, in seconds, when it was made.
        limits: In the order in which they were asked of.
        starts: Of each line, from when its first calls may begin, in seconds from
            `now`; those for which nothing is said have to ask again.
    """

    now: float
    limits: list[LimitNews]
    starts: list[list[float]]


class LimitRow(NamedTuple):
    """
    A limit, as whoever runs the service sees it.

    Attributes:
        rate, per_s, concurrency: In force.
        declared_rate, declared_per_s, declared_concurrency: Where the owner has set
            others; the same where not.
        set_by_owner: Whether the owner has.
        used: Units begun in the last `per_s`, about.
        under_way: Calls.
        waiting: Calls that wait in workers, and since when the first does.
        clears_s: Until all of them will have begun, at this pace; None: unknown.
        paused_until: None: it is not.
        paused_by: "vendor" or "owner".
    """

    key: str
    rate: float | None
    per_s: float
    concurrency: int | None
    declared_rate: float | None
    declared_per_s: float
    declared_concurrency: int | None
    set_by_owner: bool
    used: float
    under_way: int
    waiting: int
    oldest_at: datetime | None
    clears_s: float | None
    paused_until: datetime | None
    paused_by: str


class LimitSet(NamedTuple):
    """The owner's own numbers; None: what is declared stands."""

    rate: float | None = None
    per_s: float | None = None
    every_s: float | None = None
    concurrency: int | None = None


class LimitStore(Protocol):
    """Limits that all workers obey together."""

    async def lease_limits(
        self,
        worker: WorkerId,
        asks: Sequence[LimitAsk],
        lines: Sequence[LineAsk],
        *,
        lead_s: float,
        horizon_s: float,
    ) -> LimitLease:
        """
        Tell of limits, in the order of their keys, and take permits of them that
        begin from `lead_s` to `horizon_s` seconds from now.

        Calls of several lines take turns.  Raises LeaseLost.
        """
        ...

    async def call_back(self, items: Sequence[ItemId]) -> None:
        """Those of them that a limit sent away look again at once."""
        ...

    async def limits(self) -> list[LimitRow]:
        """Every limit that was ever asked of or set, by key."""
        ...

    async def set_limit(self, key: str, numbers: LimitSet) -> None:
        """
        The owner's own numbers for a limit, from now on.

        A rate, or a concurrency, that is not named stays as the owner set it; with
        none of them the limit is as declared again.
        """
        ...

    async def pause_limit(self, key: str, for_s: float | None) -> None:
        """Nobody begins for `for_s` seconds; None: until it is resumed."""
        ...

    async def resume_limit(self, key: str) -> bool:
        """End a pause, whoever made it; False: there was none."""
        ...
