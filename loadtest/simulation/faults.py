"""
What befalls one worker process: its way to the store, drawn from a seed.

A process that is killed writes nothing more, but what it had sent may still arrive:
a COMMIT whose answer nobody hears, also after its worker was replaced.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from typing import Any
from uuid import UUID

import anyio
import anyio.lowlevel
import trio

from loadtest.simulation.wire import Call, Fault, Wire, landed, lost, not_sent
from pipeline.errors import LeaseLost, StoreUnavailable, WaybillError
from pipeline.model import Checkpoint, Finish, ItemId, WorkerId
from pipeline.outbox import EffectState
from pipeline.run.origin import here, origin
from pipeline.store.effects import EffectRow
from pipeline.store.memory import MemoryStore
from pipeline.store.rows import Origin, WorkerRow
from pipeline.store.strikes import Blame

LEASE_S = 5.0
# No process has this id: 4194304 is the most that Linux gives.
NO_PID = 1 << 22
LOCKED_MAX_S = 2.5  # less than the 4 s after which PostgreSQL gives up a wait
# What waits for the rows, or for the worker's row, that a COMMIT under way has locked.
# A claim passes over them, a renewal changes no key, and readers see what was before.
LANDING = ("commit", "claim")
WAITING = ("commit", "reap", "leave", "disown")

# Where a process is killed by name: before or after a call of the store.
POINTS = tuple(
    f"{when} {method}"
    for method in (
        *("join", "renew", "sessions", "reap", "leave", "lines", "claim", "disown"),
        *("history", "commit", "recorded", "owns", "wake", "suspects", "weights"),
        *("pipeline", "lease_limits", "kin", "open_children", "result_of"),
        *("take_effects", "begin_effects", "settle_effects"),
    )
    for when in ("before", "after")
)

WHO: ContextVar[Process] = ContextVar("WHO")  # whose code runs


class SeededStore(MemoryStore):
    """
    The store in memory, with ids from the seed and a book of how workers ended.

    Attributes:
        deaths: How often an item's worker died, or was lost, while it had the item.
        known_dead: Processes that others can see to be dead.
    """

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self._rng = rng
        self.deaths: Counter[ItemId] = Counter()
        self.known_dead: set[Origin] = set()
        self._landing: list[trio.Event] = []

    async def join(self, origin: Origin, *, lease_s: float) -> WorkerId:
        drawn = await super().join(origin, lease_s=lease_s)
        worker = UUID(int=self._rng.getrandbits(128), version=4)
        self._workers[worker] = self._workers.pop(drawn)
        return worker

    def lock(self) -> Callable[[], None]:
        """Whoever writes waits until what it returns is called."""
        event = trio.Event()
        self._landing.append(event)

        def done() -> None:
            self._landing.remove(event)
            event.set()

        return done

    async def unlocked(self) -> None:
        """Until no COMMIT is under way."""
        while self._landing:
            await self._landing[0].wait()

    async def reap(self, workers: Sequence[WorkerId], *, died: bool) -> int:
        self._mourn(w for w in workers if w in self._workers)
        return await super().reap(workers, died=died)

    async def leave(
        self, worker: WorkerId, *, died: bool = False, blamed: Blame | None = None
    ) -> int:
        self._mourn([worker] if died else [])
        return await super().leave(worker, died=died, blamed=blamed)

    # -- what the world's books are held against -------------------------------------

    def kept(self, item: ItemId) -> list[Checkpoint]:
        """Every checkpoint of an item."""
        return self._items[item].checkpoints

    def is_child(self, item: ItemId) -> bool:
        """Whether it was found in another."""
        return self._items[item].parent is not None

    def deadline(self, item: ItemId) -> float:
        """When it must be done, on the clock."""
        return self._items[item].deadline

    def owner(self, item: ItemId) -> WorkerId | None:
        """The session that has it."""
        place = self._running.get(item)
        return None if place is None else place.worker

    def has_lease(self, worker: WorkerId) -> bool:
        """Whether this session may still write."""
        row = self._workers.get(worker)
        return row is not None and row.lease_until > self.now()

    def sessions_left(self) -> list[WorkerId]:
        """Sessions whose row is there and whose lease runs."""
        return [w for w in self._workers if self.has_lease(w)]

    def everything(self) -> list[ItemId]:
        """Every item there is, children too."""
        return list(self._items)

    def end(self, item: ItemId) -> tuple[Finish, float] | None:
        """How and when it ended."""
        return self._outcomes.get(item)

    def open_effects(self) -> list[EffectRow]:
        """Effects of which something is still to come without a person."""
        open_states = (EffectState.PLANNED, EffectState.SENDING)
        return [
            e
            for e in self._effects.values()
            if not self._cancelled(e) and (e.state in open_states or e.due_at)
        ]

    def every_effect(self) -> list[EffectRow]:
        """All of the ledger."""
        return list(self._effects.values())

    def _mourn(self, workers: Any) -> None:
        gone = set(workers)
        self.deaths.update(i for i, p in self._running.items() if p.worker in gone)


class Process(Wire):
    """
    One worker process as the store sees it.

    Attributes:
        near: On the machine of the others: they see at once when it is dead.
        sessions_of_it: The sessions it opened.
        faults_on: Whether calls of the store may fail.
        on_death: Called when it dies at a crash point.
    """

    def __init__(
        self, store: SeededStore, number: int, rng: random.Random, tasks: trio.Nursery
    ) -> None:
        super().__init__(store)
        self.store: SeededStore = store
        self.near = rng.random() < 0.5
        self.number = number
        self.dead = False
        self.faults_on = True
        self.sessions_of_it: set[WorkerId] = set()
        self.met: Counter[str] = Counter()
        self.on_death: Callable[[], None] = lambda: None
        self._point = rng.choice(POINTS) if rng.random() < 0.5 else ""
        self._passes = rng.choice((0, 0, 1, 3))  # so often it gets past that point
        self._rng = rng
        self._tasks = tasks
        self._us = origin()
        self._origin = Origin(f"host-{number}", NO_PID + number, "1")

    @property
    def away(self) -> bool:
        """Whether it cannot reach the store now."""
        return anyio.current_time() < self.away_until

    def die(self) -> None:
        """What it did not send yet is never sent."""
        self.dead = True
        if self.near:
            self.store.known_dead.add(self._origin)

    async def join(self, _: Origin, *, lease_s: float) -> WorkerId:
        """As a process of its own, although all of them are this one."""
        worker: WorkerId = await self._through("join", self._origin, lease_s=lease_s)
        self.sessions_of_it.add(worker)
        return worker

    async def sessions(self) -> list[WorkerRow]:
        """Itself as this process, and the dead of its machine as dead."""
        rows: list[WorkerRow] = await self._through("sessions")
        return [r._replace(origin=self._seen(r.origin)) for r in rows]

    def _seen(self, other: Origin) -> Origin:
        if other == self._origin:
            return self._us
        if other in self.store.known_dead:
            return Origin(here(), other.pid, other.born)
        return other

    async def _through(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return await self.__getattr__(name)(*args, **kwargs)

    def fault(self, method: str) -> Fault | None:
        """What becomes of this call."""
        drawn = self._drawn(method)
        if self.faults_on and not self.dead and self._point.endswith(f" {method}"):
            if not self._passes:
                drawn = self._crash
            self._passes -= 1
        if method not in WAITING:
            return drawn

        async def waits(call: Call) -> Any:
            await self.store.unlocked()
            return await (drawn(call) if drawn else call())

        return waits

    def _drawn(self, method: str) -> Fault | None:
        if self.dead:
            return self._after_death
        if self.away:
            return self._hangs
        if not self.faults_on:
            return None
        drawn = self._rng.random()
        for chance, name, fault in FAULTS:
            if drawn < chance:
                if name == "lands_later" and method not in LANDING:
                    return lost
                self.met[name] += 1
                return fault if fault else getattr(self, f"_{name}")
            drawn -= chance
        return None

    async def _crash(self, call: Call) -> Any:
        """Killed at its crash point."""
        if self._point.startswith("after"):
            with suppress(WaybillError):
                await call()
        if not self.dead:
            self.met[f"killed {self._point}"] += 1
            self.die()
            self.on_death()
        return await self._after_death(call)

    async def _after_death(self, call: Call) -> Any:
        await anyio.lowlevel.checkpoint()
        raise LeaseLost("killed")

    async def _hangs(self, call: Call) -> Any:
        """The network is gone; what was sent may arrive when it is back."""
        await anyio.sleep_until(self.away_until)
        if self._rng.random() < 0.5:
            return await self._late_answer(call)
        raise StoreUnavailable("no answer", in_doubt=True)

    async def _slow(self, call: Call) -> Any:
        await anyio.sleep(self._rng.expovariate(2.0))
        return await self._late_answer(call)

    async def _late_answer(self, call: Call) -> Any:
        result = await call()
        await anyio.sleep(self._rng.expovariate(4.0))
        if self.dead:
            raise LeaseLost("killed")
        return result

    async def _lands_later(self, call: Call) -> Any:
        """No answer: its COMMIT is under way, and holds its locks until it is done."""
        late_s = min(self._rng.expovariate(1.0), LOCKED_MAX_S)
        done = self.store.lock()

        async def land() -> None:
            await anyio.sleep(late_s)
            with suppress(WaybillError):  # nobody is there to hear it
                await call()
            done()

        self._tasks.start_soon(land)
        await anyio.lowlevel.checkpoint()
        raise StoreUnavailable("no answer", in_doubt=True)


# Shares of all calls.  Arbitrary: about every tenth call meets something.
FAULTS: tuple[tuple[float, str, Fault | None], ...] = (
    (0.015, "not_sent", not_sent),
    (0.015, "lost", lost),
    (0.02, "landed", landed),
    (0.03, "lands_later", None),
    (0.04, "slow", None),
)
