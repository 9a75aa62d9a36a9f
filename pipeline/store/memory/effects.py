"""
Effects in memory: see `EffectStore` for every contract.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import anyio

from pipeline.errors import Conflict, NotFound
from pipeline.model import Item, ItemId, State, WorkerId
from pipeline.outbox import EffectState, Planned, SinkClass
from pipeline.state import clean_text
from pipeline.store.effects import EffectId, EffectRow, Passage, Room, Settlement
from pipeline.store.memory.sessions import MemorySessions
from pipeline.store.strikes import Blame

S = EffectState
UNHEARD = "WORKER_DIED: nobody heard what became of it"


class MemoryEffects(MemorySessions):
    """Rows of `effects`, and their transitions."""

    def __init__(self) -> None:
        super().__init__()
        self._effects: dict[EffectId, EffectRow] = {}
        self._passages: dict[EffectId, list[Passage]] = {}
        self._perhaps: set[EffectId] = set()  # planned, and may have happened

    # -- in others' transactions -----------------------------------------------------

    def _plan(self, worker: WorkerId, item: ItemId, planned: Sequence[Planned]) -> None:
        for p in sorted(planned, key=lambda p: p[2:4]):
            same = (e for e in self._effects.values() if (e.sink, e.key) == p[2:4])
            old = next(same, None)
            row = self._items[item].facts
            new = EffectRow(
                id=len(self._effects) + 1 if old is None else old.id,
                item_id=item,
                item_name=row.name,
                tenant=row.tenant,
                batch=row.batch,
                batch_id=self._batches[row.tenant, row.batch].id,
                stage=p.stage,
                name=p.name,
                sink=p.sink,
                key=p.key,
                sink_class=p.sink_class,
                state=_planned_as(p, row),
                payload=p.payload,
                payload_ref=p.payload_ref,
                artifacts=json.loads(p.artifacts),
                irreversible=not p.released,
                tries=0 if old is None else old.tries,
                worker=None,
                planned_at=self._at(self.now()),
                due_at=self._gathered(p.gather_s)
                if p.released and not row.trial
                else None,
                sent_at=None,
                ended_at=None,
                answer=None,
                why="",
                released_by=None,
                released_at=None,
            )
            if old is None or old.state is S.REFUSED or self._unsent_other(old, new):
                self._perhaps.discard(new.id)
                self._put_effect(new, str(worker))

    def _gathered(self, gather_s: float) -> datetime:
        now = self.now()
        return self._at(math.ceil(now / gather_s) * gather_s if gather_s else now)

    async def leave(
        self, worker: WorkerId, *, died: bool = False, blamed: Blame | None = None
    ) -> int:
        moved = await super().leave(worker, died=died, blamed=blamed)
        self._return_effects([worker])
        return moved

    async def reap(self, workers: Sequence[WorkerId], *, died: bool) -> int:
        there = [w for w in workers if w in self._workers]
        moved = await super().reap(workers, died=died)
        self._return_effects([w for w in there if w not in self._workers])
        return moved

    def _return_effects(self, workers: Sequence[WorkerId]) -> None:
        for e in list(self._effects.values()):
            if e.worker not in workers:
                continue
            if e.state is S.PLANNED:  # not begun
                now = self._at(self.now())
                self._effects[e.id] = e._replace(worker=None, due_at=now)
                continue
            sending = e.state is S.SENDING
            again = sending and e.sink_class is SinkClass.A
            asked = e.sink_class is not SinkClass.C
            self._perhaps.update([e.id] if again else ())
            back = e._replace(
                worker=None,
                state=S.PLANNED if again else S.IN_DOUBT,
                due_at=self._at(self.now()) if asked else None,
                why=UNHEARD if sending else e.why,
            )
            self._put_effect(back, "reaper")

    def _put_effect(self, row: EffectRow, actor: str, event: str = "") -> None:
        self._effects[row.id] = row
        said = f"effect_{event or row.state.value}"
        passage = Passage(said, actor, self._at(self.now()))
        self._passages.setdefault(row.id, []).append(passage)

    def _unsent_other(self, old: EffectRow, new: EffectRow) -> bool:
        """Whether what surely was not sent is replaced by what says otherwise."""
        unsent = old.state in (S.PLANNED, S.AWAITING_RELEASE, S.NOT_SENT)
        if old.id in self._perhaps or not unsent:
            return False
        body = ("payload", "payload_ref", "artifacts", "irreversible")
        return any(getattr(old, part) != getattr(new, part) for part in body)

    # -- couriers --------------------------------------------------------------------

    async def take_effects(
        self, worker: WorkerId, rooms: Sequence[Room]
    ) -> list[EffectRow]:
        await anyio.lowlevel.checkpoint()
        if rooms:
            self._alive(worker)
        taken = []
        now = self._at(self.now())
        for sink, sink_class, most in rooms:
            due = [
                (e.due_at, e.id)
                for e in self._effects.values()
                if e.sink == sink
                and e.due_at is not None
                and e.due_at <= now
                and not self._cancelled(e)
            ]
            for _, number in sorted(due)[:most]:
                e = self._effects[number]
                e = e._replace(worker=worker, due_at=None, sink_class=sink_class)
                self._effects[e.id] = e
                if e.state is S.IN_DOUBT:
                    self._put_effect(e, str(worker), "asked")
                taken.append(e)
        return sorted(taken, key=lambda e: e.id)

    async def begin_effects(
        self, worker: WorkerId, ids: Sequence[EffectId]
    ) -> list[bool]:
        await anyio.lowlevel.checkpoint()
        self._alive(worker)
        begun = []
        for number in ids:
            e = self._effects[number]
            may = e.worker == worker and e.state is S.PLANNED
            begun.append(may and not self._cancelled(e))
            if begun[-1]:
                now = self._at(self.now())
                e = e._replace(state=S.SENDING, tries=e.tries + 1, sent_at=now)
                self._put_effect(e, str(worker))
        return begun

    def _cancelled(self, effect: EffectRow) -> bool:
        end = self._outcomes.get(effect.item_id)
        return end is not None and end[0].state is State.CANCELLED

    async def settle_effects(
        self, worker: WorkerId, settled: Sequence[Settlement]
    ) -> list[bool]:
        await anyio.lowlevel.checkpoint()
        self._alive(worker)
        stood = []
        for s in settled:
            e = self._effects[s.id]
            stood.append(e.worker == worker)
            if e.worker == worker:
                now = self._at(self.now())
                ended = s.state in (S.CONFIRMED, S.REFUSED)
                self._perhaps.update([e.id] if s.perhaps else ())
                was = e.state
                e = e._replace(
                    state=s.state,
                    worker=None,
                    why=clean_text(s.why),
                    due_at=None if s.due_s is None else now + timedelta(0, s.due_s),
                    ended_at=now if ended else None,
                    answer=e.answer if s.answer is None else json.loads(s.answer),
                )
                self._effects[e.id] = e
                if (was, e.state) != (S.PLANNED, S.PLANNED):
                    self._put_effect(e, str(worker))
        return stood

    async def disown_effects(self, worker: WorkerId, keep: Sequence[EffectId]) -> int:
        self._alive(worker)
        mine = [e for e in self._effects.values() if e.worker == worker]
        for e in (lost := [e for e in mine if e.id not in keep]):
            back = e._replace(worker=None, due_at=self._at(self.now()))
            self._effects[e.id] = back
            if e.state is S.IN_DOUBT:
                self._put_effect(back, str(worker))
        return len(lost)

    # -- people ----------------------------------------------------------------------

    async def effects(
        self,
        *,
        batch_id: int | None = None,
        item_id: ItemId | None = None,
        sink: str = "",
        states: Sequence[EffectState] = (),
        limit: int = 100,
    ) -> list[EffectRow]:
        found = [
            e._replace(cancelled=self._cancelled(e))
            for e in self._effects.values()
            if batch_id in (None, e.batch_id)
            and item_id in (None, e.item_id)
            and sink in ("", e.sink)
            and (not states or e.state in states)
        ]
        return sorted(found, key=lambda e: -e.id)[:limit]

    async def effect(self, effect_id: EffectId) -> EffectRow:
        if effect_id not in self._effects:
            raise NotFound(f"there is no effect {effect_id}")
        row = self._effects[effect_id]
        return row._replace(cancelled=self._cancelled(row))

    async def passages(self, effect_id: EffectId) -> list[Passage]:
        return list(self._passages.get(effect_id, ()))

    async def count_effects(
        self, batch_id: int | None = None
    ) -> dict[tuple[str, EffectState], int]:
        return dict(
            Counter(
                (e.sink, e.state)
                for e in self._effects.values()
                if e.batch_id == batch_id
                or (batch_id is None and e.state not in (S.CONFIRMED, S.NOT_SENT))
            )
        )

    async def resolve_effect(
        self, effect_id: EffectId, state: EffectState, author: str, why: str
    ) -> EffectRow:
        row = await self.effect(effect_id)
        if row.state is not S.IN_DOUBT or row.worker is not None:
            raise Conflict(f"effect {effect_id} is not in doubt: it is {row.state}")
        now = self._at(self.now())
        again = state is S.PLANNED
        row = row._replace(
            state=state,
            why=why,
            due_at=now if again else None,
            ended_at=None if again else now,
        )
        self._put_effect(row, author)
        return row

    async def resend_effect(self, effect_id: EffectId, author: str) -> EffectRow:
        row = await self.effect(effect_id)
        known = row.state is S.CONFIRMED and row.sink_class is SinkClass.A
        if row.worker or not (known or row.state in (S.REFUSED, S.IN_DOUBT)):
            raise Conflict(f"effect {effect_id} is {row.state}: it is not sent again")
        if row.state is not S.REFUSED:
            self._perhaps.add(effect_id)
        now = self._at(self.now())
        row = row._replace(state=S.PLANNED, why="", due_at=now, ended_at=None)
        self._put_effect(row, author)
        return row

    async def awaiting_release(self, batch_id: int) -> list[EffectId]:
        return sorted(
            e.id
            for e in self._effects.values()
            if e.batch_id == batch_id and e.state is S.AWAITING_RELEASE
        )

    async def release_effects(
        self, author: str, *, ids: Sequence[EffectId], in_s: float
    ) -> list[EffectId]:
        now = self.now()
        return self._said(
            author,
            lambda e: e.state is S.AWAITING_RELEASE and e.id in ids,
            "released",
            state=S.PLANNED,
            released_by=author,
            released_at=self._at(now),
            due_at=self._at(now + in_s),
        )

    async def undo_release(
        self, author: str, *, batch_id: int | None = None, ids: Sequence[EffectId] = ()
    ) -> list[EffectId]:
        return self._said(
            author,
            lambda e: (
                e.state is S.PLANNED
                and e.id not in self._perhaps
                and e.released_by is not None
                and _named(e, batch_id, ids)
            ),
            state=S.AWAITING_RELEASE,
            released_by=None,
            released_at=None,
            due_at=None,
            worker=None,
        )

    def _said(
        self,
        author: str,
        of: Callable[[EffectRow], bool],
        event: str = "",
        **columns: object,
    ) -> list[EffectId]:
        found = [e for e in self._effects.values() if of(e)]
        for e in found:
            self._put_effect(e._replace(**columns), author, event)  # type: ignore[arg-type]
        return [e.id for e in found]


def _planned_as(plan: Planned, item: Item) -> EffectState:
    if item.trial:
        return S.NOT_SENT
    return S.PLANNED if plan.released else S.AWAITING_RELEASE


def _named(effect: EffectRow, batch_id: int | None, ids: Sequence[EffectId]) -> bool:
    return effect.batch_id == batch_id if batch_id is not None else effect.id in ids
