"""
What the worker hands to a stage: the `Context` of pipeline/stage.py for real.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import anyio

from pipeline.folder import BoundStage, Pipeline
from pipeline.model import Claim, Item
from pipeline.stage import Artifacts, Folder, VendorDoor
from pipeline.state import encode, result_adapter

T = TypeVar("T")


class ChildRunner(Protocol):
    """What runs functions in child processes (`pipeline/children.py`)."""

    async def run(
        self, fn: Callable[..., Any], /, *, timeout_s: float, **kwargs: Any
    ) -> Any:
        """Run `fn(**kwargs)` in a jailed child."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    """What stages may reach, given once by the composition root."""

    artifacts: Artifacts
    children: ChildRunner
    vendor: VendorDoor
    out: Path


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

    @property
    def item(self) -> Item:
        return self.claim.item


class StepRecorder(Protocol):
    """What makes a step's result durable: the session."""

    services: Services

    def check_lease(self) -> None:
        """Raise `LeaseLost` when this worker may have been replaced."""
        ...

    async def record_step(
        self, run: Run, key: tuple[str, str], text: str, began: float
    ) -> None:
        """Return when the result is durable."""
        ...


class StageContext:
    """The `Context` of one stage of one item; see pipeline/stage.py."""

    __slots__ = ("_deadline", "_run", "_session", "_stage", "item", "settings")

    def __init__(
        self, session: StepRecorder, run: Run, stage: BoundStage, deadline: float
    ) -> None:
        self._session = session
        self._run = run
        self._stage = stage
        self._deadline = deadline
        self.item = run.item
        self.settings = stage.settings

    @property
    def artifacts(self) -> Artifacts:
        return self._session.services.artifacts

    @property
    def vendor(self) -> VendorDoor:
        return self._session.services.vendor

    @property
    def folder(self) -> Folder:
        return self._run.pipeline.folder

    @property
    def out_dir(self) -> Path:
        return self._session.services.out / self.item.tenant / self.item.batch

    def left_s(self) -> float:
        return self._deadline - anyio.current_time()

    async def step(
        self, name: str, fn: Callable[..., Awaitable[T]], /, *args: Any
    ) -> T:
        key = (self._stage.name, name)
        adapter = result_adapter(fn)
        kept = self._run.memo.get(key)
        if kept is not None:
            return adapter.validate_json(kept)  # type: ignore[no-any-return]
        self._session.check_lease()
        began = anyio.current_time()
        result = await fn(*args)
        text = encode(adapter.dump_python(result, mode="json"))
        await self._session.record_step(self._run, key, text, began)
        return result

    async def child(self, fn: Callable[..., Any], /, **kwargs: Any) -> Any:
        return await self._session.services.children.run(
            fn, timeout_s=max(self.left_s(), 0.001), **kwargs
        )
