"""
The phases of a scenario, in order: what is dropped in each, and what is done meanwhile.
"""

from __future__ import annotations

import math
import random
import time

import anyio

from loadtest.corpora.many import with_text_chunk
from loadtest.driver.drops import Dropped, Dropper
from loadtest.driver.faults import FAULTS, Ground
from loadtest.driver.kinds import Memory, Phase, Poison, Urgent
from loadtest.driver.scenario import Scenario
from loadtest.hostile import pictures
from loadtest.hostile.files import cut, flipped

TICK_S = 0.5  # between two drops of a phase that drops evenly


class Phases:
    """Plays them; `now` is the name of the one that is played."""

    def __init__(self, on: Ground, dropper: Dropper) -> None:
        self._on = on
        self._dropper = dropper
        self.now = ""

    async def run(self) -> None:
        """All of them, to the end of the last one."""
        scenario = self._on.scenario
        quotas = shares(scenario)
        async with anyio.create_task_group() as tasks:
            named = zip(scenario.phases.items(), quotas, strict=True)
            for (name, phase), quota in named:
                if phase.beside:
                    tasks.start_soon(self._one, phase, name, quota)
                else:
                    await self._one(phase, name, quota)

    async def _one(self, phase: Phase, name: str, quota: int) -> None:
        """A phase lasts its time, and as long as its fault needs."""
        self.now = name
        for_s = self._on.scenario.scaled(phase.for_s)
        end = anyio.current_time() + for_s
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._drop, phase, name, quota, for_s)
            match phase:
                case Poison():
                    tasks.start_soon(self._poison, phase, name)
                case Memory():
                    tasks.start_soon(self._memory, phase, name)
                case _:
                    if (fault := FAULTS.get(type(phase))) is not None:
                        tasks.start_soon(fault, self._on, phase, for_s)
        await anyio.sleep(max(0.0, end - anyio.current_time()))

    async def _drop(self, phase: Phase, name: str, quota: int, for_s: float) -> None:
        """Its share of the items, evenly or at once."""
        scenario = self._on.scenario
        due_s = scenario.scaled(phase.deadline_s or scenario.deadline_s)
        due = time.time() + due_s
        urgent = isinstance(phase, Urgent)
        ticks = 1 if phase.at_once or urgent else max(1, math.floor(for_s / TICK_S))
        began = anyio.current_time()
        gone = 0
        for tick in range(1, ticks + 1):
            upto = quota * tick // ticks
            if upto > gone:
                await self._dropper.drop(
                    upto - gone,
                    batch=name,
                    tenant=phase.tenant,
                    due=due,
                    urgent=urgent,
                    expect="any" if phase.overloads else "",
                )
                gone = upto
            if tick < ticks:
                nap_s = began + tick * for_s / ticks - anyio.current_time()
                await anyio.sleep(max(0.0, nap_s))

    async def _poison(self, phase: Poison, name: str) -> None:
        rng = random.Random(f"poison:{self._on.scenario.seed}")
        made = [*cut(), *flipped(rng), *pictures.png_lies(), *pictures.tiff_lies()]
        docs = [Dropped(n, data, "any") for n, data in rng.sample(made, phase.times)]
        with self._on.it.run.fault("poison", f"{len(docs)} documents"):
            await self._dropper.odd(docs, batch=name, due=self._due())

    async def _memory(self, phase: Memory, name: str) -> None:
        data = await anyio.to_thread.run_sync(pictures.vast)
        docs = [
            Dropped(f"vast-{n}.png", with_text_chunk(data, b"%d" % n), "any")
            for n in range(phase.times)
        ]
        with self._on.it.run.fault("memory", f"{len(docs)} documents"):
            await self._dropper.odd(docs, batch=name, due=self._due())

    def _due(self) -> float:
        scenario = self._on.scenario
        return time.time() + scenario.scaled(scenario.deadline_s)


def shares(scenario: Scenario) -> list[int]:
    """How many items each phase drops: all of them together, to the last one."""
    found: list[int] = []
    share, gone = 0.0, 0
    for phase in scenario.phase:
        share += phase.share
        upto = round(scenario.items * min(1.0, share))
        found.append(upto - gone + phase.count)
        gone = upto
    return found
