"""The rows that a store hands out: what was asked, as it stood in one snapshot."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from pipeline.model import Checkpoint, Disposal, HoldId, ItemId, State, WorkerId


class Origin(NamedTuple):
    """Where a worker's process lives, so that a neighbour can see it die."""

    host: str  # host name, boot id and pid namespace
    pid: int
    born: str  # its start, against reused process ids; "" where unknown


class Share(NamedTuple):
    """A tenant's standing with one dispatcher: work served, and its weight."""

    served: float
    weight: float


class TroubleRow(NamedTuple):
    """What is wrong with a machine of ours, where, and since when."""

    what: str
    where: str
    since: datetime


class WorkerRow(NamedTuple):
    """A worker's row: who may act, from where, until when, and what troubles it."""

    id: WorkerId
    origin: Origin
    left_s: float
    troubles: tuple[TroubleRow, ...] = ()


class PipelineRow(NamedTuple):
    """One pinned version of a pipeline folder."""

    id: int
    name: str
    version: str
    stages: list[str]
    files: dict[str, str]  # relative path -> artifact


class HoldRow(NamedTuple):
    """
    A hold as a reviewer sees it; `decision` is None while it is open.

    What stands in an artifact, named by `shown_ref` or `proposal_ref`, is empty here;
    `pipeline.holds.parking.whole` puts it in.
    """

    id: HoldId
    item_id: ItemId
    item_name: str
    tenant: str
    batch: str
    pipeline_id: int
    stage: str
    code: str
    why: str
    shown: Any
    proposal: dict[str, Any]
    digest: str
    needs: list[str]
    again: bool
    seq: int
    next_stage: str
    held_at: datetime
    deadline_at: datetime
    claimed_by: str | None
    claimed_until: datetime | None
    decision: Decision | None
    shown_ref: str | None = None
    proposal_ref: str | None = None
    changed: bool = False  # since it was parked, by somebody in the database
    pipeline: str = ""  # its name
    lapse: dict[str, Any] | None = None  # what it comes to then: `ends`, `update`
    lapses_at: datetime | None = None
    role: str = ""  # who alone rules on it; "": anybody
    due_at: datetime | None = None  # when somebody should have, at the latest


class Decision(NamedTuple):
    """A person's ruling on a hold, or that nobody ruled in time: final."""

    verb: str  # approve | reject | edit | expired
    author: str
    reason: str
    decided_at: datetime


class ItemRow(NamedTuple):
    """An item and where it is."""

    id: ItemId
    name: str
    tenant: str
    batch: str
    pipeline_id: int
    key: str
    state: State
    stage: str
    attempt: int
    code: str
    why: str
    received_at: datetime
    deadline_at: datetime
    since: datetime  # of the state
    until: datetime | None  # waiting: when it goes on
    parent_id: ItemId | None = None  # the item it was found in
    joining: bool = False  # waiting: for its children
    pipeline: str = ""  # its name


class Found(NamedTuple):
    """Items, newest first; those below number `before` were not looked at (0: all)."""

    rows: list[ItemRow]
    before: ItemId


class AttemptRow(NamedTuple):
    """A try of a stage that failed; `frames` says where, outermost first."""

    stage: str
    attempt: int  # charged tries before it
    code: str
    message: str
    charged: bool
    frames: list[str]
    at: datetime


class Mark(NamedTuple):
    """Where an item stood when it was looked at."""

    stage: str
    last_seq: int  # of its newest checkpoint; -1: it has none


class KinRow(NamedTuple):
    """A child and how it ended; `state` is None while it is open."""

    id: ItemId
    name: str
    input: dict[str, Any]
    state: str | None
    stage: str
    code: str


class WorkRow(NamedTuple):
    """An item in a worker's hands, and how far the stage is that it is in."""

    item: ItemId
    name: str
    stage: str
    done: int
    total: int


class WaitsRow(NamedTuple):
    """What keeps an item that is ready or running from its stage."""

    strikes: int  # workers that died with it; from two on it runs among suspects
    beside: int  # items in its stage now, in all workers
    limit: str  # whose permit it waits for; "" none


class Pace(NamedTuple):
    """
    Items a minute: through each stage, in the last `for_s` seconds, and those that
    `left`, for good or for a person.
    """

    for_s: float
    stages: dict[str, float]
    left: float


class KeptRow(NamedTuple):
    """Items that one thing keeps from their stage: a limit, or why they wait."""

    stage: str
    name: str
    items: int
    until: datetime | None  # when the first goes on


class ProductRow(NamedTuple):
    """A thing a stage made of an item."""

    name: str
    artifact: str
    facts: dict[str, Any]
    stage: str


class Standing(NamedTuple):
    """An item, and all that its results are made of, in one snapshot."""

    row: ItemRow
    input: str  # what its state began with, as JSON text
    updates: list[Checkpoint]  # of its stages and reviewers, no steps
    products: list[ProductRow]


class StandsRow(NamedTuple):
    """How a batch stands, as text that is another when something of it has ended."""

    batch: int
    tenant: str
    name: str
    stands: str


class ReceivedRow(NamedTuple):
    """
    A file that a batch received, by its receipt.

    `item` is the one that it became or is a duplicate of; only what it became stands
    beside it.
    """

    id: int
    name: str
    disposal: Disposal
    code: str
    item: ItemId | None
    standing: Standing | None


class Sought(NamedTuple):
    """What is looked for, of items or holds: all that is given must be so."""

    name: str = ""  # a part of it, in upper or lower case
    code: str = ""
    stage: str = ""
    pipeline: str = ""  # its name
    since: datetime | None = None  # where it is now, or decided, at that time or later
    role: str | None = None  # of holds, whose line: None any, "" the common one


class Counts(NamedTuple):
    """
    One batch, counted.  `received` counts receipts of admission; the others
    count what stands in the tables of each state, so that the law can break.
    """

    received: int
    live: int
    held: int
    done: int
    rejected: int
    failed: int
    cancelled: int
    duplicates: int
    quarantined: int

    @property
    def conserved(self) -> bool:
        """The conservation law of docs/guarantees.md."""
        return self.received == sum(self[1:])


class Family(NamedTuple):
    """Items and all that was found in them: counted, and why some stand still."""

    counts: Counts
    joining: int  # wait for children that are not final
    listening: int  # wait for a signal that nobody is asked for now and then

    @property
    def moves(self) -> bool:
        """Whether any goes on without somebody outside."""
        held_up = self.joining if self.counts.held or self.listening else 0
        return self.counts.live != self.listening + held_up


class Audit(NamedTuple):
    """
    Everything looked up, in one snapshot: what is there, what the tallies say, and
    the first hundred items that stand in no state table, or in several.
    """

    counted: Counts
    tallied: Counts
    astray: list[ItemId]

    @property
    def sound(self) -> bool:
        """Nothing is missing, and the tallies tell the truth."""
        lawful = self.counted.conserved and not self.astray
        return lawful and self.counted == self.tallied


class Event(NamedTuple):
    """One line of an item's timeline."""

    at: datetime
    event: str
    stage: str
    actor: str
    detail: str
    took_s: float | None


class BatchRow(NamedTuple):
    """A batch as `batches ls` shows it; a `trial` is run to be scored."""

    id: int
    tenant: str
    name: str
    created_at: datetime
    deadline_at: datetime
    trial: bool = False


class TrialRow(NamedTuple):
    """A batch that is run to be scored; it has `ended` when its result is written."""

    batch: int
    name: str
    ended: bool


class EffortRow(NamedTuple):
    """
    What an item took, with everything that was found in it: `seconds` of its stages,
    calls of vendors, and what these did cost in each currency.
    """

    item: ItemId
    seconds: float
    calls: int
    cost: dict[str, Decimal]


class RefusedRow(NamedTuple):
    """A quarantined file; `item` is what became of its bytes since, if any."""

    id: int
    tenant: str
    batch: str
    name: str
    code: str
    why: str
    kept_at: str
    size_bytes: int
    at: datetime
    item: int | None


class StageRow(NamedTuple):
    """One line of `status`: a stage and what stands there."""

    stage: str
    ready: int
    running: int
    waiting: int
    held: int
