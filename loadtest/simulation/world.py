"""
One history: items, stages that misbehave, people, and workers that are killed.

What an item meets at each stage is drawn from the seed and the item's number, and so
is what everybody does and when.  The world keeps books of its own: what ran, what
people heard, what receivers did.  `checks.py` holds the store to them.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import trio

from loadtest.simulation.faults import LEASE_S, WHO, Process, SeededStore
from loadtest.simulation.receivers import Receiver
from loadtest.simulation.stations import RATE, STAGES, Sheet, Stations
from loadtest.simulation.wire import Published, pipeline_of
from pipeline.doubles import MemoryArtifacts
from pipeline.errors import Conflict, LeaseLost
from pipeline.holds.ruling import ruling
from pipeline.model import ItemId, Submission, WorkerId
from pipeline.outbox import SinkClass
from pipeline.run.services import Services
from pipeline.run.session import WorkerSettings
from pipeline.run.worker import Worker

SHORTEST_S, LONGEST_S = 12.0, 300.0  # of deadlines


class World:
    """One history of a seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = random.Random(f"{seed}")
        self.store = SeededStore(random.Random(f"{seed} ids"))
        self.items: list[ItemId] = []
        self.faults_until = self.rng.uniform(3, 12)
        # In every second history: couriers that ask for work make it twice as long.
        classes = self.rng.choice((tuple(SinkClass), ()))
        self.receivers = [
            Receiver(f"sink-{c.value}", c, random.Random(f"{seed} {c}"))
            for c in classes
        ]
        self.stations = Stations(seed, self.store, self.receivers)
        self.books = self.stations.books
        line = [self.stations.station(name) for name in STAGES]
        self.pipeline = pipeline_of(Sheet, line, {"rate": RATE})
        self.published = Published()
        self.quiet = trio.Event()  # faults are over
        self.over = trio.Event()
        self.ended_s = 0.0
        self.left: set[WorkerId] = set()  # sessions of processes that ended in order

    # -- who comes and goes ----------------------------------------------------------

    async def play(self) -> None:
        """From the first file to the last end; what is broken stands in the books."""
        async with trio.open_nursery() as late:
            await self._admit(self.rng.randint(1, 3))
            async with trio.open_nursery() as tasks:
                for slot in range(self.rng.choice((1, 1, 2, 2, 3))):
                    tasks.start_soon(self._slot, slot, late)
                for name in ("ann", "ben"):
                    tasks.start_soon(self._reviewer, name)
                tasks.start_soon(self._people)
                await trio.sleep_until(self.faults_until)
                self.quiet.set()
                for receiver in self.receivers:
                    receiver.faults_on = False
                await self._settled()
                self.over.set()
            late.cancel_scope.cancel()

    async def _admit(self, count: int) -> None:
        store = self.store
        number = await store.register_pipeline("letters", "1", list(STAGES), {})
        self.published.known[number] = self.pipeline
        tenant = self.rng.choice(("north", "south"))
        within_s = self.rng.uniform(SHORTEST_S, LONGEST_S)
        batch = await store.open_batch(tenant, f"b{count}", deadline_s=within_s)
        first = len(self.items)
        offered = [
            Submission(f"{n}.png", f"k{n}", f"t{n}", 1, {})
            for n in range(first, first + count)
        ]
        receipts = await store.admit(batch, number, offered)
        self.items += [r.item_id for r in receipts if r.item_id is not None]

    async def _slot(self, slot: int, late: trio.Nursery) -> None:
        """A place for a process: one after the other, killed now and then."""
        number = slot
        while not self.over.is_set():
            seed = f"{self.seed} process {number}"
            process = Process(self.store, number, random.Random(seed), late)
            WHO.set(process)
            await self._process(process)
            self.books.met.update(process.met)
            number += 10
            with trio.move_on_after(
                0.1 if self.quiet.is_set() else self.rng.uniform(0, 4)
            ):
                await self.over.wait()

    async def _process(self, process: Process) -> None:
        sinks = {r.name: r for r in self.receivers}
        services = Services(
            MemoryArtifacts(),
            None,  # type: ignore[arg-type]  # no stage here runs anything jailed
            None,  # type: ignore[arg-type]  # nor calls a vendor
            Path("out"),
            sinks={r.name: r.facts for r in self.receivers},
            open_sinks=lambda _: sinks,
        )
        settings = WorkerSettings(
            lease_s=LEASE_S, items_max=self.rng.choice((2, 20)), drain_s=5, poll_s=2.0
        )
        port: Any = process
        worker = Worker(port, self.published, services, settings)  # type: ignore[arg-type]
        async with trio.open_nursery() as life:
            process.on_death = life.cancel_scope.cancel
            life.start_soon(self._fate, process, worker, life)
            try:
                await worker.run()
                self.left |= process.sessions_of_it if not process.away else set()
            except* LeaseLost:
                pass  # killed: nobody hears it
            life.cancel_scope.cancel()

    async def _fate(self, process: Process, worker: Worker, life: trio.Nursery) -> None:
        """What comes to a process, until the faults are over."""
        while not self.quiet.is_set():
            with trio.move_on_after(self.rng.expovariate(1 / 4)):
                await self.quiet.wait()
            if self.quiet.is_set():
                break
            what = self.rng.choices(("kill", "cut", "drain", "stop"), (5, 3, 1, 1))[0]
            self.books.met[what] += 1
            if what == "cut":
                for_s = self.rng.choice((1.0, LEASE_S * 0.7, LEASE_S * 2))
                process.away_until = anyio.current_time() + for_s
            elif what == "kill":
                process.die()
                life.cancel_scope.cancel()
                return
            else:
                worker.drain() if what == "drain" else worker.stop()
                return
        process.faults_on = False
        await self.over.wait()
        worker.drain()

    async def _people(self) -> None:
        """Files that come late, and whoever cancels and retries."""
        store, books = self.store, self.books
        while not self.quiet.is_set():
            with trio.move_on_after(self.rng.expovariate(1 / 4)):
                await self.quiet.wait()
            what = self.rng.choice(("cancel", "retry", "retry", "admit"))
            item = self.rng.choice(self.items)
            if what == "admit" and len(self.items) < 5:
                await self._admit(1)
            elif what == "cancel" and self.rng.random() < 0.5:
                said = (await store.cancel([item], "ann"))[item]
                if said != "final":
                    books.answered[item] = said
            elif what == "retry" and item not in books.answered:
                await self._retry(item)

    async def _retry(self, item: ItemId) -> None:
        if (await self.store.retry([item], "ann"))[item] == "ready":
            self.books.again[item] = len(self.store.kept(item))
            self.books.retried[item] += 1
            self.books.rejected.discard(item)
            self.store.deaths[item] = 0

    async def _reviewer(self, name: str) -> None:
        """Rules on what is held, sometimes on what another has ruled on."""
        rng = random.Random(f"{self.seed} {name}")
        while not self.over.is_set():
            with trio.move_on_after(rng.uniform(1, 6)):
                await self.over.wait()
            held = await self.store.holds()
            for hold in held[:2]:
                await trio.sleep(rng.uniform(0, 1))
                edits = {}
                if hold.needs:
                    edits = {
                        "trail": [f"answer-{hold.stage}-{self.stations.drawn(name)}"]
                    }
                verb = "edit" if edits else rng.choice(("approve", "approve", "reject"))
                no = verb == "reject"
                try:
                    await self.store.decide(
                        hold.id,
                        verb=verb,
                        author=name,
                        reason="because",
                        digest=hold.digest,
                        update=None if no else ruling(hold, self.pipeline, edits),
                    )
                except Conflict:
                    self.books.met["conflict"] += 1
                    continue
                self.books.ruled[hold.id] += 1
                if no:
                    self.books.rejected.add(hold.item_id)

    # -- the end ---------------------------------------------------------------------

    async def _settled(self) -> None:
        """Until nothing is under way, at most so long after the faults."""
        with trio.move_on_after(SETTLE_S) as patience:
            while self._open() or self.store.open_effects():  # noqa: ASYNC110
                await trio.sleep(1.0)
        if patience.cancelled_caught:
            left = f"items {self._open()}, effects {self.store.open_effects()}"
            self.books.breach("I22", f"{SETTLE_S:g} s after the faults: {left}")

    def counted(self) -> dict[str, int]:
        """How the items ended, and what became of effects."""
        ends = [self.store.end(i) for i in self.store.everything()]
        found = Counter(f"item_{end[0].state.value}" for end in ends if end)
        found.update(f"effect_{e.state.value}" for e in self.store.every_effect())
        return dict(found)

    def _open(self) -> list[ItemId]:
        return [i for i in self.store.everything() if self.store.end(i) is None]


# The longest deadline, and what a receiver may take after it.
SETTLE_S = LONGEST_S + 200
