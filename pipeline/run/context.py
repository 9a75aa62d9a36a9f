"""
What the worker hands to a stage: the `Context` of pipeline/stage.py for real.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import anyio

from pipeline.agents.grants import granted
from pipeline.bound import BoundStage
from pipeline.errors import Permanent, Usage
from pipeline.jail.custom import FileFunction
from pipeline.messages import Granted, Model
from pipeline.model import Kin, Product, Progress
from pipeline.parts import Part
from pipeline.purse import Draw, Drawn, Most
from pipeline.run.calling import Calling
from pipeline.run.family import Family
from pipeline.run.models import DeclaredModel
from pipeline.run.planning import planned
from pipeline.run.services import secret_lines
from pipeline.run.signals import Signals
from pipeline.run.stay import Run, StepRecorder, memoised
from pipeline.stage import Artifacts, Folder
from pipeline.state import encode

T = TypeVar("T")

PRODUCTS_MAX = 100  # of one try of a stage; arbitrary
FACTS_CHARS_MAX = 8192  # as of an update that stands in its row
NAME = re.compile(r"[\w.-]{1,100}", re.ASCII)
ARTIFACT = re.compile(r"[0-9a-f]{64}")
COUNT_MAX = 2**31 - 1  # what the database keeps of a progress


class StageContext:
    """The `Context` of one stage of one item; see pipeline/stage.py."""

    __slots__ = (
        "_deadline",
        "_family",
        "_run",
        "_session",
        "_signals",
        "_stage",
        "degraded",
        "item",
        "settings",
    )

    def __init__(
        self,
        session: StepRecorder,
        run: Run,
        stage: BoundStage,
        deadline: float,
        degraded: bool = False,
    ) -> None:
        self._session = session
        self._run = run
        self._stage = stage
        self._deadline = deadline
        self._family = Family(session, run, stage.name)
        self._signals = Signals(session, run, stage.name)
        self.item = run.item
        self.degraded = degraded and stage.degraded is not None
        self.settings = stage.settings
        if degraded and stage.degraded is not None:
            self.settings = stage.degraded.settings

    @property
    def artifacts(self) -> Artifacts:
        return self._session.services.artifacts

    @property
    def vendors(self) -> Collection[str]:
        return self._session.services.vendors.keys()

    @property
    def folder(self) -> Folder:
        return self._run.pipeline.folder

    @property
    def out_dir(self) -> Path:
        services = self._session.services
        root = (services.trials if self.item.trial else None) or services.out
        folder = root / self.item.tenant / self.item.batch
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def left_s(self) -> float:
        if self._run.scope is None:
            return self._deadline - anyio.current_time()
        return self._run.left_s()

    async def step(
        self, name: str, fn: Callable[..., Awaitable[T]], /, *args: Any
    ) -> T:
        return await memoised(
            self._session, self._run, (self._stage.name, name), fn, *args
        )

    async def jailed(
        self,
        fn: Callable[..., Any],
        /,
        *,
        pool: str = "",
        timeout_s: float | None = None,
        **kwargs: Any,
    ) -> Any:
        return await self._session.services.jail.run(
            self._jailable(fn),
            pool=pool,
            timeout_s=self._bounded(timeout_s),
            owner=self.item.id,
            **kwargs,
        )

    async def jailed_files(
        self,
        fn: Callable[..., Any],
        /,
        *,
        pool: str = "",
        timeout_s: float | None = None,
        **kwargs: Any,
    ) -> tuple[Any, dict[str, str]]:
        return await self._session.services.jail.run_files(
            self._jailable(fn),
            pool=pool,
            timeout_s=self._bounded(timeout_s),
            owner=self.item.id,
            keep=self.artifacts,
            **kwargs,
        )

    def _jailable(self, fn: Callable[..., Any]) -> Callable[..., Any] | FileFunction:
        """A function of the pipeline's own as the jail finds it: by its file."""
        file = self._run.pipeline.jailed.get(fn.__module__)
        return fn if file is None else FileFunction(file, fn.__qualname__)

    def _bounded(self, timeout_s: float | None) -> float:
        left_s = max(self.left_s(), 0.001)
        return left_s if timeout_s is None else min(timeout_s, left_s)

    def vendor(self, name: str) -> Calling:
        spec = self._session.services.vendors.get(name)
        if spec is None:
            known = ", ".join(self._session.services.vendors) or "none"
            raise Usage(
                f"there is no vendor {name!r}",
                code="VENDOR_UNKNOWN",
                hint=f"declare [vendor.{name}] in vendors.toml; known: {known}",
            )
        return Calling(self._session, self._run, self._stage.name, spec, self.left_s)

    def granted(self, agent: str) -> Granted:
        grants, item = self._run.pipeline.grants, self.item
        return granted(grants, item.tenant, self._stage.name, agent)

    def remembered(self, step: str) -> Any:
        text = self._run.memo.get((self._stage.name, step))
        return None if text is None else json.loads(text)

    @property
    def most(self) -> Most:
        return self._run.pipeline.budget.purse

    async def draw(self, step: str, draw: Draw) -> Drawn:
        key = (self._stage.name, step)
        kept = self._run.memo.get(key)
        if kept is None:
            self._session.check_lease()
            began = anyio.current_time()
            kept = await self._session.record_decided(self._run, key, draw, began)
        return Drawn.model_validate_json(kept)

    def model(self, name: str, *others: str) -> Model:
        script = self._session.services.scripts.get(name)
        if script is not None:
            return script(self)
        given = (self._session, self._run, self._stage.name, (name, *others))
        return DeclaredModel(*given, self.left_s)

    def secrets(self, name: str) -> list[str]:
        return secret_lines(self._session.services.secrets, self.item.tenant, name)

    def lot(self, name: str) -> float:
        return self._session.services.lots.lot(self.item.id, name)

    def progress(self, done: int, total: int) -> None:
        # What is no number is nothing done: a display is not worth a document.
        of, so_far = (int(min(max(0, n), COUNT_MAX)) for n in (total, done))
        progress = Progress(self._stage.name, min(so_far, of), of)
        self._session.note_progress(self._run, progress)

    def product(self, name: str, artifact: str, **facts: Any) -> None:
        self._run.products[name] = product_of(name, artifact, facts, self._stage.name)
        if len(self._run.products) > PRODUCTS_MAX:
            raise _no_product(f"more than {PRODUCTS_MAX} products of one stage")

    async def effect(
        self,
        name: str,
        sink: str,
        payload: Mapping[str, Any] | None = None,
        *,
        artifacts: Mapping[str, str] | None = None,
        irreversible: bool = False,
    ) -> str:
        given = (name, sink, payload or {}, artifacts or {}, irreversible)
        return await planned(
            self._session.services, self._run, self._stage.name, *given
        )

    async def spawn(
        self, parts: Sequence[Part], *, name: str = "parts", at: str = ""
    ) -> list[int | None]:
        return await self._family.spawn(parts, name=name, at=at)

    async def join(self, *, need: Collection[str] = ()) -> list[Kin]:
        return await self._family.join(need)

    async def signal(
        self,
        name: str,
        schema: Any = Any,
        *,
        within_s: float | None = None,
        or_none: bool = False,
        poll: Callable[[], Awaitable[Any]] | None = None,
        every_s: float = 60.0,
    ) -> Any:
        return await self._signals.ask(
            name,
            schema,
            within_s=within_s,
            or_none=or_none,
            poll=poll,
            every_s=every_s,
        )

    async def signal_url(self, name: str, *, within_s: float | None = None) -> str:
        return await self._signals.url(name, within_s)


def product_of(name: str, artifact: str, facts: dict[str, Any], stage: str) -> Product:
    """
    A product as the database can store it, and everybody read it.

    Raises:
        Permanent: BAD_PRODUCT, a name, an artifact or facts that cannot be.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise _no_product("its name is not 1 to 100 of a-z, A-Z, 0-9, `_`, `-`, `.`")
    if not isinstance(artifact, str) or not ARTIFACT.fullmatch(artifact):
        raise _no_product(f"{name} names no artifact", "pass what `artifacts.put` gave")
    try:
        text = encode(facts)
        json.loads(text)  # a number of more than 4,300 digits is no number here
    except (ValueError, RecursionError, Permanent):
        raise _no_product(f"the facts of {name} have no JSON") from None
    if len(text) > FACTS_CHARS_MAX:
        raise _no_product(
            f"the facts of {name} have more than {FACTS_CHARS_MAX} characters",
            "keep them in an artifact",
        )
    return Product(name, artifact, text, stage)


def _no_product(why: str, hint: str = "") -> Permanent:
    return Permanent(f"a product cannot be: {why}", code="BAD_PRODUCT", hint=hint)
