"""
What the worker hands to a stage: the `Context` of pipeline/stage.py for real.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeVar

import anyio
from pydantic import TypeAdapter

from pipeline.errors import Permanent, StoreUnavailable, Usage
from pipeline.folder import BoundStage, Pipeline
from pipeline.jail.custom import FileFunction
from pipeline.model import (
    PARTS_MAX,
    Checkpoint,
    Claim,
    Item,
    Kin,
    Part,
    Product,
    Progress,
    Spawn,
    State,
)
from pipeline.run.services import Services, secret_lines
from pipeline.stage import Artifacts, Endpoint, Folder, VendorDoor
from pipeline.state import clean_text, encode, result_adapter
from pipeline.store.port import WorkStore
from pipeline.store.rows import KinRow

T = TypeVar("T")

NAME_CHARS_MAX = 1000  # of a part, as of a file
KIN_AT_ONCE = 50  # arbitrary: histories read by one query
PRODUCTS_MAX = 100  # of one try of a stage; arbitrary
FACTS_CHARS_MAX = 8192  # as of an update that stands in its row
NAME = re.compile(r"[\w.-]{1,100}", re.ASCII)
ARTIFACT = re.compile(r"[0-9a-f]{64}")
COUNT_MAX = 2**31 - 1  # what the database keeps of a progress


class Parked(BaseException):
    """
    The item waits for its children: its stage ends here and runs again later.

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
    loaded: int = 0  # bytes of its state and steps, as text
    unfolded: list[str] | None = None  # what its state is yet to be made of

    @property
    def item(self) -> Item:
        return self.claim.item

    def take_products(self) -> tuple[Product, ...]:
        """What the stage made, for the entry that records its outcome."""
        if not self.products:
            return ()
        made = tuple(self.products.values())
        self.products.clear()
        return made


class StepRecorder(Protocol):
    """What makes a step's result durable, while the lease holds."""

    services: Services
    store: WorkStore

    def check_lease(self) -> None:
        """Raise `LeaseLost` when this worker may have been replaced."""
        ...

    async def record_step(
        self, run: Run, key: tuple[str, str], text: str, began: float
    ) -> None:
        """Return when the result is durable."""
        ...

    async def record_spawn(
        self, run: Run, key: tuple[str, str], spawn: Spawn, began: float
    ) -> str:
        """Return, when children are durable, their ids as JSON text."""
        ...

    def note_progress(self, run: Run, progress: Progress) -> None:
        """Have it committed with whatever is committed next."""
        ...


class StageContext:
    """The `Context` of one stage of one item; see pipeline/stage.py."""

    __slots__ = (
        "_deadline",
        "_joins",
        "_run",
        "_session",
        "_stage",
        "item",
        "settings",
    )

    def __init__(
        self, session: StepRecorder, run: Run, stage: BoundStage, deadline: float
    ) -> None:
        self._session = session
        self._run = run
        self._stage = stage
        self._deadline = deadline
        self._joins = 0
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
        folder = self._session.services.out / self.item.tenant / self.item.batch
        folder.mkdir(parents=True, exist_ok=True)
        return folder

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

    def endpoint(self, name: str) -> Endpoint:
        endpoints = self._session.services.endpoints
        if name not in endpoints:
            raise Usage(
                f"there is no service {name!r}",
                code="BAD_NAME",
                hint=f"known: {', '.join(endpoints) or 'none'}",
            )
        return endpoints[name]

    def secrets(self, name: str) -> list[str]:
        return secret_lines(self._session.services.secrets, self.item.tenant, name)

    def progress(self, done: int, total: int) -> None:
        # What is no number is nothing done: a display is not worth a document.
        of, so_far = (int(min(max(0, n), COUNT_MAX)) for n in (total, done))
        progress = Progress(self._stage.name, min(so_far, of), of)
        self._session.note_progress(self._run, progress)

    def product(self, name: str, artifact: str, **facts: Any) -> None:
        self._run.products[name] = product_of(name, artifact, facts, self._stage.name)
        if len(self._run.products) > PRODUCTS_MAX:
            raise _no_product(f"more than {PRODUCTS_MAX} products of one stage")

    async def spawn(
        self, parts: Sequence[Part], *, name: str = "parts", at: str = ""
    ) -> list[int | None]:
        key = (self._stage.name, f"spawn:{name}")
        kept = self._run.memo.get(key)
        if kept is None:
            self._session.check_lease()
            spawn = Spawn(
                self._branch(at),
                f"{self.item.id}/{self._stage.name}/{name}",
                tuple(_clean(part) for part in self._counted(parts)),
            )
            began = anyio.current_time()
            kept = await self._session.record_spawn(self._run, key, spawn, began)
        return _IDS.validate_json(kept)

    def _branch(self, at: str) -> str:
        """The stage where children begin."""
        pipeline = self._run.pipeline
        if not at:
            return pipeline.first
        if at not in pipeline.branches:
            raise Permanent(
                f"the pipeline {pipeline.name} has no branch {at!r}",
                code="SPAWN_BRANCH",
                hint=f"add [branch.{at}] with its `stages` to pipeline.toml",
            )
        return pipeline.branches[at]

    def _counted(self, parts: Sequence[Part]) -> Sequence[Part]:
        if len(parts) > PARTS_MAX:
            raise Permanent(
                f"{len(parts)} parts in one spawn, {PARTS_MAX} are the most",
                code="SPAWN_SIZE",
                hint="spawn them in slices, each under a name of its own",
            )
        return parts

    async def join(self) -> list[Kin]:
        # Joined twice, a stage has spawned more in between.
        self._joins += 1
        name = "join" if self._joins == 1 else f"join-{self._joins}"
        seen = await self.step(name, self._seen)
        found: list[Kin] = []
        for at in range(0, len(seen), KIN_AT_ONCE):
            found += await self._kin(seen[at : at + KIN_AT_ONCE])
        return found

    async def _seen(self) -> list[_Ended]:
        """How each child ended, as this stage will see it for ever."""
        store, item = self._session.store, self.item.id
        if await until_answered(store.open_children, item):
            _park()
        rows = await until_answered(store.kin, item)
        if any(row.state is None for row in rows):  # one is being retried
            _park()
        return [(r.id, State(r.state or ""), r.stage, r.code) for r in rows]

    async def _kin(self, seen: Sequence[_Ended]) -> list[Kin]:
        """These children with the values of their state."""
        store = self._session.store
        ids = [item for item, *_ in seen]
        facts = {
            row.id: row for row in await until_answered(store.kin, self.item.id, ids)
        }
        history = await until_answered(store.history, ids)
        return [
            Kin(
                item,
                facts[item].name,
                state,
                stage,
                code,
                await self._values(facts[item], history[item]),
            )
            for item, state, stage, code in seen
        ]

    async def _values(
        self, row: KinRow, history: Sequence[Checkpoint]
    ) -> dict[str, Any]:
        updates = []
        for c in history:
            if c.step is None:
                text = c.update
                if text is None and c.ref is not None:
                    text = (await self.artifacts.get(c.ref)).decode()
                updates.append(text or "{}")
        try:
            state = self._run.pipeline.channels.fold(row.input, updates)
        except Permanent:
            return {}  # its input never fitted: it failed with that, and says so
        return state.model_dump(mode="json")


_Ended = tuple[int, State, str, str]  # a child's id, state, stage and code
_IDS = TypeAdapter(list[int | None])


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


def _park() -> NoReturn:
    raise Parked


async def until_answered(ask: Callable[..., Awaitable[T]], *args: Any) -> T:
    """An answer of the store; one that is away is not this stage's failure."""
    while True:
        try:
            return await ask(*args)
        except StoreUnavailable:
            # Without end: the stage's own timeout, or the lease, ends it.
            await anyio.sleep(random.uniform(0.05, 1.0))


def _clean(part: Part) -> Part:
    """A part as the database can store it: names come out of foreign bundles."""
    return Part(
        clean_text(part.name)[:NAME_CHARS_MAX],
        json.loads(encode(part.input)),
        clean_text(part.key),
        part.size_bytes,
        part.refused_code,
        clean_text(part.refused_why),
    )
