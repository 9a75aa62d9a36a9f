"""A stage that is declared to do with less does so when time or money is short."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import anyio

from pipeline.bound import Degraded
from pipeline.calls import Budget, WhenUsedUp
from pipeline.errors import BudgetUsedUp, Transient
from pipeline.model import Advance, ItemId
from pipeline.stage import Retry, Settings
from tests.unit.engine import Engine, Tape, until


class Model(Settings):
    """Which of two does the work."""

    model: str = "large"


class Writing:
    """A stage whose `[stage.write.degraded]` names a smaller model."""

    def __init__(self, **budget: Any) -> None:
        self.used: list[tuple[str, bool]] = []
        self.raises: list[BaseException] = []
        tape = Tape()
        retry = Retry(attempts=5, base_s=1)
        self.engine = Engine([tape.station("write", self.run, retry=retry)])
        pipeline = self.engine.pipeline
        bound = replace(
            pipeline.stages["write"],
            settings=Model(),
            degraded=Degraded(Model(model="small"), when_left_s=3600),
        )
        self.engine.pipeline = replace(
            pipeline, stages={"write": bound}, budget=Budget(**budget)
        )

    async def run(self, letter: Any, ctx: Any) -> Advance:
        self.used.append((ctx.settings.model, ctx.degraded))
        if self.raises:
            raise self.raises.pop(0)
        return Advance(trail=[ctx.settings.model])

    async def one(self, deadline_s: float) -> ItemId:
        [item] = await self.engine.submit(deadline_s=deadline_s)
        async with self.engine.session():
            await self.engine.finish([item])
        return item

    async def recorded(self, item: ItemId) -> list[str]:
        history = await self.engine.store.history([item])
        return [f"{c.stage}/{c.step} {c.update}" for c in history[item]]


async def test_with_time_left_nothing_is_degraded() -> None:
    """And nothing is said of it."""
    w = Writing()

    item = await w.one(deadline_s=2 * 3600)

    assert w.used == [("large", False)]
    assert not any("degraded" in line for line in await w.recorded(item))


async def test_near_its_deadline_a_stage_does_with_less_and_it_is_on_record() -> None:
    """The step says why, for whoever looks at the item."""
    w = Writing()

    item = await w.one(deadline_s=1800)

    assert w.used == [("small", True)]
    assert 'write/degraded "time"' in await w.recorded(item)


async def test_what_was_degraded_once_stays_so() -> None:
    """A retry that found more time would mix the work of two models."""
    w = Writing()
    w.raises = [Transient("busy", code="BUSY")]
    [item] = await w.engine.submit(deadline_s=1800)
    async with w.engine.session():
        await until(lambda: bool(w.used), within_s=60)
        stages = w.engine.pipeline.stages
        less = Degraded(Model(model="small"), when_left_s=1)  # time is no reason now
        stages["write"] = replace(stages["write"], degraded=less)
        await w.engine.finish([item])

    assert w.used == [("small", True), ("small", True)]


async def test_when_no_budget_pays_a_stage_does_with_less() -> None:
    """In the same try, also where its steps ran beside each other."""
    w = Writing(when_used_up=WhenUsedUp.DEGRADE)
    w.raises = [BaseExceptionGroup("two", [BudgetUsedUp("no"), BudgetUsedUp("no")])]

    item = await w.one(deadline_s=7200)

    assert w.used == [("large", False), ("small", True)]
    assert 'write/degraded "money"' in await w.recorded(item)
    assert await w.engine.store.failures(item) == []


async def test_whose_policy_is_to_wait_does_not_do_with_less() -> None:
    """The declared variant is for time alone there."""
    w = Writing(when_used_up=WhenUsedUp.WAIT)
    w.raises = [BudgetUsedUp("no")]
    [item] = await w.engine.submit(deadline_s=7200)
    async with w.engine.session():
        with anyio.move_on_after(20):
            await w.engine.finish([item])

    assert w.used[0] == ("large", False)
    assert ("small", True) not in w.used
