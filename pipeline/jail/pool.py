"""
JailedProcess processes for work that must be killable: parsing, rendering, OCR.

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
from pipeline.jail.process import Died, JailedProcess, how, result, spawn
from pipeline.jail.program import REQUEST_BYTES_MAX
from pipeline.jail.scratch import Scratch, take
from pipeline.jail.turns import Turns

START_S = 30.0  # a start takes 0.1 s; a machine that swaps may need far longer
REAP_S = 5.0  # after SIGKILL; longer means uninterruptible sleep in the kernel

# A module may run functions in a child only when it is named here.
ALLOW = (
    "pipeline.jail.jailbreak",
    "stages.formats.bundle",
    "stages.reading.page",
    "stages.formats.probe",
    "stages.printing.typesetter",
)
# Verdicts that a used child may give by mistake (a C library that a former
# document damaged): believed only from a fresh one.
CONFIRM = ("CORRUPT", "PDF_CORRUPT", "PART_CORRUPT", "OCR_CRASHED")


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """
    A moment of the pool.

    Attributes:
        ended: Children that died by themselves: crash, signal, memory.
        killed: Children killed on timeout or cancellation.
        recycled: Children retired after `recycle_after` calls or for their size.
        disowned: Killed children that could not be reaped within 5 s.
        rss_bytes_max: Largest resident size that a child reported.
        peak_bytes_max: Largest peak of a process that a child started.
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
    """Where the files of a child are kept: an artifact store."""

    async def put_file(self, path: Path) -> str:
        """Store a file's bytes; return their name."""
        ...


class JailPool:
    """
    A pool of jailed child processes; an async context manager.

    A free child goes to the owner that has the fewest at work (`pipeline.jail.turns`).
    Children start when they are needed, so a pool that nobody calls costs nothing,
    and stay until `recycle_after` calls, or until they hold more than half of
    `memory_bytes`.

    Args:
        size: Children at once; as many as cores is right for OCR.
        memory_bytes: Address space of a child, and of each process it starts.
        output_bytes: Largest answer, as JSON.
        file_bytes: Largest file a child may write.
        nice: How far children step back behind the event loop.
        recycle_after: Calls before a child is replaced (C libraries leak).
        allow: Modules whose functions may run in a child.
        paths: Folders added to the import path of a child.
        readable: Folders whose files a child may read when it knows their name.
        scratch: Where the private folders of children lie; on disk, because
            pages of one large document fill a memory file system.
        confirm: Error codes that are believed only from a fresh child.
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
        self.jail: dict[str, Any] = {}  # what stands, as the last child reported it
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
        Run the module-level function `fn(**kwargs)` in a child.

        Arguments and result are JSON.  `timeout_s` begins when a child is free
        and covers a second try in a fresh child.

        Raises:
            WaybillError: what `fn` raised, with its class, code and hint.
            Transient: JAIL_TIMEOUT, too long or too much of the processor;
                JAIL_START, no child came up; JAIL_CLOSED, the pool was closed.
            Permanent: JAIL_ERROR (`fn` raised something else), JAIL_OUTPUT,
                JAIL_ANSWER; MEMORY_LIMIT and JAIL_CRASHED, confirmed by a
                second try in a fresh child.
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
        """Kill every child and remove the scratch folders.  Idempotent."""
        self._closed = True
        for child in [*self._idle, *self._busy]:
            child.kill()  # a busy one's caller reaps it
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
        """The answer of a child, believed, and the files kept of it."""
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
                child, answer = await self._believed(name, request)
            if scope.cancelled_caught:
                raise overrun(name, f"longer than {timeout_s:.0f} s")
            try:
                if keep is not None and "ok" in answer:
                    kept = await self._keep(child, keep)
            finally:
                await self._release(child, answer)
        return result(answer), kept

    async def _believed(
        self, name: str, request: bytes
    ) -> tuple[JailedProcess, dict[str, Any]]:
        """
        One try; a second in a fresh child where the first proves nothing.

        The child is still the caller's: what it left lies in its scratch folder.
        """
        child = await self._take(fresh=False)
        try:
            answer = await self._exchange(child, name, request)
            if not self._doubtful(child, answer):
                return child, answer
            await self._release(child, answer)
        except Died:
            self._check_open()

        child = await self._take(fresh=True)
        try:
            answer = await self._exchange(child, name, request)
        except Died as death:
            self._check_open()  # a shutdown killed it, not the document
            raise Permanent(
                f"{name} crashed twice: {death}",
                code="JAIL_CRASHED",
                hint="the document breaks a parser; convert it and send it again",
            ) from None
        if "memory" in answer:
            await self._release(child, answer)
            raise Permanent(
                f"{name} needs more memory than a child may have",
                code="MEMORY_LIMIT",
                hint="raise the memory limit of children, or lower dpi",
            )
        return child, answer

    async def _exchange(
        self, child: JailedProcess, name: str, request: bytes
    ) -> dict[str, Any]:
        """
        One exchange; when it fails the child is gone.

        Raises:
            Died: the child ended without an answer; names how.
            Transient: JAIL_TIMEOUT, the kernel ended it for its processor time.
        """
        try:
            answer = await child.exchange(request, self._output_bytes)
        except (
            anyio.BrokenResourceError,
            anyio.ClosedResourceError,
            anyio.EndOfStream,
            anyio.IncompleteRead,
        ):
            self._ended += 1
            await self._bury(child)
            if child.process.returncode == -signal.SIGXCPU:
                raise overrun(
                    name, "with more of the processor than its time allows"
                ) from None
            raise Died(how(child.process.returncode)) from None
        except BaseException:
            # Cancelled, timed out, or babbling: the call is still running there.
            self._killed += 1
            await self._bury(child)
            raise
        self._rss_bytes_max = max(self._rss_bytes_max, child.rss_bytes)
        self._peak_bytes_max = max(self._peak_bytes_max, child.peak_bytes)
        return answer

    async def _keep(self, child: JailedProcess, keep: Keeper) -> dict[str, str]:
        """The files that a call left, each stored durably."""
        apart = self._scratch.apart()
        try:
            files = await to_thread.run_sync(take, child.scratch, apart)
            return {file.name: await keep.put_file(file) for file in files}
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(shutil.rmtree, apart, True)

    async def _release(self, child: JailedProcess, answer: dict[str, Any]) -> None:
        """After its answer a child is idle again, or gone."""
        if "memory" in answer:
            self._ended += 1
            await self._bury(child)
        elif self._closed or self._worn(child) or self._doubtful(child, answer):
            self._recycled += 1
            await self._bury(child)
        else:
            self._busy.discard(child)
            self._idle.append(child)

    def _worn(self, child: JailedProcess) -> bool:
        """Whether a child has served long enough, or grown too large."""
        return (
            child.calls >= self._recycle_after or child.rss_bytes > self._recycle_bytes
        )

    def _doubtful(self, child: JailedProcess, answer: dict[str, Any]) -> bool:
        """Whether only a fresh child is to be believed."""
        raised = answer.get("raised")
        code = raised.get("code") if isinstance(raised, dict) else None
        return "memory" in answer or (child.calls > 1 and code in self._confirm)

    def _name(self, fn: Callable[..., Any]) -> str:
        module, name = fn.__module__, fn.__qualname__
        if module not in self._allow or not name.isidentifier():
            raise Usage(
                f"{module}:{name} may not run in a child",
                code="JAIL_NOT_ALLOWED",
                hint="a module-level function of a module on the `allow` list may",
            )
        return f"{module}:{name}"

    # -- children -------------------------------------------------------------------

    async def _take(self, *, fresh: bool) -> JailedProcess:
        """An idle child, or a new one."""
        self._check_open()
        while self._idle and not fresh:
            child = self._idle.pop()
            self._busy.add(child)
            if child.process.returncode is None:
                return child
            self._ended += 1  # it died while idle
            await self._bury(child)
        return await self._start()

    async def _start(self) -> JailedProcess:
        """
        Start a child and wait until its jail stands.

        Raises:
            Transient: JAIL_START.
        """
        child = await spawn(self._scratch.folder(), self._config)
        self._busy.add(child)
        self._started += 1
        try:
            with anyio.fail_after(START_S):
                answer = await child.receive(self._output_bytes)
        except (
            TimeoutError,
            anyio.BrokenResourceError,
            anyio.EndOfStream,
            anyio.IncompleteRead,
        ):
            await self._bury(child)
            self._check_open()
            raise Transient(
                f"a child process did not start: {how(child.process.returncode)}",
                code="JAIL_START",
                hint="run `waybill doctor`; look at memory and process limits",
            ) from None
        except BaseException:
            await self._bury(child)
            raise
        self.jail = answer["ok"]
        return child

    async def _bury(self, child: JailedProcess) -> None:
        """Kill the child's group, reap it, remove its scratch folder; bounded."""
        child.kill()
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(REAP_S) as scope:
                # Closes the pipes, then waits.  A process in uninterruptible
                # sleep cannot be reaped; it holds no lock of ours.
                await child.process.aclose()
            if scope.cancelled_caught:
                self._disowned += 1
            await to_thread.run_sync(shutil.rmtree, child.scratch, True)
        self._busy.discard(child)

    def _check_open(self) -> None:
        if self._closed:
            raise Transient("the pool of children is closed", code="JAIL_CLOSED")


class JailPools(Mapping[str, JailPool]):
    """
    Pools of children by name; "" is the one for whatever names none.

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
        children = self._pool(pool)
        return await children.run(fn, timeout_s=timeout_s, owner=owner, **kwargs)

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
        for children in self._pools.values():
            await children.aclose()

    def _pool(self, name: str) -> JailPool:
        if name not in self._pools:
            raise Usage(
                f"there is no pool of children named {name!r}",
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
