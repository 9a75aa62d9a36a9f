"""
An item's stay in a worker: what is known of it there, and who records for it.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import anyio

from pipeline.calls import Settled
from pipeline.errors import Permanent, StoreUnavailable
from pipeline.folder import Pipeline
from pipeline.model import Checkpoint, Claim, Item, Product, Progress, Spawn
from pipeline.outbox import Planned
from pipeline.purse import Draw
from pipeline.run.outside import Outside
from pipeline.run.services import Services
from pipeline.signals import Ask
from pipeline.state import encode, result_adapter
from pipeline.store.port import WorkStore

T = TypeVar("T")

# What a call's failed tries are recorded as, beside its step.
_TRY = re.compile(r"/try-[0-9]+\Z")


class Parked(BaseException):
    """
    The item waits, for its children or for signals: its stage ends here and runs again
    later.

    No error, so that nobody who catches errors catches it.
    """


class Abandoned(Exception):  # no error: it was seen to already
    """This try did not end, and the item has gone on without it."""


@dataclass(slots=True)
class Run:
    """One item in this worker."""

    claim: Claim
    pipeline: Pipeline
    stage: str
    seq: int
    attempt: int
    state: Any
    deadline: float  # on anyio's clock
    memo: dict[tuple[str, str], str] = field(default_factory=dict)
    scope: anyio.CancelScope | None = None
    cancelled: bool = False
    late_s: float = 0.0  # since the stage it is in was to end
    abandoned: bool = False  # the item has gone on without this task
    products: dict[str, Product] = field(default_factory=dict)  # of this attempt
    effects: dict[str, Planned] = field(default_factory=dict)  # likewise
    loaded: int = 0  # bytes of its state and steps, as text
    unfolded: list[str] | None = None  # what its state is yet to be made of
    asks: dict[str, Ask] = field(default_factory=dict)  # of this attempt
    joins: bool = False  # this attempt waits for the item's children
    # Steps of this attempt that have begun and not ended.
    under_way: set[tuple[str, str]] = field(default_factory=set)
    in_line: int = 0  # calls of this attempt that wait for leave to begin
    kept_s: float = 0.0  # of its stage's time, until none does any more

    @property
    def item(self) -> Item:
        return self.claim.item

    def left_s(self) -> float:
        """Of the time of the stage it is in; infinite outside of one."""
        if self.in_line:
            return self.kept_s
        scope = self.scope
        return math.inf if scope is None else scope.deadline - anyio.current_time()

    @contextmanager
    def standing(self) -> Iterator[None]:
        """
        A call stands in line: that is not its stage's time, however long it takes.

        Of several that do so beside each other it is kept until the last has left.
        """
        scope = self.scope
        if scope is None:
            yield
            return
        if not self.in_line:
            self.kept_s = self.left_s()
            scope.deadline = max(scope.deadline, self.deadline)
        self.in_line += 1
        try:
            yield
        finally:
            self.in_line -= 1
            if not self.in_line and scope is self.scope:
                until = anyio.current_time() + self.kept_s
                scope.deadline = min(until, self.deadline)

    def take_products(self) -> tuple[Product, ...]:
        """What the stage made, for the entry that records its outcome."""
        if not self.products:
            return ()
        made = tuple(self.products.values())
        self.products.clear()
        return made

    def take_effects(self) -> tuple[Planned, ...]:
        """What the stage planned to have done outside, likewise."""
        if not self.effects:
            return ()
        planned = tuple(self.effects.values())
        self.effects.clear()
        return planned


class StepRecorder(Protocol):
    """What makes a step's result durable, while the lease holds."""

    services: Services
    store: WorkStore
    outside: Outside

    def check_lease(self) -> None:
        """Raise `LeaseLost` when this worker may have been replaced."""
        ...

    async def record_step(
        self,
        run: Run,
        key: tuple[str, str],
        text: str,
        began: float,
        settled: Settled | None = None,
    ) -> None:
        """Return when the result is durable, and with it what its call did cost."""
        ...

    async def record_decided(
        self, run: Run, key: tuple[str, str], what: Spawn | Draw, began: float
    ) -> str:
        """
        Return, when it is durable, what the store decided, as JSON text: the ids of
        children, or what was drawn.
        """
        ...

    def note_progress(self, run: Run, progress: Progress) -> None:
        """Have it committed with whatever is committed next."""
        ...


def resumed(claim: Claim, pipeline: Pipeline, history: Sequence[Checkpoint]) -> Run:
    """The item with its updates in memory; its first try here folds them."""
    updates: list[str] = []
    memo: dict[tuple[str, str], str] = {}
    loaded = 0
    for c in history:
        if c.update is None:
            continue
        loaded += len(c.update)
        if c.step is None:
            updates.append(c.update)
        else:
            memo[c.stage, c.step] = c.update
    return Run(
        claim,
        pipeline,
        claim.stage,
        claim.seq,
        claim.attempt,
        None,
        anyio.current_time() + claim.left_s,
        memo,
        loaded=loaded,
        unfolded=updates,
    )


@contextmanager
def one_at_a_time(run: Run, key: tuple[str, str]) -> Iterator[None]:
    """
    While a step is under way; another of its name would be made, and paid, twice.

    Raises:
        Permanent: STEP_TWICE; STEP_KEPT, a name that our own records have.
    """
    if _TRY.search(key[1]):
        raise Permanent(
            f"the step {key[1]!r} has the name of a call's failed try",
            code="STEP_KEPT",
            hint="names of steps do not end in /try- and a number",
        )
    going = run.under_way  # of this attempt, whatever begins anew meanwhile
    if key in going:
        raise Permanent(
            f"the step {key[1]!r} is under way already",
            code="STEP_TWICE",
            hint="give each step of a stage a name of its own",
        )
    going.add(key)
    try:
        yield
    finally:
        going.discard(key)


async def memoised(
    recorder: StepRecorder,
    run: Run,
    key: tuple[str, str],
    fn: Callable[..., Awaitable[T]],
    /,
    *args: Any,
) -> T:
    """The result of the step `key` (stage, name): as recorded, or made now."""
    adapter = result_adapter(fn)
    kept = run.memo.get(key)
    if kept is not None:
        return adapter.validate_json(kept)  # type: ignore[no-any-return]
    recorder.check_lease()
    began = anyio.current_time()
    with one_at_a_time(run, key):
        result = await fn(*args)
        text = encode(adapter.dump_python(result, mode="json"))
        await recorder.record_step(run, key, text, began)
    return result


async def until_answered(ask: Callable[..., Awaitable[T]], *args: Any) -> T:
    """An answer of the store; one that is away is not this stage's failure."""
    while True:
        try:
            return await ask(*args)
        except StoreUnavailable:
            # Without end: the stage's own timeout, or the lease, ends it.
            await anyio.sleep(random.uniform(0.05, 1.0))
