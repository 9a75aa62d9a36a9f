"""
The way to the store in virtual time, which can be cut, and an engine's other parts.

`tests/unit/engine.py` tells it what to do call by call; `faults.py` draws it.
"""

from __future__ import annotations

import inspect
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
from pydantic import BaseModel

from pipeline.bound import BoundStage
from pipeline.errors import StoreUnavailable
from pipeline.folder import Pipeline, PipelineFolder
from pipeline.model import Entry
from pipeline.stage import Settings, Stage
from pipeline.state import Channels
from pipeline.store.memory import MemoryStore
from pipeline.vendors.pacing import LimitSpec

WEEK_S = 7 * 86400.0
Call = Callable[[], Awaitable[Any]]
Fault = Callable[[Call], Awaitable[Any]]


async def not_sent(call: Call) -> Any:
    """The database is away: nothing was written, and we know it."""
    await anyio.lowlevel.checkpoint()
    raise StoreUnavailable("away")


async def lost(call: Call) -> Any:
    """The connection broke before COMMIT arrived; we cannot know."""
    await anyio.lowlevel.checkpoint()
    raise StoreUnavailable("no answer", in_doubt=True)


async def landed(call: Call) -> Any:
    """The connection broke after COMMIT; we cannot know."""
    await call()
    raise StoreUnavailable("no answer", in_doubt=True)


class Wire:
    """
    The way to the store, which can be cut.

    `faults[method]` are used up one a call, `always[method]` stay; while the
    clock stands before `away_until` nothing gets through.  `entries` are what
    was committed, in order.
    """

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.faults: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self.always: dict[str, Fault] = {}
        self.away_until = 0.0
        self.calls: Counter[str] = Counter()
        self.commits: list[tuple[Any, list[Entry]]] = []
        self.on_call: Callable[[str], None] = lambda _: None

    @property
    def entries(self) -> list[Entry]:
        """Everything that was committed."""
        return [entry for _, entries in self.commits for entry in entries]

    def moves(self, kind: type[Any]) -> list[Any]:
        """The moves of this kind among them."""
        return [e.move for e in self.entries if isinstance(e.move, kind)]

    def fault(self, method: str) -> Fault | None:
        """What becomes of this call; None: it gets through."""
        if anyio.current_time() < self.away_until:
            return not_sent
        if self.faults[method]:
            return self.faults[method].popleft()
        return self.always.get(method)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.store, name)
        if not inspect.iscoroutinefunction(method):
            return method

        async def through(*args: Any, **kwargs: Any) -> Any:
            async def call() -> Any:
                result = await method(*args, **kwargs)
                if name == "commit":
                    self.commits.append((args[0], list(args[1])))
                return result

            self.calls[name] += 1
            self.on_call(name)
            fault = self.fault(name)
            if fault is not None:
                return await fault(call)
            result = await call()
            self.on_call(name)
            return result

        return through


class Published:
    """Hands out pipelines by the number that they were published under."""

    def __init__(self) -> None:
        self.known: dict[int, Pipeline] = {}

    async def get(self, number: int, store: Any, limit_s: float = 0.0) -> Pipeline:
        """The pipeline; raises what the store raises."""
        await store.pipeline(number)
        return self.known[number]


def pipeline_of(
    state: type[BaseModel],
    stages: Sequence[Stage],
    limits: Mapping[str, LimitSpec] | None = None,
    branches: Mapping[str, Sequence[Stage]] | None = None,
) -> Pipeline:
    """A pipeline without a folder, called letters."""
    branches = branches or {}
    bound: dict[str, BoundStage] = {}
    for line in (stages, *branches.values()):
        after = [*(s.name for s in line[1:]), ""]
        for s, then in zip(line, after, strict=True):
            bound[s.name] = BoundStage(s, Settings(), then, len(bound))
    folder = PipelineFolder(Path("letters"), "letters", "1")
    return Pipeline(
        folder,
        bound,
        Channels(state),
        WEEK_S,
        limits or {},
        {name: line[0].name for name, line in branches.items()},
    )
