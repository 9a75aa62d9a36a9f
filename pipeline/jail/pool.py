"""
A pool of jailed processes, for work that must be killable: parsing, rendering, OCR.

Each process (`pipeline.jail.program`) has its own session, memory, file and output
limits and a private scratch folder, runs one call at a time, and dies, with every
process it started, when its call times out or is cancelled.  What else it may not do
is in `pipeline.jail.jail`.

A thread would not do: it cannot be cancelled, and a hostile document that
crashes a C library would take the worker with it.
"""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Protocol, Self

import anyio
from anyio import to_thread

from pipeline.errors import Permanent, Transient, Usage
from pipeline.jail.codes import JAIL, Codes
from pipeline.jail.custom import FileFunction, lies_within
from pipeline.jail.process import JailedProcess, ProcessDied, how_it_ended, value_of
from pipeline.jail.program import REQUEST_BYTES_MAX
from pipeline.jail.scratch import take
from pipeline.jail.stock import Stock
from pipeline.jail.turns import Turns


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """
    A moment of the pool.

    Attributes:
        ended: Processes that died by themselves: crash, signal, memory.
        killed: Processes killed on timeout or cancellation.
        recycled: Processes retired after `recycle_after` calls or for their size.
        disowned: Killed processes that could not be reaped within 5 s.
        peak_bytes_max: Largest peak of a process that one of them started.
    """

    size: int
    idle: int
    busy: int
    started: int
    calls: int
    ended: int
    killed: int
    recycled: int
    disowned: int
    peak_bytes_max: int


class Keeper(Protocol):
    """Where the files of a call are kept: an artifact store."""

    async def put_file(self, path: Path) -> str:
        """Store a file's bytes; return their name."""
        ...


class JailPool:
    """
    A pool of jailed processes; an async context manager.

    A free process goes to the owner that has the fewest at work
    (`pipeline.jail.turns`).  Processes start when they are needed, so a pool that
    nobody calls costs nothing, and stay until `recycle_after` calls, or until they
    hold more than half of `memory_bytes`.

    Args:
        size: Processes at once; as many as cores is right for OCR.
        memory_bytes: Address space of each, and of each program it starts.
        output_bytes: Largest answer, as JSON.
        file_bytes: Largest file that one may write.
        nice: How far they step back behind the event loop.
        recycle_after: Calls before one is replaced (C libraries leak).
        allow: Modules whose functions may run jailed.
        pipelines: Folder of pinned pipelines, whose files may bring functions too
            (`FileFunction`); None: there are none.
        codes: What is known of the codes that functions raise.
        paths: Folders added to the import path in the jail.
        readable: Folders whose files may be read by who knows their name.
        scratch: Where their private folders lie; on disk, because
            pages of one large document fill a memory file system.
        cpu_per_s: Processor seconds that a call may burn a second of its time: more
            than one thread of it may run, and none may run on after it.
        tier: The highest tier of the jail to try for (`pipeline.jail.jail`).
    """

    def __init__(
        self,
        size: int,
        *,
        memory_bytes: int = 2 << 30,
        output_bytes: int = 16 << 20,
        file_bytes: int = 1 << 30,
        nice: int = 10,
        recycle_after: int = 200,
        allow: Iterable[ModuleType] = (),
        pipelines: Path | None = None,
        codes: Codes = JAIL,
        paths: Sequence[Path] = (),
        readable: Sequence[Path] = (),
        scratch: Path | None = None,
        cpu_per_s: float = 1.5,
        tier: int = 3,
    ) -> None:
        assert size >= 1
        self._size = size
        self._output_bytes = output_bytes
        self._recycle_after = recycle_after
        self._recycle_bytes = memory_bytes // 2
        self._cpu_per_s = cpu_per_s
        self._allow = frozenset(module.__name__ for module in allow)
        self._pipelines = "" if pipelines is None else str(pipelines.resolve())
        self._codes = codes
        self.readable = tuple(readable)
        self._turns = Turns(size)
        self._stock = Stock(
            {
                "memory_bytes": memory_bytes,
                "output_bytes": output_bytes,
                "file_bytes": file_bytes,
                "nice": nice,
                "allow": sorted(self._allow),
                "pipelines": self._pipelines,
                "want_of_memory": [c.name for c in codes.values() if c.memory],
                "paths": [str(path) for path in paths],
                "readable": [*map(str, readable), self._pipelines],
                "tier": tier,
            },
            scratch,
        )
        self._calls = self._peak_bytes_max = 0

    def __repr__(self) -> str:
        idle, busy = len(self._stock.idle), len(self._stock.busy)
        state = " closed" if self._stock.closed else ""
        return f"<JailPool {busy} busy + {idle} idle of {self._size}{state}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    @property
    def jail(self) -> dict[str, Any]:
        """What stands of the jail, as the last process reported it; {} before."""
        return self._stock.jail

    def statistics(self) -> PoolStatistics:
        """The pool now; counters since it was made."""
        counts = self._stock.counts
        return PoolStatistics(
            size=self._size,
            idle=len(self._stock.idle),
            busy=len(self._stock.busy),
            started=counts["started"],
            calls=self._calls,
            ended=counts["ended"],
            killed=counts["killed"],
            recycled=counts["recycled"],
            disowned=counts["disowned"],
            peak_bytes_max=self._peak_bytes_max,
        )

    async def run(
        self,
        fn: Callable[..., Any] | FileFunction,
        /,
        *,
        timeout_s: float,
        owner: Hashable = None,
        **kwargs: Any,
    ) -> Any:
        """
        Run the module-level function `fn(**kwargs)` in a jailed process.

        Arguments and result are JSON.  `timeout_s` begins when a process is
        free and covers a second try in a fresh one.

        Raises:
            WaybillError: what `fn` raised, with its class, code and hint.
            Transient: JAIL_TIMEOUT, too long or too much of the processor;
                JAIL_START, no process came up; JAIL_CLOSED, the pool was closed.
            Permanent: JAIL_ERROR (`fn` raised something else), JAIL_OUTPUT,
                JAIL_ANSWER; MEMORY_LIMIT and JAIL_CRASHED, confirmed by a
                second try in a fresh process.
            Usage: JAIL_NOT_ALLOWED.
        """
        value, _ = await self._call(fn, timeout_s, owner, kwargs, None)
        return value

    async def run_files(
        self,
        fn: Callable[..., Any] | FileFunction,
        /,
        *,
        timeout_s: float,
        keep: Keeper,
        owner: Hashable = None,
        **kwargs: Any,
    ) -> tuple[Any, dict[str, str]]:
        """
        Like `run`, and keep the plain files that `fn` left in its scratch folder.

        Returns the result, and file name -> name in `keep`.  Folders, links and
        pipes are not kept; of a call that raised nothing is.

        Raises:
            Permanent: also JAIL_OUTPUT, more or larger files than allowed.
        """
        return await self._call(fn, timeout_s, owner, kwargs, keep)

    async def aclose(self) -> None:
        """Kill every process and remove the scratch folders.  Idempotent."""
        await self._stock.aclose()

    # -- one call -------------------------------------------------------------------

    async def _call(
        self,
        fn: Callable[..., Any] | FileFunction,
        timeout_s: float,
        owner: Hashable,
        kwargs: dict[str, Any],
        keep: Keeper | None,
    ) -> tuple[Any, dict[str, str]]:
        """The answer of a jailed process, believed, and the files kept of it."""
        name, file = self._named(fn)
        request = json.dumps(
            {
                "fn": name,
                "file": file,
                "kwargs": kwargs,
                "cpu_s": self._cpu_per_s * timeout_s,
                "leave": keep is not None,
            }
        ).encode()
        if len(request) > REQUEST_BYTES_MAX:
            raise Usage(f"the arguments of {name} are larger than 1 MiB")
        kept: dict[str, str] = {}
        async with self._turns.turn(owner):
            self._calls += 1
            with anyio.move_on_after(timeout_s) as scope:
                jailed, answer = await self._believed(name, request)
            if scope.cancelled_caught:
                raise overrun(name, f"longer than {timeout_s:.0f} s")
            try:
                if keep is not None and "ok" in answer:
                    kept = await self._keep(jailed, keep)
            finally:
                await self._release(jailed, answer)
        return value_of(answer), kept

    def _named(self, fn: Callable[..., Any] | FileFunction) -> tuple[str, str]:
        """
        What a jailed process finds `fn` by: `module:name`, and the file of a custom
        one.

        Raises:
            Usage: JAIL_NOT_ALLOWED.
        """
        if isinstance(fn, FileFunction):
            module, name, file = fn.file.name, fn.name, str(fn.file)
            allowed = lies_within(fn.file, self._pipelines)
        else:
            module, name, file = fn.__module__, fn.__qualname__, ""
            allowed = module in self._allow
        if not allowed or not name.isidentifier():
            code = getattr(fn, "__code__", None)  # its file's own name, not the pinned
            of = Path(code.co_filename).name if code else module
            raise Usage(
                f"{name} of {of} may not run in the jail",
                code="JAIL_NOT_ALLOWED",
                hint='a module-level function may, when `jailed = ["…"]` in '
                "pipeline.toml names its file",
            )
        return f"{module}:{name}", file

    async def _believed(
        self, name: str, request: bytes
    ) -> tuple[JailedProcess, dict[str, Any]]:
        """
        One try; a second in a fresh process where the first proves nothing.

        The process is still the caller's: what it left lies in its scratch folder.
        """
        jailed = await self._stock.take(fresh=False)
        try:
            answer = await self._exchange(jailed, name, request)
            if not self._doubtful(jailed, answer):
                return jailed, answer
            await self._release(jailed, answer)
        except ProcessDied:
            self._stock.check_open()

        jailed = await self._stock.take(fresh=True)
        try:
            answer = await self._exchange(jailed, name, request)
        except ProcessDied as death:
            self._stock.check_open()  # a shutdown killed it, not the document
            raise Permanent(
                f"{name} crashed twice: {death}",
                code="JAIL_CRASHED",
                hint="the document breaks a parser; convert it and send it again",
            ) from None
        if "memory" in answer:
            await self._release(jailed, answer)
            raise Permanent(
                f"{name} needs more memory than a jailed process may have",
                code="MEMORY_LIMIT",
                hint="raise the memory limit of the jail, or give one call less to do",
            )
        return jailed, answer

    async def _exchange(
        self, jailed: JailedProcess, name: str, request: bytes
    ) -> dict[str, Any]:
        """
        One exchange; when it fails the process is gone.

        Raises:
            ProcessDied: the process ended without an answer; names how.
            Transient: JAIL_TIMEOUT, the kernel ended it for its processor time.
        """
        try:
            answer = await jailed.exchange(request, self._output_bytes)
        except (
            anyio.BrokenResourceError,
            anyio.ClosedResourceError,
            anyio.EndOfStream,
            anyio.IncompleteRead,
        ):
            await self._stock.bury(jailed, "ended")
            if jailed.process.returncode == -signal.SIGXCPU:
                raise overrun(
                    name, "with more of the processor than its time allows"
                ) from None
            raise ProcessDied(how_it_ended(jailed.process.returncode)) from None
        except BaseException:
            # Cancelled, timed out, or babbling: the call is still running there.
            await self._stock.bury(jailed, "killed")
            raise
        self._peak_bytes_max = max(self._peak_bytes_max, jailed.peak_bytes)
        return answer

    async def _keep(self, jailed: JailedProcess, keep: Keeper) -> dict[str, str]:
        """The files that a call left, each stored durably."""
        apart = self._stock.scratch.apart()
        try:
            files = await to_thread.run_sync(take, jailed.scratch, apart)
            return {file.name: await keep.put_file(file) for file in files}
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(shutil.rmtree, apart, True)

    async def _release(self, jailed: JailedProcess, answer: dict[str, Any]) -> None:
        """After its answer a process is idle again, or gone."""
        served = jailed.calls >= self._recycle_after
        grown = jailed.rss_bytes > self._recycle_bytes
        if "memory" in answer:
            await self._stock.bury(jailed, "ended")
        elif self._stock.closed or served or grown or self._doubtful(jailed, answer):
            await self._stock.bury(jailed, "recycled")
        else:
            self._stock.give_back(jailed)

    def _doubtful(self, jailed: JailedProcess, answer: dict[str, Any]) -> bool:
        """Whether only a fresh process is to be believed."""
        if "memory" in answer:
            return True
        raised = answer.get("raised")
        code = raised.get("code") if isinstance(raised, dict) else None
        known = self._codes.get(code) if isinstance(code, str) else None
        return known is not None and known.fresh and jailed.calls > 1


def overrun(name: str, how_long: str) -> Transient:
    """A call that took more than its time."""
    return Transient(
        f"{name} ran {how_long}",
        code="JAIL_TIMEOUT",
        hint="raise the stage's timeout_s, or give one call less to do",
    )
