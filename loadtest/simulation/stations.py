"""
What an item meets at each stage, drawn from the seed and the item's number, and what
must hold whenever a stage or a step begins.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import anyio
import trio
from pydantic import BaseModel, Field

from loadtest.simulation.faults import WHO, SeededStore
from loadtest.simulation.receivers import Receiver
from pipeline.errors import Permanent, Throttled, Transient
from pipeline.model import Advance, Hold, ItemId, Reject, State, Wait
from pipeline.parts import Part
from pipeline.stage import Retry, Stage, append, stage
from pipeline.vendors.pacing import LimitSpec

STAGES = ("read", "judge", "write")
FINAL = (State.DONE, State.REJECTED, State.FAILED, State.CANCELLED)
TRIES = 4
TIMEOUT_S = 4.0
RAISES: dict[str, Callable[[], BaseException]] = {
    "transient": lambda: Transient("503"),
    "permanent": lambda: Permanent("never", code="NEVER"),
    "bug": lambda: KeyError("a bug"),
}
RATE = LimitSpec(rate=6, per_s=2.0, concurrency=3)
# What a stage does at first, so many times; then it goes on.
NATURES = {
    "plain": 12,
    "transient": 3,
    "throttled": 2,
    "hangs": 1,
    "bug": 1,
    "permanent": 1,
    "rejects": 1,
    "holds": 2,
    "asks": 1,
    "waits": 1,
    "family": 1,
}


class Sheet(BaseModel):
    """State of an item: what each stage and person wrote, in order."""

    trail: Annotated[list[str], append] = Field(default_factory=list)


@dataclass(frozen=True)
class Nature:
    """What one item meets at one stage."""

    kind: str
    times: int
    took_s: float
    steps: int


@dataclass
class Books:
    """
    What happened, as the world saw it.

    Attributes:
        broken: (number of the promise, what was seen), as it happened.
        answered: What `cancel` answered, by item.
        again: From which sequence an item that a person retried begins anew.
        retried: Items that a person put back in line.
        calls: When each try of the limited stage began.
    """

    broken: list[tuple[str, str]] = field(default_factory=list)
    answered: dict[ItemId, str] = field(default_factory=dict)
    again: dict[ItemId, int] = field(default_factory=dict)
    retried: Counter[ItemId] = field(default_factory=Counter)
    rejected: set[ItemId] = field(default_factory=set)
    ruled: Counter[int] = field(default_factory=Counter)
    tries: Counter[tuple[ItemId, str]] = field(default_factory=Counter)
    calls: list[float] = field(default_factory=list)
    met: Counter[str] = field(default_factory=Counter)

    def breach(self, promise: str, what: str) -> None:
        """A promise is broken."""
        self.broken.append((promise, what))


class Stations:
    """The stages of one history, and its books."""

    def __init__(
        self, seed: int, store: SeededStore, receivers: Sequence[Receiver]
    ) -> None:
        self.seed = seed
        self.rng = random.Random(f"{seed} stages")
        self.store = store
        self.books = Books()
        self.receivers = receivers
        self.token = 0

    # -- stages --------------------------------------------------------------------

    def station(self, name: str) -> Stage:
        """One of the stages."""

        async def visit(sheet: Sheet, ctx: Any) -> Any:
            return await self._visit(name, sheet, ctx)

        policies = stage(
            timeout_s=TIMEOUT_S,
            retry=Retry(attempts=TRIES, base_s=1, cap_s=2),
            window=20,
            limit="rate" if name == "judge" else None,
        )
        return replace(policies(visit), name=name)

    def nature(self, item: ItemId, name: str) -> Nature:
        """What this item meets at this stage: the same whoever asks."""
        rng = random.Random(f"{self.seed} {item} {name}")
        kinds = dict(NATURES)
        if self.store.is_child(item):
            del kinds["family"]
        if name == STAGES[-1]:
            kinds.pop("holds", None)  # effects stand with an Advance
        [kind] = rng.choices(list(kinds), list(kinds.values()))
        took_s = rng.choice((0.0, rng.uniform(0, 1), rng.uniform(0, 3.9)))
        return Nature(kind, rng.choice((1, 1, 2, TRIES)), took_s, rng.choice((0, 0, 2)))

    async def _visit(self, name: str, sheet: Sheet, ctx: Any) -> Any:
        item = ctx.item.id
        self._began(item, name, sheet)
        self.books.tries[item, name] += 1
        tried = self.books.tries[item, name]
        nature = self.nature(item, name)
        for n in range(nature.steps):
            await self._step(ctx, name, f"step-{n}")
        await trio.sleep(nature.took_s)
        if nature.kind == "family":
            self.books.met["stage_family"] += 1
            await self._raise_family(ctx)
        elif tried <= nature.times:
            early = await self._misbehave(nature.kind, sheet, name)
            if early is not None:
                return early
        if name == STAGES[-1]:
            for receiver in self.receivers:
                await ctx.effect("tell", receiver.name, {"item": item})
        return Advance(trail=[self.drawn(name)])

    def drawn(self, name: str) -> str:
        """A result that nobody else has."""
        self.token += 1
        return f"{name}-{self.token}"

    async def _misbehave(self, kind: str, sheet: Sheet, name: str) -> Any:
        self.books.met[f"stage_{kind}"] += 1
        if kind in RAISES:
            raise RAISES[kind]()
        if kind == "throttled":
            raise Throttled("slow down", retry_after_s=self.rng.uniform(0.5, 3))
        if kind == "hangs":
            await trio.sleep_forever()
        if kind == "rejects":
            return Reject("NOT_OURS")
        if kind == "holds":
            return Hold("LOOK", "a person must see it", trail=[self.drawn(name)])
        if kind == "asks":
            asked = any(t.startswith(f"answer-{name}") for t in sheet.trail)
            return None if asked else Hold("ASK", "a person knows", ask=("trail",))
        return Wait(self.rng.uniform(0.5, 6)) if kind == "waits" else None

    async def _raise_family(self, ctx: Any) -> None:
        await ctx.spawn([Part(f"part-{n}", {"of": ctx.item.id}) for n in range(2)])
        await ctx.join()

    async def _step(self, ctx: Any, stage_name: str, step: str) -> None:
        item = ctx.item.id

        async def make() -> str:
            self._mine(item, f"{stage_name}/{step}")
            if (stage_name, step) in self._results(item):
                self.books.breach("I9", f"item {item}: {stage_name}/{step} ran again")
            await trio.sleep(self.rng.choice((0.0, self.rng.uniform(0, 1))))
            return self.drawn(step)

        got = await ctx.step(step, make)
        if self._results(item).get((stage_name, step)) != got:
            self.books.breach("I9", f"item {item}: {stage_name}/{step} is not {got}")

    def _results(self, item: ItemId) -> dict[tuple[str, str], Any]:
        kept = self.store.kept(item)
        return {
            (c.stage, c.step): json.loads(c.update or "null") for c in kept if c.step
        }

    # -- what holds whenever a stage begins ------------------------------------------

    def _began(self, item: ItemId, name: str, sheet: Sheet) -> None:
        books, kept = self.books, self.store.kept(item)
        self._mine(item, name)
        since = books.again.get(item, 0)
        done = [c for c in kept if c.step is None and c.next_stage is not None]
        if any(
            c.stage == name and c.next_stage != name and c.seq >= since for c in done
        ):
            books.breach("I9", f"item {item}: {name} began again, it was finished")
        if anyio.current_time() > self.store.deadline(item) + 1e-6:
            books.breach("I11", f"item {item}: {name} began after its deadline")
        wrote = [
            json.loads(c.update).get("trail", [])
            for c in kept
            if not c.step and c.update
        ]
        if sheet.trail != [token for tokens in wrote for token in tokens]:
            books.breach("I9", f"item {item}: {name} saw {sheet.trail}, not {wrote}")
        if name == "judge":
            books.calls.append(anyio.current_time())

    def _mine(self, item: ItemId, what: str) -> None:
        """Whoever works on an item has it by the store, now, and is alive."""
        process = WHO.get()
        owner = self.store.owner(item)
        if owner not in process.sessions_of_it:
            self.books.breach("I4", f"item {item}: {what} by another than its owner")
        elif not self.store.has_lease(owner):
            self.books.breach("I6", f"item {item}: {what} after the lease")
