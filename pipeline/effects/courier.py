"""
The courier: takes what is due, has it done, and writes what became of each.

That it is `sending` is committed before anybody is called, so that after a crash
nobody takes for planned what may have happened; and not before its sink begins, so
that what merely waited for its turn is in nobody's doubt.  What a dead worker had in
hand the store gives back by the receiver's class.  Nothing is retried here but by being
due again; what a receiver says of one effect settles that one alone.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import assert_never

import anyio
import structlog
from anyio.abc import TaskGroup

from pipeline.effects.sink import (
    Absent,
    Confirmed,
    NotSent,
    Outcome,
    Parcel,
    Refused,
    Sink,
    Unknown,
)
from pipeline.errors import Conflict, LeaseLost, StoreUnavailable, WaybillError
from pipeline.model import WorkerId
from pipeline.outbox import EffectState, SinkClass
from pipeline.stage import Artifacts
from pipeline.state import clean_text, encode
from pipeline.store.effects import EffectId, EffectRow, EffectStore, Room, Settlement
from pipeline.trouble import trouble_of

log = structlog.get_logger()

AGAIN_S, AGAIN_MAX_S = 0.5, 60.0  # before a second try, and at most
WHY_CHARS_MAX = 500
ANSWER_CHARS_MAX = 8192
UNBEGUN_S = 10.0  # before another try of what nobody began, and nobody says when
PAUSE_MAX_S = 2.0


class Courier:
    """
    One session's courier.

    Args:
        check_lease: Raises `LeaseLost` when this worker may have been replaced.
        lose: Called when the lease turns out to be lost.
    """

    def __init__(
        self,
        store: EffectStore,
        worker: WorkerId,
        sinks: Mapping[str, Sink],
        artifacts: Artifacts,
        check_lease: Callable[[], None],
        lose: Callable[[], None],
        *,
        poll_s: float = 0.5,
    ) -> None:
        self._store = store
        self._worker = worker
        self._sinks = sinks
        self._artifacts = artifacts
        self._check_lease = check_lease
        self._lose = lose
        self._poll_s = poll_s
        self._calls = dict.fromkeys(sinks, 0)  # under way
        self._in_hand: set[EffectId] = set()  # until it is settled
        self._settled: list[Settlement] = []
        self._stopping = False
        self._bell = anyio.Event()  # there is room, or something is due
        self._done = anyio.Event()  # something is to be settled
        self._freed = anyio.Event()  # something was
        self._ended = anyio.Event()  # nothing more is taken
        self._caught_up = anyio.Event()  # a look found nothing to take

    def __repr__(self) -> str:
        return f"<Courier sinks={len(self._sinks)} in_hand={len(self._in_hand)}>"

    def ring(self) -> None:
        """Something may be due."""
        self._bell.set()

    def stop(self) -> None:
        """Take what is due now, and nothing more."""
        self._stopping = True
        self._bell.set()

    async def caught_up(self) -> bool:
        """
        Wait until a look that began after this call found nothing that is due; False
        where no more looks are taken.
        """
        if not self._ended.is_set():
            self._caught_up = caught_up = anyio.Event()
            self.ring()
            await caught_up.wait()
        return not self._ended.is_set()

    async def finish(self) -> None:
        """Stop, and wait until what is in hand is settled."""
        self.stop()
        await self._ended.wait()
        while self._in_hand:
            self._freed = anyio.Event()
            await self._freed.wait()

    async def run(self, tasks: TaskGroup) -> None:
        """
        Take and send until stopped; calls are tasks of the session's.

        Raises:
            LeaseLost: the session is over.
        """
        tasks.start_soon(self._settle)
        try:
            await self._look(tasks)
        finally:
            self._ended.set()
            self._caught_up.set()

    async def _look(self, tasks: TaskGroup) -> None:
        doubted = last = False
        while not last:
            last = self._stopping
            self._bell = anyio.Event()
            try:
                if doubted:
                    await self._store.disown_effects(self._worker, [*self._in_hand])
                    doubted = False
                if await self._round(tasks):
                    continue
            except StoreUnavailable as error:
                doubted = doubted or error.in_doubt
            if last or self._stopping:
                continue
            with anyio.move_on_after(self._poll_s * random.uniform(0.6, 1.2)):
                await self._bell.wait()

    async def _round(self, tasks: TaskGroup) -> bool:
        """Take what there is room for; whether there was something."""
        rooms = [
            Room(name, sink.facts.sink_class, room * sink.together)
            for name, sink in self._sinks.items()
            if (room := sink.at_once - self._calls[name]) > 0
        ]
        caught_up = self._caught_up
        self._check_lease()
        # Shielded: a session that ends still knows what it has in hand.
        with anyio.CancelScope(shield=True):
            taken = await self._store.take_effects(self._worker, rooms)
            self._in_hand.update(row.id for row in taken)
        for sink in self._sinks.values():
            mine = [row for row in taken if row.sink == sink.name]
            planned = [row for row in mine if row.state is EffectState.PLANNED]
            for at in range(0, len(planned), sink.together):
                self._start(tasks, sink, planned[at : at + sink.together])
            for row in mine:
                if row.state is not EffectState.PLANNED:
                    self._start(tasks, sink, [row])
        if not taken and len(rooms) == len(self._sinks):
            caught_up.set()
        return bool(taken)

    def _start(self, tasks: TaskGroup, sink: Sink, rows: Sequence[EffectRow]) -> None:
        self._calls[sink.name] += 1
        tasks.start_soon(self._deliver, sink, rows)

    async def _deliver(self, sink: Sink, rows: Sequence[EffectRow]) -> None:
        """One call, and what came of it."""
        try:
            outcomes = await self._called(sink, rows)
        except LeaseLost:
            self._lose()
            return
        finally:
            self._calls[sink.name] -= 1
            self._bell.set()
        for row, outcome in zip(rows, outcomes, strict=True):
            self._settled.append(settlement(row, outcome))
            log.info(
                "effect_answered",
                effect=row.id,
                item=row.item_id,
                sink=row.sink,
                outcome=type(outcome).__name__.lower(),
            )
        self._done.set()

    async def _called(self, sink: Sink, rows: Sequence[EffectRow]) -> list[Outcome]:
        parcels: list[Parcel] = []
        bad: dict[EffectId, Outcome] = {}
        for row in rows:
            try:
                parcels.append(Parcel(row, await self._payload(row)))
            except (WaybillError, OSError) as error:
                bad[row.id] = _later(NotSent(_said(error)))
        said = {p.effect.id: each for p, each in await self._asked(sink, parcels)}
        return [bad.get(row.id) or said[row.id] for row in rows]

    async def _payload(self, row: EffectRow) -> dict[str, object]:
        text = row.payload
        if text is None:
            text = (await self._artifacts.get(row.payload_ref or "")).decode()
        found: dict[str, object] = json.loads(text)
        return found

    async def _asked(
        self, sink: Sink, parcels: Sequence[Parcel]
    ) -> list[tuple[Parcel, Outcome]]:
        if not parcels:
            return []
        self._check_lease()
        begun = asking = parcels[0].effect.state is EffectState.IN_DOUBT
        why = f"SINK_TIMEOUT: no answer within {sink.timeout_s:g} s"
        try:
            with anyio.move_on_after(sink.timeout_s) as scope:

                async def begin() -> None:
                    nonlocal begun
                    if not begun:  # a collection may go in parts
                        await self._begin(parcels)
                        begun = True
                        scope.deadline = anyio.current_time() + sink.timeout_s

                outcomes = (
                    [await sink.ask(parcels[0])]
                    if asking
                    else await sink.send(parcels, begin)
                )
                if not begun:
                    outcomes = [_later(each) for each in outcomes]
                return list(zip(parcels, outcomes, strict=True))
        except LeaseLost:
            raise
        except Exception as error:
            # A receiver's answer, or a sink's own mistake: these effects' trouble, and
            # nobody else's.  No traceback: its last line may quote a document.
            log.error("sink_raised", sink=sink.name, error=type(error).__name__)
            why = _said(error)
        lost: Outcome = Unknown(why) if begun else _later(NotSent(why))
        return [(parcel, lost) for parcel in parcels]

    async def _begin(self, parcels: Sequence[Parcel]) -> None:
        """
        They are `sending` when this returns.

        Raises:
            LeaseLost: nobody is to be called.
            Conflict: one of them is not to be sent any more; those that are come again.
        """
        self._check_lease()
        ids = [parcel.effect.id for parcel in parcels]
        # Shielded: half a commit would be a doubt about what was never sent.
        with anyio.CancelScope(shield=True):
            begun = await self._store.begin_effects(self._worker, ids)
        self._check_lease()  # it took its time: others may have it by now
        if not all(begun):
            raise Conflict("it was called back before it was sent", code="CALLED_BACK")

    async def _settle(self) -> None:
        """Write what became of effects, all that has gathered at once."""
        try:
            while True:
                if not self._settled:
                    self._done = anyio.Event()
                    await self._done.wait()
                with anyio.CancelScope(shield=True):
                    await self._flush()
        finally:
            # A session that ends still writes what it knows.
            if self._settled:
                with anyio.move_on_after(PAUSE_MAX_S, shield=True):
                    await self._flush()

    async def _flush(self) -> None:
        batch, self._settled = self._settled, []
        try:
            await self._store.settle_effects(self._worker, batch)
        except LeaseLost:
            self._lose()
        except StoreUnavailable as error:
            # The lease is the bound: when it is over the store gives them back.
            self._settled = batch + self._settled
            log.warning("effects_wait", code=error.code, effects=len(batch))
            try:
                self._check_lease()
            except LeaseLost:
                return
            await anyio.sleep(random.uniform(0, PAUSE_MAX_S))
            return
        self._in_hand.difference_update(s.id for s in batch)
        self._freed.set()
        self._bell.set()


def settlement(row: EffectRow, outcome: Outcome) -> Settlement:
    """What is written of an effect that was sent, or asked for."""
    state = EffectState
    asked = row.state is state.IN_DOUBT
    ceiling_s = min(AGAIN_MAX_S, AGAIN_S * 2 ** min(row.tries + 1, 20))
    again_s = random.uniform(0, ceiling_s)
    match outcome:
        case Confirmed():
            return Settlement(row.id, state.CONFIRMED, answer=_kept(outcome.answer))
        case Refused():
            return Settlement(row.id, state.REFUSED, why=_cut(outcome.why))
        case Absent():
            why = "NOT_DONE: the receiver knows nothing of it"
            return Settlement(row.id, state.PLANNED, 0.0, why=why)
        case NotSent():
            # Who says when, is asked then: a breaker, a limit, the receiver itself.
            due_s = outcome.after_s * random.uniform(1, 1.2) or again_s
            to = state.IN_DOUBT if asked else state.PLANNED
            return Settlement(row.id, to, due_s, why=_cut(outcome.why))
        case Unknown():
            why = _cut(outcome.why)
        case _:
            assert_never(outcome)
    match row.sink_class:
        case SinkClass.A:
            return Settlement(row.id, state.PLANNED, again_s, why=why, perhaps=True)
        case SinkClass.B:
            return Settlement(row.id, state.IN_DOUBT, again_s, why=why)
        case SinkClass.C:
            return Settlement(row.id, state.IN_DOUBT, why=why)
        case _:
            assert_never(row.sink_class)


def _later(outcome: Outcome) -> Outcome:
    """What was not begun counts no try, so that its wait would never grow."""
    if isinstance(outcome, NotSent) and not outcome.after_s:
        return NotSent(outcome.why, UNBEGUN_S)
    return outcome


def _said(error: Exception) -> str:
    if isinstance(error, OSError):
        error = trouble_of(error) or error
    if isinstance(error, WaybillError):
        return f"{error.code}: {error.message}"
    return f"SINK_RAISED: {type(error).__name__}"


def _cut(why: str) -> str:
    return clean_text(why)[:WHY_CHARS_MAX]


def _kept(answer: Mapping[str, object]) -> str:
    """What the receiver said, as it can be stored."""
    try:
        text = encode(dict(answer))
    except WaybillError:
        return "{}"
    return text if len(text) <= ANSWER_CHARS_MAX else "{}"
