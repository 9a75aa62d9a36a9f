"""
Jailed processes for work that must be killable: parsing, rendering, OCR.

A pool of at most `size` jailed Python processes (`pipeline.jail.program`).  Each
has its own session, memory, file and output limits and a private scratch folder,
runs one call at a time, and dies, with every process it started, when its call
times out or is cancelled.  What else it may not do is in `pipeline.jail.jail`.

A thread would not do: it cannot be cancelled, and a hostile document that
crashes a C library would take the worker with it.
"""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import anyio
from anyio import to_thread

from pipeline.errors import Permanent, Transient, Usage
from pipeline.jail.process import (
    JailedProcess,
    ProcessDied,
    how_it_ended,
    start,
    value_of,
)
from pipeline.jail.program import REQUEST_BYTES_MAX
from pipeline.jail.scratch import Scratch, take
from pipeline.jail.turns import Turns

START_S = 30.0  # a start takes 0.1 s; a machine that swaps may need far longer
REAP_S = 5.0  # after SIGKILL; longer means uninterruptible sleep in the kernel

# A module may run functions in the jail only when it is named here.
ALLOW = (
    "pipeline.jail.jailbreak",
    "stages.formats.bundle",
    "stages.reading.page",
    "stages.formats.probe",
    "stages.printing.typesetter",
)
# Verdicts that a used process may give by mistake (a C library that a former
# document damaged): believed only from a fresh one.
CONFIRM = ("CORRUPT", "PDF_CORRUPT", "PART_CORRUPT", "OCR_CRASHED")


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """
    A moment of the pool.

    Attributes:
        ended: Processes that died by themselves: crash, signal, memory.
        killed: Processes killed on timeout or cancellation.
        recycled: Processes retired after `recycle_after` calls or for their size.
        disowned: Killed processes that could not be reaped within 5 s.
        rss_bytes_max: Largest resident size that a jailed process reported.
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
    rss_bytes_max: int
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
        paths: Folders added to the import path in the jail.
        readable: Folders whose files may be read by who knows their name.
        scratch: Where their private folders lie; on disk, because
            pages of one large document fill a memory file system.
        confirm: Error codes that are believed only from a fresh process.
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
        allow: Sequence[str] = ALLOW,
        paths: Sequence[Path] = (),
        readable: Sequence[Path] = (),
        scratch: Path | None = None,
        confirm: Sequence[str] = CONFIRM,
        cpu_per_s: float = 1.5,
        tier: int = 3,
    ) -> None:
        assert size >= 1
        self._size = size
        self._output_bytes = output_bytes
        self._recycle_after = recycle_after
        self._cpu_per_s = cpu_per_s
        self._recycle_bytes = memory_bytes // 2
        self._allow = frozenset(allow)
        self._confirm = frozenset(confirm)
        self._config = {
            "memory_bytes": memory_bytes,
            "output_bytes": output_bytes,
            "file_bytes": file_bytes,
            "nice": nice,
            "allow": list(allow),
            "paths": [str(path) for path in paths],
            "readable": [str(path) for path in readable],
            "tier": tier,
        }
        self.readable = tuple(readable)
        self.jail: dict[str, Any] = {}  # what stands, as the last process reported it
        self._turns = Turns(size)
        self._scratch = Scratch(scratch)
        self._idle: list[JailedProcess] = []
        self._busy: set[JailedProcess] = set()
        self._closed = False
        self._started = self._calls = self._ended = 0
        self._killed = self._recycled = self._disowned = 0
        self._rss_bytes_max = self._peak_bytes_max = 0

    def __repr__(self) -> str:
        idle, busy = len(self._idle), len(self._busy)
        state = " closed" if self._closed else ""
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

    def statistics(self) -> PoolStatistics:
        """The pool now; counters since it was made."""
        return PoolStatistics(
            size=self._size,
            idle=len(self._idle),
            busy=len(self._busy),
            started=self._started,
            calls=self._calls,
            ended=self._ended,
            killed=self._killed,
            recycled=self._recycled,
            disowned=self._disowned,
            rss_bytes_max=self._rss_bytes_max,
            peak_bytes_max=self._peak_bytes_max,
        )

    async def run(
        self,
        fn: Callable[..., Any],
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
        fn: Callable[..., Any],
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
        self._closed = True
        for jailed in [*self._idle, *self._busy]:
            jailed.kill()  # a busy one's caller reaps it
        while self._idle:
            await self._bury(self._idle.pop())
        if not self._busy:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(self._scratch.remove)

    # -- one call -------------------------------------------------------------------

    async def _call(
        self,
        fn: Callable[..., Any],
        timeout_s: float,
        owner: Hashable,
        kwargs: dict[str, Any],
        keep: Keeper | None,
    ) -> tuple[Any, dict[str, str]]:
        """The answer of a jailed process, believed, and the files kept of it."""
        name = self._name(fn)
        request = json.dumps(
            {
                "fn": name,
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

    async def _believed(
        self, name: str, request: bytes
    ) -> tuple[JailedProcess, dict[str, Any]]:
        """
        One try; a second in a fresh process where the first proves nothing.

        The process is still the caller's: what it left lies in its scratch folder.
        """
        jailed = await self._take(fresh=False)
        try:
            answer = await self._exchange(jailed, name, request)
            if not self._doubtful(jailed, answer):
                return jailed, answer
            await self._release(jailed, answer)
        except ProcessDied:
            self._check_open()

        jailed = await self._take(fresh=True)
        try:
            answer = await self._exchange(jailed, name, request)
        except ProcessDied as death:
            self._check_open()  # a shutdown killed it, not the document
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
                hint="raise the memory limit of the jail, or lower dpi",
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
            self._ended += 1
            await self._bury(jailed)
            if jailed.process.returncode == -signal.SIGXCPU:
                raise overrun(
                    name, "with more of the processor than its time allows"
                ) from None
            raise ProcessDied(how_it_ended(jailed.process.returncode)) from None
        except BaseException:
            # Cancelled, timed out, or babbling: the call is still running there.
            self._killed += 1
            await self._bury(jailed)
            raise
        self._rss_bytes_max = max(self._rss_bytes_max, jailed.rss_bytes)
        self._peak_bytes_max = max(self._peak_bytes_max, jailed.peak_bytes)
        return answer

    async def _keep(self, jailed: JailedProcess, keep: Keeper) -> dict[str, str]:
        """The files that a call left, each stored durably."""
        apart = self._scratch.apart()
        try:
            files = await to_thread.run_sync(take, jailed.scratch, apart)
            return {file.name: await keep.put_file(file) for file in files}
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(shutil.rmtree, apart, True)

    async def _release(self, jailed: JailedProcess, answer: dict[str, Any]) -> None:
        """After its answer a process is idle again, or gone."""
        if "memory" in answer:
            self._ended += 1
            await self._bury(jailed)
        elif self._closed or self._worn(jailed) or self._doubtful(jailed, answer):
            self._recycled += 1
            await self._bury(jailed)
        else:
            self._busy.discard(jailed)
            self._idle.append(jailed)

    def _worn(self, jailed: JailedProcess) -> bool:
        """Whether one has served long enough, or grown too large."""
        return (
            jailed.calls >= self._recycle_after
            or jailed.rss_bytes > self._recycle_bytes
        )

    def _doubtful(self, jailed: JailedProcess, answer: dict[str, Any]) -> bool:
        """Whether only a fresh process is to be believed."""
        raised = answer.get("raised")
        code = raised.get("code") if isinstance(raised, dict) else None
        return "memory" in answer or (jailed.calls > 1 and code in self._confirm)

    def _name(self, fn: Callable[..., Any]) -> str:
        module, name = fn.__module__, fn.__qualname__
        if module not in self._allow or not name.isidentifier():
            raise Usage(
                f"{module}:{name} may not run in the jail",
                code="JAIL_NOT_ALLOWED",
                hint="a module-level function of a module on the `allow` list may",
            )
        return f"{module}:{name}"

    # -- processes ------------------------------------------------------------------

    async def _take(self, *, fresh: bool) -> JailedProcess:
        """An idle process, or a new one."""
        self._check_open()
        while self._idle and not fresh:
            jailed = self._idle.pop()
            self._busy.add(jailed)
            if jailed.process.returncode is None:
                return jailed
            self._ended += 1  # it died while idle
            await self._bury(jailed)
        return await self._start()

    async def _start(self) -> JailedProcess:
        """
        Start a process and wait until its jail stands.

        Raises:
            Transient: JAIL_START.
        """
        jailed = await start(self._scratch.folder(), self._config)
        self._busy.add(jailed)
        self._started += 1
        try:
            with anyio.fail_after(START_S):
                answer = await jailed.receive(self._output_bytes)
        except (
            TimeoutError,
            anyio.BrokenResourceError,
            anyio.EndOfStream,
            anyio.IncompleteRead,
        ):
            await self._bury(jailed)
            self._check_open()
            how = how_it_ended(jailed.process.returncode)
            raise Transient(
                f"a jailed process did not start: {how}",
                code="JAIL_START",
                hint="run `waybill doctor`; look at memory and process limits",
            ) from None
        except BaseException:
            await self._bury(jailed)
            raise
        self.jail = answer["ok"]
        return jailed

    async def _bury(self, jailed: JailedProcess) -> None:
        """Kill the process's group, reap it, remove its scratch folder; bounded."""
        jailed.kill()
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(REAP_S) as scope:
                # Closes the pipes, then waits.  A process in uninterruptible
                # sleep cannot be reaped; it holds no lock of ours.
                await jailed.process.aclose()
            if scope.cancelled_caught:
                self._disowned += 1
            await to_thread.run_sync(shutil.rmtree, jailed.scratch, True)
        self._busy.discard(jailed)

    def _check_open(self) -> None:
        if self._closed:
            raise Transient(
                "the pool of jailed processes is closed", code="JAIL_CLOSED"
            )


class JailPools(Mapping[str, JailPool]):
    """
    Pools by name; "" is the one for whatever names none.

    Also an async context manager that closes them all.
    """

    def __init__(self, pools: Mapping[str, JailPool]) -> None:
        self._pools = dict(pools)

    def __repr__(self) -> str:
        return f"<JailPools {self._pools}>"

    def __getitem__(self, name: str) -> JailPool:
        return self._pools[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._pools)

    def __len__(self) -> int:
        return len(self._pools)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def run(
        self,
        fn: Callable[..., Any],
        /,
        *,
        timeout_s: float,
        pool: str = "",
        owner: Hashable = None,
        **kwargs: Any,
    ) -> Any:
        """`JailPool.run` in the pool of this name."""
        return await self._pool(pool).run(
            fn, timeout_s=timeout_s, owner=owner, **kwargs
        )

    async def run_files(
        self,
        fn: Callable[..., Any],
        /,
        *,
        timeout_s: float,
        keep: Keeper,
        pool: str = "",
        owner: Hashable = None,
        **kwargs: Any,
    ) -> tuple[Any, dict[str, str]]:
        """`JailPool.run_files` in the pool of this name."""
        return await self._pool(pool).run_files(
            fn, timeout_s=timeout_s, keep=keep, owner=owner, **kwargs
        )

    async def aclose(self) -> None:
        """Close every pool.  Idempotent."""
        for pool in self._pools.values():
            await pool.aclose()

    def _pool(self, name: str) -> JailPool:
        if name not in self._pools:
            raise Usage(
                f"there is no pool of jailed processes named {name!r}",
                code="NO_SUCH_POOL",
                hint=f"there are: {', '.join(map(repr, self._pools))}",
            )
        return self._pools[name]


def overrun(name: str, how_long: str) -> Transient:
    """A call that took more than its time."""
    return Transient(
        f"{name} ran {how_long}",
        code="JAIL_TIMEOUT",
        hint="raise the stage's timeout_s, or lower dpi and max_pixels",
    )
