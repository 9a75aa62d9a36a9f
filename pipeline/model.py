"""
The nouns (items, checkpoints, moves, outcomes), in the words of docs/concepts.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from pipeline.calls import Settled
from pipeline.lapse import Lapse
from pipeline.outbox import Planned
from pipeline.parts import Part
from pipeline.purse import Draw
from pipeline.signals import Ask

ItemId = int
HoldId = int
WorkerId = UUID


class State(StrEnum):
    """Where an item is.  Exactly one of these at every moment."""

    READY = "ready"  # a worker may take it
    RUNNING = "running"  # a worker has it
    WAITING = "waiting"  # for an instant (a retry, `Wait`), children, or signals
    HELD = "held"  # for a person
    DONE = "done"
    REJECTED = "rejected"  # a person or a rule said no
    FAILED = "failed"  # dead letter, with a code
    CANCELLED = "cancelled"


# -- outcomes: what a stage returns ---------------------------------------------------


class _Updating:
    """An outcome that only carries updates: equal to its like with the same ones."""

    __slots__ = ("updates",)

    def __init__(self, **updates: Any) -> None:
        self.updates: dict[str, Any] = updates

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.updates)})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.updates == other.updates

    __hash__ = None  # type: ignore[assignment]  # carries a dict


class Advance(_Updating):
    """The stage is finished; `updates` go into the state, the item goes on."""

    __slots__ = ()


class Done(_Updating):
    """The item is finished here: `updates` go into the state, no stage follows."""

    __slots__ = ()


@dataclass(frozen=True, init=False)
class Hold:
    """
    A person must look before the item goes on.

    Args:
        code: Stable word: `DISCLOSURE`, `OCR_UNREADABLE`.
        why: One sentence for the reviewer.
        evidence: JSON-able data the reviewer is shown (spans, crops, scores).
        needs: Channels, or keys of them, that the reviewer must supply.
        ask: Like `needs`, but the stage runs again with the answer.
        lapse: What becomes of it when nobody decides in time; None: it waits.
        role: Who alone rules on it, in a line of their own; "": anybody.
        within_s: Seconds in which they should; None: by the item's deadline.
        updates: What the state receives when the hold is approved.
    """

    code: str
    why: str
    evidence: Any
    needs: tuple[str, ...]
    ask: tuple[str, ...]
    lapse: Lapse | None
    role: str
    within_s: float | None
    updates: Mapping[str, Any]

    def __init__(
        self,
        code: str,
        why: str = "",
        *,
        evidence: Any = None,
        needs: Sequence[str] = (),
        ask: Sequence[str] = (),
        lapse: Lapse | None = None,
        role: str = "",
        within_s: float | None = None,
        **updates: Any,
    ) -> None:
        said = {"code": code, "why": why, "evidence": evidence, "updates": updates}
        said |= {"lapse": lapse, "role": role, "within_s": within_s}
        for name, value in (said | {"needs": tuple(needs), "ask": tuple(ask)}).items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True, init=False)
class Reject:
    """A fact about the document (blank, blocked) ends it: final, with its code."""

    code: str
    why: str
    updates: Mapping[str, Any]

    def __init__(self, code: str, why: str = "", **updates: Any) -> None:
        put = object.__setattr__
        put(self, "code", code)
        put(self, "why", why)
        put(self, "updates", updates)


@dataclass(frozen=True)
class Wait:
    """Run this stage again in `for_s` seconds; meanwhile it costs nothing."""

    for_s: float
    why: str = ""


Outcome = Advance | Done | Hold | Reject | Wait

# -- children: one document becomes several -------------------------------------------


class Kin(NamedTuple):
    """A child that is final, and the state it ended with."""

    item_id: ItemId
    name: str
    state: State
    stage: str
    code: str
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Spawn:
    """
    Parts to be born with the checkpoint of the step that made them.

    They begin at `stage`.  `token` and a part's place make its receipt's token, and
    its key when it has none.
    """

    stage: str
    token: str
    parts: tuple[Part, ...]

    def token_of(self, place: int) -> str:
        """What names one part for ever."""
        return f"{self.token}/{place}"

    def submissions(self) -> list[Submission]:
        """The parts as admission takes files."""
        found = []
        for place, p in enumerate(self.parts):
            token = self.token_of(place)
            facts = (p.name, p.key or token, token, p.size_bytes, p.input)
            found.append(Submission(*facts, p.refused_code, p.refused_why))
        return found


# -- facts ---------------------------------------------------------------------------


class Item(NamedTuple):
    """One document on its way: immutable facts, as claimed; of a `trial` or not."""

    id: ItemId
    tenant: str
    batch: str
    pipeline_id: int
    name: str
    input: dict[str, Any]
    trial: bool = False


class Claim(NamedTuple):
    """
    An item this worker now owns.

    `left_s` is the time to its deadline by the database's clock; `seq` the number of
    its next checkpoint; `attempt` counts charged tries of this stage.
    """

    item: Item
    stage: str
    seq: int
    attempt: int
    left_s: float
    solo: bool


class Checkpoint(NamedTuple):
    """
    The durable record of one finished stage, step or decision.

    `step` is None for a stage.  `update` is JSON text, or None when it stands in the
    artifact `ref`.  `next_stage` says where a stage led; None: a step, "": the end.
    """

    seq: int
    stage: str
    step: str | None
    update: str | None
    ref: str | None
    next_stage: str | None
    took_s: float


# -- moves: what a commit does with an item besides its checkpoint --------------------


@dataclass(frozen=True, slots=True)
class ToReady:
    """Back in line, for `stage`."""

    stage: str
    seq: int
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class ToWaiting:
    """Out for `for_s` seconds, or until an ask is answered; then, if so, `alone`."""

    stage: str
    seq: int
    attempt: int
    for_s: float
    why: str
    alone: bool = False
    asks: tuple[Ask, ...] = ()


@dataclass(frozen=True, slots=True)
class ToJoining:
    """Out of the line until no child of it is open, never past its deadline."""

    stage: str
    seq: int
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class ToHeld:
    """Parked for a person: `shown` and `proposal` are JSON text, or artifacts."""

    stage: str
    seq: int
    code: str
    why: str
    shown: str | None
    proposal: str | None
    needs: tuple[str, ...]
    again: bool
    next_stage: str
    shown_ref: str | None = None
    proposal_ref: str | None = None
    lapse: str | None = None  # JSON text: `ends`, and the update where it does not
    lapse_s: float | None = None
    role: str = ""
    within_s: float | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of the item."""

    state: State
    stage: str
    code: str = ""
    why: str = ""


Move = ToReady | ToWaiting | ToJoining | ToHeld | Finish


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a stage that did not succeed; `frames` says where, a line each."""

    stage: str
    attempt: int
    code: str
    message: str
    charged: bool
    frames: str = ""


class Progress(NamedTuple):
    """How far a stage is with an item, in units of its own; or what it waits for."""

    stage: str
    done: int
    total: int
    waits_for: str = ""  # a limit, by name


class Product(NamedTuple):
    """A thing a stage made of an item, by name; `facts` is JSON text."""

    name: str
    artifact: str
    facts: str
    stage: str


@dataclass(slots=True)
class Entry:
    """
    What the journal commits for one item: all of it, or nothing.

    With a `spawn` the store writes the checkpoint's update: the children's ids; with a
    `draw` what was granted.  Only of its worker's own item `progress` and what follows
    it is written.
    """

    item_id: ItemId
    checkpoint: Checkpoint | None = None
    move: Move | None = None
    attempt: Attempt | None = None
    spawn: Spawn | None = None
    progress: Progress | None = None
    products: tuple[Product, ...] = ()
    settled: Settled | None = None
    draw: Draw | None = None
    effects: tuple[Planned, ...] = ()


# -- the way in -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Submission:
    """
    One file as it came, its bytes already durable in the artifact store.

    `key` is what makes it the same document: the sha256 of the raw bytes.  `token` is
    what makes it the same delivery: a file that is offered again after a crash gets the
    receipt of the first time.  A `refused_code` sends it to quarantine.
    """

    name: str
    key: str
    token: str
    size_bytes: int
    input: Mapping[str, Any] = field(default_factory=dict)
    refused_code: str = ""
    refused_why: str = ""
    kept_at: str = ""


class Disposal(StrEnum):
    """What admission made of a file."""

    ITEM = "item"
    DUPLICATE = "duplicate"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class Receipt:
    """What admission did with one submission; given only after COMMIT."""

    name: str
    disposal: Disposal
    item_id: ItemId | None  # the item, or the one it duplicates
    again: bool = field(default=False, compare=False)  # given before, and the same


class Batch(NamedTuple):
    """What was submitted together, with one deadline; a `trial` is run to be scored."""

    id: int
    tenant: str
    name: str
    deadline_at: datetime
    trial: str = ""
