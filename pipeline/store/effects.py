"""
The store's port for effects: what couriers take and settle, what people ask and say.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from pipeline.model import ItemId, WorkerId
from pipeline.outbox import EffectState, SinkClass

EffectId = int


class EffectRow(NamedTuple):
    """
    An effect as it stands.

    Attributes:
        payload: JSON text; None: in the artifact `payload_ref`.
        artifacts: Names, and the artifact of each.
        tries: Times it was sent.
        worker: Who has it in hand.
        due_at: When a courier sends it, or asks for it; None: it does not.
        why: The code and the reason of what happened last.
        cancelled: Its item was cancelled: it is not sent.
    """

    id: EffectId
    item_id: ItemId
    item_name: str
    tenant: str
    batch: str
    batch_id: int
    stage: str
    name: str
    sink: str
    key: str
    sink_class: SinkClass
    state: EffectState
    payload: str | None
    payload_ref: str | None
    artifacts: dict[str, str]
    irreversible: bool
    tries: int
    worker: WorkerId | None
    planned_at: datetime
    due_at: datetime | None
    sent_at: datetime | None
    ended_at: datetime | None
    answer: Any
    why: str
    released_by: str | None
    released_at: datetime | None
    cancelled: bool = False


class Room(NamedTuple):
    """How many effects of a sink a courier takes, and of which class the sink is."""

    sink: str
    sink_class: SinkClass
    most: int


class Settlement(NamedTuple):
    """
    What became of an effect that a courier had in hand.

    Attributes:
        due_s: Seconds until a courier sends it, or asks for it, again; None: never by
            itself.
        answer: JSON text of what the receiver said; None: what stood there stays.
        perhaps: It may have happened, and is planned all the same: its receiver knows
            it by its key.
    """

    id: EffectId
    state: EffectState
    due_s: float | None = None
    answer: str | None = None
    why: str = ""
    perhaps: bool = False


class Passage(NamedTuple):
    """One transition of an effect, from the audit."""

    event: str
    actor: str
    at: datetime


class EffectStore(Protocol):
    """
    What couriers need, and whoever looks after effects.

    They are planned by `WorkStore.commit`; `reap` and `leave` see to what a worker had
    in hand: what it had not begun is planned as before; of what was `sending`, class A
    is planned again, class B is asked for, class C is in doubt.
    """

    async def take_effects(
        self, worker: WorkerId, rooms: Sequence[Room]
    ) -> list[EffectRow]:
        """
        Take what is due, in order, into this worker's hands; each stands as it stood,
        `planned`, or `in_doubt` to be asked for.  Of a cancelled item none is taken.

        Raises:
            LeaseLost: nothing was taken.
        """
        ...

    async def begin_effects(
        self, worker: WorkerId, ids: Sequence[EffectId]
    ) -> list[bool]:
        """
        Have planned ones be `sending`, which they are when this returns.

        False, and nothing of it, where one is not this worker's any more: planned
        otherwise since, called back, or its item was cancelled.

        Raises:
            LeaseLost: none is.
        """
        ...

    async def settle_effects(
        self, worker: WorkerId, settled: Sequence[Settlement]
    ) -> list[bool]:
        """
        Write what became of effects; False where it is not in this worker's hands.

        Raises:
            LeaseLost: nothing was written.
        """
        ...

    async def disown_effects(self, worker: WorkerId, keep: Sequence[EffectId]) -> int:
        """
        Give back what this worker took and does not know of: it was never sent.

        After a `take_effects` whose answer was lost; returns how many there were.
        """
        ...

    async def effects(
        self,
        *,
        batch_id: int | None = None,
        item_id: ItemId | None = None,
        sink: str = "",
        states: Sequence[EffectState] = (),
        limit: int = 100,
    ) -> list[EffectRow]:
        """Effects, newest first; of these `states`, or of all."""
        ...

    async def effect(self, effect_id: EffectId) -> EffectRow:
        """One effect; raises NotFound."""
        ...

    async def passages(self, effect_id: EffectId) -> list[Passage]:
        """Its transitions, in order."""
        ...

    async def count_effects(
        self, batch_id: int | None = None
    ) -> dict[tuple[str, EffectState], int]:
        """
        How many stand where, by sink and state; of all batches without those that are
        confirmed.
        """
        ...

    async def resolve_effect(
        self, effect_id: EffectId, state: EffectState, author: str, why: str
    ) -> EffectRow:
        """
        A person says what became of an effect in doubt: it is `confirmed`, `refused`,
        or was not sent and is `planned` again.

        Raises:
            Conflict: it is not in doubt, or is being asked for.
            NotFound: no such effect.
        """
        ...

    async def resend_effect(self, effect_id: EffectId, author: str) -> EffectRow:
        """
        Plan one again, with its key and its body: one that was refused, is in doubt,
        or is confirmed by a receiver of class A.

        Raises:
            Conflict: it is none of these.
            NotFound: no such effect.
        """
        ...

    async def awaiting_release(self, batch_id: int) -> list[EffectId]:
        """Those of a batch that wait for a person to say when."""
        ...

    async def release_effects(
        self, author: str, *, ids: Sequence[EffectId], in_s: float
    ) -> list[EffectId]:
        """
        Release those of these that wait for it: they are due in `in_s` seconds.

        By their ids, and never a batch's: more may be planned while a person looks.
        """
        ...

    async def undo_release(
        self, author: str, *, batch_id: int | None = None, ids: Sequence[EffectId] = ()
    ) -> list[EffectId]:
        """Have released effects wait again that no courier has taken."""
        ...
