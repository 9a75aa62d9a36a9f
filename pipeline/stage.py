"""
The contract a stage sees.

A stage is an async function from an item's state to an outcome:

    @stage(timeout_s=120, retry=Retry(attempts=5))
    async def price(order: Order, ctx: Context) -> Outcome: ...

It reads the state (a pydantic model whose fields are channels), does its work in
named steps whose results are kept, and returns an outcome.  It never sees the store.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from pipeline.calls import Answer, FilePart, Request, Vendor
from pipeline.errors import Usage
from pipeline.lapse import Lapse
from pipeline.messages import Talking
from pipeline.model import Advance, Done, Hold, Item, Kin, Outcome, Reject, Wait
from pipeline.outbox import Planning
from pipeline.parts import PARTS_MAX, Part
from pipeline.reducers import REDUCERS, add, append, merge, replace
from pipeline.signals import Asking
from pipeline.signatures import named

__all__ = [
    "PARTS_MAX",
    "REDUCERS",
    "Advance",
    "Answer",
    "Artifacts",
    "Context",
    "Done",
    "FilePart",
    "Folder",
    "Hold",
    "Item",
    "Kin",
    "Lapse",
    "Outcome",
    "Part",
    "Reject",
    "Request",
    "Retry",
    "Settings",
    "Stage",
    "Value",
    "Vendor",
    "Wait",
    "add",
    "append",
    "merge",
    "replace",
    "stage",
]

T = TypeVar("T")

# -- policies --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Retry:
    """
    Charged attempts and the wait between them.

    The wait before try n is drawn evenly from 0 to
    `min(cap_s, base_s * 2**(n-1))` (full jitter: it spreads a herd best, see
    AWS Architecture Blog, "Exponential Backoff And Jitter", 2015).
    """

    attempts: int = 5
    base_s: float = 1.0
    cap_s: float = 300.0


class Settings(BaseModel):
    """A stage's settings: the `[stage.NAME]` keys that are not policies."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Value(BaseModel):
    """What a jailed function is asked, or answers: one frozen value, as JSON."""

    # What a stranger's document made somebody answer stands in no error's text.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


FileCheck = Callable[["Folder", Any], Iterable[Usage]]


@dataclass(frozen=True, slots=True)
class Stage:
    """
    A stage function and its policies; `pipeline.toml` may override each.

    Attributes:
        window: Items in this stage at once, in one worker.
        limit: Name of a `[limit.NAME]` that every try of the stage obeys.
        check: What is wrong with the files it will use; see `stage`.
    """

    name: str
    run: Callable[[Any, Any], Awaitable[Outcome]]
    settings: type[Settings]
    timeout_s: float
    retry: Retry
    window: int
    limit: str | None
    check: FileCheck | None = None

    def __call__(self, state: Any, ctx: Any) -> Awaitable[Outcome]:
        return self.run(state, ctx)


def stage(
    *,
    settings: type[Settings] = Settings,
    timeout_s: float = 300.0,
    retry: Retry | None = None,
    window: int = 1000,
    limit: str | None = None,
    check: FileCheck | None = None,
) -> Callable[[Callable[..., Awaitable[Outcome]]], Stage]:
    """
    Declare a stage by its name.

    Args:
        check: `check(folder, settings)` yields a `Usage`, or raises one, for each fault
            of the files that the stage will use: rules, templates.  For `waybill
            pipelines check`; no worker calls it.

    Raises:
        Usage: it is no async function of two.
    """

    def declare(run: Callable[..., Awaitable[Outcome]]) -> Stage:
        given = (settings, timeout_s, retry or Retry(), window, limit, check)
        return Stage(named(run), run, *given)

    return declare


# -- what a stage may reach ------------------------------------------------------------


class Artifacts(Protocol):
    """Immutable bytes named by the sha256 of their content (64 hex digits)."""

    async def put(self, data: bytes) -> str:
        """Store `data` durably; return its name.  Storing again costs a look."""
        ...

    async def put_file(self, path: Path) -> str:
        """Like `put`, streaming from a file of any size."""
        ...

    async def get(self, name: str) -> bytes:
        """The bytes; raises `Integrity` when missing or when they changed."""
        ...

    def path(self, name: str) -> Path:
        """Where the bytes lie, for tools that read files.  Never write there."""
        ...


class Folder(Protocol):
    """The pipeline folder of the version this item began with."""

    root: Path
    name: str
    version: str

    def text(self, relative: str) -> str:
        """A UTF-8 file of the folder; raises `Usage` when it is not there."""
        ...

    def files(self, pattern: str) -> list[Path]:
        """Files matching a glob, sorted."""
        ...

    def texts(self, pattern: str) -> dict[str, str]:
        """The texts of these files, by their path in the folder; raises as `text`."""
        ...


class Context(Asking, Planning, Talking, Protocol):
    """What the worker hands to a stage beside the state."""

    item: Item
    settings: Any
    degraded: bool  # `settings` are those of `[stage.NAME.degraded]`

    @property
    def artifacts(self) -> Artifacts:
        """Where bytes are kept for ever."""

    @property
    def folder(self) -> Folder:
        """The files beside `pipeline.toml`."""

    @property
    def vendors(self) -> Collection[str]:
        """The names of the declared vendors."""

    @property
    def out_dir(self) -> Path:
        """
        Where finished files go: one folder a batch, there when it is asked for.

        All items of the batch share it, and whatever is put there stays: name a
        file after `item.id`, write it beside its place and rename it there.
        """

    def left_s(self) -> float:
        """Seconds until this stage's timeout or the item's deadline."""
        ...

    async def step(
        self, name: str, fn: Callable[..., Awaitable[T]], /, *args: Any
    ) -> T:
        """
        Run `fn(*args)` once and keep its result under `name`.

        After a crash the kept result is returned and `fn` is not called.  It is JSON:
        plain data, or a model named as the return annotation of `fn`.  Steps may run
        concurrently in a task group.
        """
        ...

    def lot(self, name: str) -> float:
        """
        A number in [0, 1) that is drawn for this item: the same at every try, by a key
        of the service's own, so that nothing in the document can steer it.
        """
        ...

    def progress(self, done: int, total: int) -> None:
        """
        Say how far this stage is: `done` of `total` units of its own.

        Costs next to nothing: the newest is committed with whatever the worker commits
        next, and nobody waits for it.  What a crash takes is said again.  Called inside
        a step, it stands with the step.
        """
        ...

    def product(self, name: str, artifact: str, **facts: Any) -> None:
        """
        Name an artifact that this stage made of the item.

        Committed together with the stage's outcome; an attempt that fails makes
        nothing.  The same name again, also by a later run, replaces.

        Args:
            artifact: What `artifacts.put` gave.
            facts: JSON-able data beside it, such as a file name and a size; 8 kB.

        Raises:
            Permanent: BAD_PRODUCT, a name, an artifact or facts that cannot be.
        """
        ...

    async def spawn(
        self, parts: Sequence[Part], *, name: str = "parts", at: str = ""
    ) -> list[int | None]:
        """
        Make each part an item of its own, a child of this one: once.

        A memoised step `spawn:<name>`: children, receipts and checkpoint are one
        transaction, so a crash leaves all of them or none.  Children have this item's
        batch, tenant, deadline and version, and begin at the pipeline's first stage, or
        at that of `[branch.<at>]`.

        Args:
            parts: At most `PARTS_MAX`; with more, call again under another name.

        Returns:
            A child's item id for each part; of a duplicate the item that it
            duplicates, of a refused part None.

        Raises:
            Permanent: SPAWN_SIZE, SPAWN_BRANCH.
        """
        ...

    async def join(self, *, need: Collection[str] = ()) -> list[Kin]:
        """
        This item's children by id, when every one of them is final.

        Until then the item is parked without a task; this stage runs again, its steps
        from memory.  A failed child is in the list as well; without children it is [].

        Args:
            need: Names of parts that must be done.

        Raises:
            NeedsReview: PART_MISSING, one that is needed is not: the item is held, and
                when a person has had that mended, and this tried again, it looks anew.
        """
        ...

    async def jailed(
        self,
        fn: Callable[..., Any],
        /,
        *,
        pool: str = "",
        timeout_s: float | None = None,
        **kwargs: Any,
    ) -> Any:
        """
        Run the plain module-level function `fn(**kwargs)` in a jailed process.

        `fn` is of a file of this item's pipeline folder that `jailed` in
        `pipeline.toml` names, and the jail imports that file by itself; or of a
        module that the composition root lets run there.

        Each call has a process of its own, bounded, which is killed with all that it
        started when the call ends or this scope is cancelled.  Of the artifacts it
        reads those whose path is an argument.  Arguments and result are JSON; a
        `WaybillError` raised inside arrives here with its class and code.

        Args:
            pool: Which processes: "", "second" for a second reader, "print" for typst.
            timeout_s: Default, and at most, what is left of this stage; with it
                `cpu_s` bounds the processor, by default by half as much again.

        Raises:
            Transient: JAIL_TIMEOUT, JAIL_CLOSED; Trouble: JAIL_START.
            Permanent: JAIL_CRASHED, MEMORY_LIMIT, JAIL_SCRATCH, JAIL_OUTPUT,
                JAIL_ANSWER or JAIL_ERROR.
            Usage: JAIL_NOT_ALLOWED, NO_SUCH_POOL.
        """
        ...

    async def jailed_files(
        self,
        fn: Callable[..., Any],
        /,
        *,
        pool: str = "",
        timeout_s: float | None = None,
        **kwargs: Any,
    ) -> tuple[Any, dict[str, str]]:
        """
        Like `jailed`, and keep the files that `fn` left in its scratch folder.

        `fn` writes plain files into the folder named by TMPDIR; each becomes an
        artifact.  Returns the result, and file name -> artifact.
        """
        ...

    def vendor(self, name: str) -> Vendor:
        """
        A declared vendor.

        Raises:
            Usage: VENDOR_UNKNOWN.
        """
        ...

    def secrets(self, name: str) -> list[str]:
        """
        The tenant's secrets of this name, a line each.  Never store or log one.

        Raises:
            Usage: BAD_NAME, `name` could lead out of the folder.
        """
        ...
