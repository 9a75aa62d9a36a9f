"""The engine in a test: stages made on the spot, a store in memory, virtual time."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import anyio
from pydantic import BaseModel, Field

from loadtest.simulation import wire
from loadtest.simulation.wire import Published, Wire, landed, lost, not_sent
from pipeline.doubles import MemoryArtifacts
from pipeline.folder import Pipeline
from pipeline.model import Advance, Checkpoint, ItemId, State, Submission
from pipeline.run.services import Services
from pipeline.run.session import Session, WorkerSettings
from pipeline.run.worker import Worker
from pipeline.stage import Stage, add, append, merge, stage
from pipeline.store.memory import MemoryStore
from pipeline.store.rows import Origin
from pipeline.vendors.pacing import LimitSpec

__all__ = ["Published", "Wire", "landed", "lost", "not_sent"]

DAY_S = 86400.0
# A machine that is not ours: only its lease can tell that a session is over.
ELSEWHERE = Origin("elsewhere", 1, "1")
LEASE_S = 10.0
LONG_S, LOOK_MAX_S = 900.0, 30.0  # who has waited for so long looks less often
FINAL = (State.DONE, State.REJECTED, State.FAILED, State.CANCELLED)
# Where days pass: looking every half second would cost minutes of real time.
SLOW: dict[str, Any] = {"lease_s": 4 * 3600, "poll_s": 900}


class Letter(BaseModel):
    """State of a test item: a channel of each kind."""

    text: str = ""
    answer: str = ""
    trail: Annotated[list[str], append] = Field(default_factory=list)
    pages: Annotated[dict[str, str], merge] = Field(default_factory=dict)
    pence: Annotated[int, add] = 0
    anything: Any = None
    odd: Annotated[Any, append] = None  # its reducer takes lists alone


class Tape:
    """What stages did: (item, stage, when), as they began, and how many at once."""

    def __init__(self) -> None:
        self.ran: list[tuple[ItemId, str, float]] = []
        self.inside: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.steps: Counter[str] = Counter()

    def stages(self, item: ItemId = 1) -> list[str]:
        return [s for i, s, _ in self.ran if i == item]

    def times(self, item: ItemId = 1) -> list[float]:
        return [at for i, _, at in self.ran if i == item]

    @asynccontextmanager
    async def visit(self, ctx: Any, name: str) -> AsyncIterator[None]:
        self.ran.append((ctx.item.id, name, anyio.current_time()))
        self.inside[name] += 1
        self.most[name] = max(self.most[name], self.inside[name])
        try:
            yield
        finally:
            self.inside[name] -= 1

    def station(
        self,
        name: str,
        run: Callable[[Any, Any], Awaitable[Any]] | None = None,
        *,
        took_s: float = 1.0,
        **policies: Any,
    ) -> Stage:
        """A stage that is on the tape; without `run` it takes `took_s` and advances."""

        async def visited(letter: Letter, ctx: Any) -> Any:
            async with self.visit(ctx, name):
                if run is not None:
                    return await run(letter, ctx)
                await anyio.sleep(took_s)
                return Advance(trail=[name])

        return replace(stage(**policies)(visited), name=name)

    def line(self, *names: str, **policies: Any) -> list[Stage]:
        return [self.station(name, **policies) for name in names]


Branches = Mapping[str, Sequence[Stage]]


def pipeline_of(
    stages: Sequence[Stage],
    limits: Mapping[str, LimitSpec] | None = None,
    branches: Branches | None = None,
) -> Pipeline:
    """A pipeline without a folder."""
    return wire.pipeline_of(Letter, stages, limits, branches)


class FakeJail:
    """Jailed processes that take `took_s`; a cancelled one counts as killed."""

    def __init__(self, took_s: float = 1.0) -> None:
        self.took_s = took_s
        self.started = self.killed = 0
        self.timeouts: list[float] = []
        self.asked: list[tuple[str, Any]] = []

    async def run(
        self,
        fn: Callable[..., Any],
        /,
        *,
        timeout_s: float,
        pool: str = "",
        owner: Any = None,
        **kwargs: Any,
    ) -> Any:
        self.started += 1
        self.timeouts.append(timeout_s)
        self.asked.append((pool, owner))
        try:
            await anyio.sleep(self.took_s)
        except anyio.get_cancelled_exc_class():
            self.killed += 1
            raise
        return fn(**kwargs)

    async def run_files(
        self, fn: Callable[..., Any], /, *, keep: Any, **kwargs: Any
    ) -> tuple[Any, dict[str, str]]:
        """`fn` returns what it answers, and the files it leaves: name -> bytes."""
        answer, left = await self.run(fn, **kwargs)
        return answer, {name: await keep.put(data) for name, data in left.items()}


class Engine:
    """A store, a pipeline and what workers need; sessions come and go."""

    def __init__(
        self,
        stages: Sequence[Stage],
        limits: Mapping[str, LimitSpec] | None = None,
        branches: Branches | None = None,
        **settings: Any,
    ) -> None:
        self.wire = Wire(MemoryStore())
        self.store = self.wire.store
        self.port: Any = self.wire  # what workers are given
        self.pipeline = pipeline_of(stages, limits, branches)
        self.settings = WorkerSettings(**{"lease_s": LEASE_S, **settings})
        self.catalogue: Any = Published()
        self.artifacts = MemoryArtifacts()
        self.jail = FakeJail()
        door: Any = None
        self.services = Services(self.artifacts, self.jail, door, Path("out"))
        self._admitted = 0

    async def submit(
        self,
        count: int = 1,
        *,
        tenant: str = "north",
        deadline_s: float = 7 * DAY_S,
        batch: str = "",
        **facts: Any,
    ) -> list[ItemId]:
        """Admit `count` letters; their batch is named by its deadline."""
        stages = list(self.pipeline.stages)
        number = await self.store.register_pipeline("letters", "1", stages, {})
        self.catalogue.known.setdefault(number, self.pipeline)
        name = batch or f"{deadline_s:g} at {anyio.current_time():g}"
        opened = await self.store.open_batch(tenant, name, deadline_s=deadline_s)
        first = self._admitted
        self._admitted += count
        offered = [
            Submission(f"{n}.png", f"k{n}", f"t{n}", 1, facts)
            for n in range(first, first + count)
        ]
        receipts = await self.store.admit(opened, number, offered)
        return [r.item_id for r in receipts if r.item_id is not None]

    @asynccontextmanager
    async def session(self, **settings: Any) -> AsyncIterator[Session]:
        """
        A session that ends as a killed process does: with the block, its row
        and its items stay behind until somebody reaps them.
        """
        bounds = replace(self.settings, **settings)
        me = await self.store.join(ELSEWHERE, lease_s=bounds.lease_s)
        session = Session(self.port, me, self.catalogue, self.services, bounds)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.run)
            try:
                yield session
            finally:
                session.stop()

    @asynccontextmanager
    async def worker(self, **settings: Any) -> AsyncIterator[Worker]:
        """A worker that leaves in order."""
        bounds = replace(self.settings, **settings)
        worker = Worker(self.port, self.catalogue, self.services, bounds)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.run)
            try:
                yield worker
            finally:
                worker.stop()

    async def bury(self, session: Session) -> None:
        """What the reaper does about a session whose process was killed."""
        await self.store.reap([session.worker], died=True)

    async def finish(
        self,
        items: Sequence[ItemId],
        *,
        within_s: float = 7 * DAY_S,
        every_s: float = 0.25,
    ) -> Counter[str]:
        """
        Until every item is final; how many ended in which state.  They stay final:
        who has waited for long misses nothing by looking less often.
        """
        order = list(items)

        async def over() -> bool:
            # First the one that was not at the last look: mostly it still is not.
            for place, item in enumerate(order):
                if (await self.store.item(item)).state not in FINAL:
                    order.insert(0, order.pop(place))
                    return False
            return True

        await until(over, within_s=within_s, every_s=every_s, at_most_s=LOOK_MAX_S)
        return Counter([(await self.store.item(i)).state.value for i in items])

    async def code(self, item: ItemId = 1) -> str:
        return (await self.store.item(item)).code

    async def state(self, item: ItemId = 1) -> str:
        return (await self.store.item(item)).state.value

    async def letter(self, item: ItemId = 1) -> Any:
        """The item's state, folded from what is stored."""
        updates = []
        for c in await self.history(item):
            if c.step is None:
                text = c.update
                if text is None and c.ref is not None:
                    text = self.artifacts.kept[c.ref].decode()
                updates.append(text or "{}")
        return self.pipeline.channels.fold({}, updates)

    async def history(self, item: ItemId = 1) -> list[Checkpoint]:
        return (await self.store.history([item]))[item]

    async def stages_of(self, item: ItemId = 1) -> list[str]:
        """The stages that left a checkpoint, in order."""
        return [c.stage for c in await self.history(item) if c.step is None]

    async def sound(self) -> bool:
        """The conservation law holds and every item is in one place."""
        counts = await self.store.counts()
        return counts.conserved and await self.store.astray() == []


async def run_all(engine: Engine, count: int = 1) -> None:
    """Submit `count` letters and work until all of them are final."""
    items = await engine.submit(count)
    async with engine.session():
        await engine.finish(items, every_s=5)


async def until(
    true: Callable[[], Awaitable[bool]] | Callable[[], bool],
    *,
    within_s: float = 7 * DAY_S,
    every_s: float = 0.25,
    at_most_s: float = 0.0,
) -> None:
    """
    Until `true()`; in virtual time a look costs no time.  With `at_most_s` it is
    looked less and less often, after a quarter of an hour: those that measure how
    long something took wait for less.
    """
    began = anyio.current_time()
    with anyio.fail_after(within_s):
        while True:
            found = true()
            if inspect.isawaitable(found):
                found = await found
            if found:
                return
            longer_s = anyio.current_time() - began - LONG_S
            await anyio.sleep(max(every_s, min(longer_s / 10, at_most_s)))
