"""
A pool of jailed processes, for work that must be killable: parsing, rendering, OCR.

Each call has a process of its own, forked from a warm one that sees no document
(`pipeline.jail.template`).  It has its own session, memory, file and output limits and
a private scratch folder, may read the files that its arguments name and no others, and
dies with every process it started when the call ends, times out or is cancelled.  What
else it may not do is in `pipeline.jail.jail`.

A thread would not do: it cannot be cancelled, and a hostile document that
crashes a C library would take the worker with it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Protocol, Self

import anyio

from pipeline.errors import Permanent, Usage
from pipeline.jail.codes import JAIL, Codes
from pipeline.jail.custom import FileFunction, lies_within
from pipeline.jail.process import GONE, JailedProcess, value_of
from pipeline.jail.program import REQUEST_BYTES_MAX
from pipeline.jail.scratch import take
from pipeline.jail.stock import Stock
from pipeline.jail.turns import Turns
from pipeline.jail.verdicts import Asked, died, overrun, says_of_what, starved
from pipeline.threads import in_thread

FILES_NAMED_MAX = 1000  # of one call; arbitrary
PATH_CHARS_MAX = 4096
PLACE_BYTES = 8192  # what the stock adds to a request


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """
    A moment of the pool.

    Attributes:
        started: Processes forked: one a call, and a second where one died.
        ended: Processes that died without an answer: crash, signal, memory.
        killed: Processes killed on timeout or cancellation.
        disowned: Killed processes that could not be reaped within 5 s.
        templates: Warm processes started to fork others from.
        peak_bytes_max: Largest peak of a process that one of them started.
    """

    size: int
    busy: int
    started: int
    calls: int
    ended: int
    killed: int
    disowned: int
    templates: int
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
    (`pipeline.jail.turns`).  The template starts with the first call, so a pool that
    nobody calls costs nothing.

    Args:
        size: Processes at once; as many as cores is right for OCR.
        memory_bytes: Address space of each, and of each program it starts; and
            memory of them all together.
        output_bytes: Largest answer, as JSON.
        file_bytes: Largest file that one may write.
        scratch_bytes: What a call may have in its scratch folder.
        scratch_files: How many files and folders, likewise.
        nice: How far they step back behind the event loop.
        allow: Modules whose functions may run jailed.
        later: Names of more of them, which are imported when they are called: few
            pipelines need them, and every process would wait for them.
        warm: Functions of theirs that the template calls once, so that each call
            finds libraries loaded and tables built.  They may start no thread.
        threadless: More such functions, which would start threads if they could.
            With one of them no process of the pool can, where the kernel has seccomp;
            elsewhere they are not called.
        pipelines: Folder of pinned pipelines, whose files may bring functions too
            (`FileFunction`); None: there are none.
        codes: What is known of the codes that functions raise.
        paths: Folders added to the import path in the jail.
        readable: Folders of which a call may read the files that its arguments name.
        scratch: Where their private folders lie.
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
        scratch_bytes: int = 1 << 30,
        scratch_files: int = 10_000,
        nice: int = 10,
        allow: Iterable[ModuleType] = (),
        later: Iterable[str] = (),
        warm: Iterable[Callable[[], None]] = (),
        threadless: Iterable[Callable[[], None]] = (),
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
        self._cpu_per_s = cpu_per_s
        later = frozenset(later)
        self._allow = later.union(module.__name__ for module in allow)
        self._pipelines = "" if pipelines is None else str(pipelines.resolve())
        self.readable = tuple(readable)
        self._roots = [str(root.resolve()) for root in readable]
        self._roots += [self._pipelines] * bool(self._pipelines)
        self._turns = Turns(size)
        self._stock = Stock(
            {
                "memory_bytes": memory_bytes,
                "output_bytes": output_bytes,
                "file_bytes": file_bytes,
                "scratch_bytes": scratch_bytes,
                "scratch_files": scratch_files,
                "nice": nice,
                "allow": sorted(self._allow),
                "later": sorted(later),
                "warm": names(warm),
                "threadless": names(threadless),
                "pipelines": self._pipelines,
                "want_of_memory": [c.name for c in codes.values() if c.memory],
                "paths": [str(path) for path in paths],
                "tier": tier,
            },
            scratch,
        )
        self._calls = self._peak_bytes_max = 0

    def __repr__(self) -> str:
        state = " closed" if self._stock.closed else ""
        return f"<JailPool {len(self._stock.busy)} busy of {self._size}{state}>"

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
            busy=len(self._stock.busy),
            started=counts["started"],
            calls=self._calls,
            ended=counts["ended"],
            killed=counts["killed"],
            disowned=counts["disowned"],
            templates=counts["templates"],
            peak_bytes_max=self._peak_bytes_max,
        )

    async def run(
        self,
        fn: Callable[..., Any] | FileFunction,
        /,
        *,
        timeout_s: float,
        cpu_s: float | None = None,
        owner: Hashable = None,
        **kwargs: Any,
    ) -> Any:
        """
        Run the module-level function `fn(**kwargs)` in a jailed process.

        Arguments and result are JSON.  Of the files in `readable` it may read those
        whose path is an argument, or stands in one.  `timeout_s` begins when its turn
        has come, and covers a second try after a crash.  `cpu_s` is what a try may
        burn of the processor; without it as much as `timeout_s` is worth.

        Raises:
            WaybillError: what `fn` raised, with its class, code and hint.
            Transient: JAIL_TIMEOUT, too long or too much of the processor;
                JAIL_CLOSED, the pool was closed.
            Trouble: JAIL_START, no process came up.
            Permanent: JAIL_ERROR (`fn` raised something else), JAIL_OUTPUT,
                JAIL_ANSWER, JAIL_SCRATCH, MEMORY_LIMIT; JAIL_CRASHED, confirmed
                by a second try.
            Usage: JAIL_NOT_ALLOWED.
        """
        value, _ = await self._call(fn, timeout_s, cpu_s, owner, kwargs, None)
        return value

    async def run_files(
        self,
        fn: Callable[..., Any] | FileFunction,
        /,
        *,
        timeout_s: float,
        keep: Keeper,
        cpu_s: float | None = None,
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
        return await self._call(fn, timeout_s, cpu_s, owner, kwargs, keep)

    async def aclose(self) -> None:
        """Kill every process and remove the scratch folders.  Idempotent."""
        await self._stock.aclose()

    # -- one call -------------------------------------------------------------------

    async def _call(
        self,
        fn: Callable[..., Any] | FileFunction,
        timeout_s: float,
        cpu_s: float | None,
        owner: Hashable,
        kwargs: dict[str, Any],
        keep: Keeper | None,
    ) -> tuple[Any, dict[str, str]]:
        """The answer of a jailed process, believed, and the files kept of it."""
        asked = self._named(fn)
        request = {
            "fn": asked.name,
            "file": asked.file,
            "kwargs": kwargs,
            "cpu_s": self._cpu_per_s * timeout_s if cpu_s is None else cpu_s,
            "files": self._files_named(kwargs),
            "folder": self._folder_of(asked.file),
        }
        if len(json.dumps(request)) > REQUEST_BYTES_MAX - PLACE_BYTES:
            raise Usage(f"the arguments of {asked.name} are larger than 1 MiB")
        kept: dict[str, str] = {}
        async with self._turns.turn(owner):
            self._calls += 1
            await self._stock.ready()
            with anyio.move_on_after(timeout_s) as scope:
                jailed, answer = await self._answered(asked, request)
            if scope.cancelled_caught:
                raise overrun(asked.name, f"longer than {timeout_s:.0f} s")
            try:
                # What may still be written to is not looked at.
                if not await self._stock.finish(jailed):
                    raise overrun(asked.name, "and cannot be ended")
                if keep is not None and "ok" in answer:
                    kept = await self._keep(jailed, keep)
            finally:
                await self._stock.bury(jailed)
        try:
            return value_of(answer), kept
        except Permanent as error:
            if asked.file and error.code in JAIL:
                error.hint = asked.hint(error.hint)
            raise

    def _named(self, fn: Callable[..., Any] | FileFunction) -> Asked:
        """
        What a jailed process finds `fn` by.

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
        return Asked(f"{module}:{name}", file)

    def _files_named(self, kwargs: dict[str, Any]) -> list[str]:
        """The files in `readable` whose paths are arguments, links followed."""
        found: list[str] = []
        for word in strings(kwargs):
            if word[:1] == "/" and len(word) < PATH_CHARS_MAX and "\0" not in word:
                path = Path(word)
                ours = any(lies_within(path, root) for root in self._roots)
                if ours and path.is_file():
                    found.append(str(path.resolve()))
        return found[:FILES_NAMED_MAX]

    def _folder_of(self, file: str) -> str:
        """The pinned folder of a pipeline that a custom function's file lies in."""
        if not file:
            return ""
        within = Path(file).resolve().relative_to(self._pipelines)
        return str(Path(self._pipelines, within.parts[0])) if within.parts[1:] else ""

    async def _answered(
        self, asked: Asked, request: dict[str, Any]
    ) -> tuple[JailedProcess, dict[str, Any]]:
        """
        One try; a second where the process died and does not say of what.

        It is still the caller's: what it left lies in its scratch folder.
        """
        for last in (False, True):
            jailed = await self._stock.begin(request)
            try:
                answer = await jailed.answer(self._output_bytes)
            except GONE:
                await self._stock.bury(jailed, "ended")
                self._stock.check_open()  # a shutdown killed it, not the document
                if last or says_of_what(jailed.end):
                    raise died(asked, jailed.end) from None
            except BaseException:
                # Cancelled, timed out, or babbling: the call is still running there.
                await self._stock.bury(jailed, "killed")
                raise
            else:
                self._peak_bytes_max = max(self._peak_bytes_max, jailed.peak_bytes)
                if "memory" in answer:
                    await self._stock.bury(jailed, "ended")
                    raise starved(asked)
                return jailed, answer
        raise AssertionError

    async def _keep(self, jailed: JailedProcess, keep: Keeper) -> dict[str, str]:
        """The files that a call left, each stored durably."""
        files = await in_thread(take, jailed.left)
        return {file.name: await keep.put_file(file) for file in files}


def names(functions: Iterable[Callable[[], None]]) -> list[str]:
    """What each is found by in the jail."""
    return [f"{fn.__module__}:{fn.__qualname__}" for fn in functions]


def strings(value: Any) -> Iterator[str]:
    """Every text in a JSON value."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, list | tuple):
            waiting += one
