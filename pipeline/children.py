"""
Child processes for work that must be killable: parsing, rendering, OCR.

A pool of at most `size` jailed Python processes (`pipeline.child_main`).  Each
has its own session, memory, file and output limits and a private scratch folder,
runs one call at a time, and dies, with every process it started, when its call
times out or is cancelled.

A thread would not do: it cannot be cancelled, and a hostile document that
crashes a C library would take the worker with it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import anyio
from anyio import to_thread
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from pipeline.child_main import HEADER, RAISABLE, REQUEST_BYTES_MAX
from pipeline.errors import Permanent, Transient, Usage, WaybillError

ROOT = Path(__file__).resolve().parents[1]
# -I keeps the environment, the user's site and the current folder out of
# sys.path; the one folder that is needed is named here.
BOOT = "import sys; sys.path.insert(0, sys.argv[1]); import pipeline.child_main as m"
START_S = 30.0  # a start takes 0.1 s; a machine that swaps may need far longer
REAP_S = 5.0  # after SIGKILL; longer means uninterruptible sleep in the kernel

# A module may run functions in a child only when it is named here.
ALLOW = ("stages.reader", "stages.page_text")
# Verdicts that a used child may give by mistake (a C library that a former
# document damaged): believed only from a fresh one.
CONFIRM = ("CORRUPT", "PDF_CORRUPT")


@dataclass(frozen=True, slots=True)
class ChildrenStatistics:
    """
    A moment of the pool.

    Attributes:
        ended: Children that died by themselves: crash, signal, memory.
        killed: Children killed on timeout or cancellation.
        recycled: Children retired after `recycle_after` calls or for their size.
        disowned: Killed children that could not be reaped within 5 s.
        rss_bytes_max: Largest resident size that a child reported.
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


class Child:
    """One process and the frames to and from it."""

    def __init__(self, process: Process, scratch: Path) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self.scratch = scratch
        self.calls = 0
        self.rss_bytes = 0
        self.quiet = False  # between calls, nothing of it runs
        self._in = process.stdin
        self._out = BufferedByteReceiveStream(process.stdout)

    async def exchange(self, request: bytes, output_bytes: int) -> dict[str, Any]:
        """Send one frame and read the answer to it."""
        self.quiet = False
        self.calls += 1
        await self._in.send(HEADER.pack(len(request)) + request)
        return await self.receive(output_bytes)

    async def receive(self, output_bytes: int) -> dict[str, Any]:
        """
        Read one answer.

        Raises:
            Permanent: CHILD_OUTPUT, the child announced more than it may send;
                CHILD_ANSWER, what it sent is no answer.
        """
        header = await self._out.receive_exactly(HEADER.size)
        (length,) = HEADER.unpack(header)
        if length > output_bytes:
            raise Permanent(
                f"a child announced {length} bytes, {output_bytes} are allowed",
                code="CHILD_OUTPUT",
            )
        data = await self._out.receive_exactly(length)
        # A child that a document took over could send anything at all.
        try:
            answer: dict[str, Any] = json.loads(data)
            self.rss_bytes = int(answer["rss"])
        except (ValueError, TypeError, LookupError, RecursionError):
            raise Permanent("a child sent nonsense", code="CHILD_ANSWER") from None
        self.quiet = True
        return answer

    def kill(self) -> None:
        """SIGKILL the child and everything it started."""
        # The child leads its session, so its group has its pid.  One that died
        # in a call may have left processes behind: the group is killed all the
        # same, at once, before the number can be reused.  One that died between
        # calls left nothing, and its number may long be another's.
        if self.quiet and self.process.returncode is not None:
            return
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return  # nobody is left (macOS: only a zombie is)


class Died(Exception):
    """The child ended without an answer.  Never leaves this module."""


class Children:
    """
    A pool of jailed child processes; an async context manager.

    Waiting for a free child is fair: first come, first served.  Children start
    when they are needed and stay until `recycle_after` calls, or until they hold
    more than half of `memory_bytes`.

    Args:
        size: Children at once; as many as cores is right for OCR.
        memory_bytes: Address space of a child, and of each process it starts.
        output_bytes: Largest answer, as JSON.
        file_bytes: Largest file a child may write.
        nice: How far children step back behind the event loop.
        recycle_after: Calls before a child is replaced (C libraries leak).
        allow: Modules whose functions may run in a child.
        paths: Folders added to the import path of a child.
        scratch: Where the private folders of children lie; on disk, because
            pages of one large document fill a memory file system.
        confirm: Error codes that are believed only from a fresh child.
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
        scratch: Path | None = None,
        confirm: Sequence[str] = CONFIRM,
    ) -> None:
        assert size >= 1
        self._size = size
        self._output_bytes = output_bytes
        self._recycle_after = recycle_after
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
        }
        self._turn = anyio.Semaphore(size)
        self._scratch = Scratch(scratch)
        self._idle: list[Child] = []
        self._busy: set[Child] = set()
        self._closed = False
        self._started = self._calls = self._ended = 0
        self._killed = self._recycled = self._disowned = self._rss_bytes_max = 0

    def __repr__(self) -> str:
        idle, busy = len(self._idle), len(self._busy)
        state = " closed" if self._closed else ""
        return f"<Children {busy} busy + {idle} idle of {self._size}{state}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def statistics(self) -> ChildrenStatistics:
        """The pool now; counters since it was made."""
        return ChildrenStatistics(
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
        )

    async def run(
        self, fn: Callable[..., Any], /, *, timeout_s: float, **kwargs: Any
    ) -> Any:
        """
        Run the module-level function `fn(**kwargs)` in a child.

        Arguments and result are JSON.  `timeout_s` begins when a child is free
        and covers a second try in a fresh child.

        Raises:
            WaybillError: what `fn` raised, with its class, code and hint.
            Transient: CHILD_TIMEOUT; CHILD_START, no child came up;
                CHILD_CLOSED, the pool was closed.
            Permanent: CHILD_ERROR (`fn` raised something else), CHILD_OUTPUT,
                CHILD_ANSWER; MEMORY_LIMIT and CHILD_CRASHED, confirmed by a
                second try in a fresh child.
            Usage: CHILD_NOT_ALLOWED.
        """
        name = self._name(fn)
        request = json.dumps({"fn": name, "kwargs": kwargs}).encode()
        if len(request) > REQUEST_BYTES_MAX:
            raise Usage(f"the arguments of {name} are larger than 1 MiB")
        async with self._turn:
            self._calls += 1
            with anyio.move_on_after(timeout_s) as scope:
                return await self._confirmed(name, request)
        assert scope.cancelled_caught
        raise Transient(
            f"{name} ran longer than {timeout_s:.0f} s",
            code="CHILD_TIMEOUT",
            hint="raise the stage's timeout_s, or lower dpi and max_pixels",
        )

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

    async def _confirmed(self, name: str, request: bytes) -> Any:
        """One try; a second in a fresh child where the first proves nothing."""
        child = await self._take(fresh=False)
        try:
            answer = await self._attempt(child, request)
            if not self._doubtful(child, answer):
                return result(answer)
        except Died:
            self._check_open()

        child = await self._take(fresh=True)
        try:
            answer = await self._attempt(child, request)
        except Died as death:
            self._check_open()  # a shutdown killed it, not the document
            raise Permanent(
                f"{name} crashed twice: {death}",
                code="CHILD_CRASHED",
                hint="the document breaks a parser; convert it and send it again",
            ) from None
        if "memory" in answer:
            raise Permanent(
                f"{name} needs more memory than a child may have",
                code="MEMORY_LIMIT",
                hint="raise the memory limit of children, or lower dpi",
            )
        return result(answer)

    async def _attempt(self, child: Child, request: bytes) -> dict[str, Any]:
        """
        One exchange; afterwards the child is idle again, or gone.

        Raises:
            Died: the child ended without an answer; names how.
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
            raise Died(how(child.process.returncode)) from None
        except BaseException:
            # Cancelled, timed out, or babbling: the call is still running there.
            self._killed += 1
            await self._bury(child)
            raise
        self._rss_bytes_max = max(self._rss_bytes_max, child.rss_bytes)
        if "memory" in answer:
            self._ended += 1
            await self._bury(child)
        elif self._closed or self._worn(child) or self._doubtful(child, answer):
            self._recycled += 1
            await self._bury(child)
        else:
            self._busy.discard(child)
            self._idle.append(child)
        return answer

    def _worn(self, child: Child) -> bool:
        """Whether a child has served long enough, or grown too large."""
        return (
            child.calls >= self._recycle_after or child.rss_bytes > self._recycle_bytes
        )

    def _doubtful(self, child: Child, answer: dict[str, Any]) -> bool:
        """Whether only a fresh child is to be believed."""
        raised = answer.get("raised")
        code = raised.get("code") if isinstance(raised, dict) else None
        return "memory" in answer or (child.calls > 1 and code in self._confirm)

    def _name(self, fn: Callable[..., Any]) -> str:
        module, name = fn.__module__, fn.__qualname__
        if module not in self._allow or not name.isidentifier():
            raise Usage(
                f"{module}:{name} may not run in a child",
                code="CHILD_NOT_ALLOWED",
                hint="a module-level function of a module on the `allow` list may",
            )
        return f"{module}:{name}"

    # -- children -------------------------------------------------------------------

    async def _take(self, *, fresh: bool) -> Child:
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

    async def _start(self) -> Child:
        """
        Start a child and wait until its jail stands.

        Raises:
            Transient: CHILD_START.
        """
        scratch = self._scratch.child()
        config = json.dumps(self._config)
        # Shielded: a cancellation between fork and our hold on the process would
        # leave one that nobody knows.  It takes milliseconds.
        with anyio.CancelScope(shield=True):
            process = await anyio.open_process(
                [sys.executable, "-I", "-c", f"{BOOT}; m.main()", str(ROOT), config],
                stderr=subprocess.DEVNULL,  # it may quote the document
                cwd=scratch,
                env=environment(scratch),
                start_new_session=True,
            )
        child = Child(process, scratch)
        self._busy.add(child)
        self._started += 1
        try:
            with anyio.fail_after(START_S):
                await child.receive(self._output_bytes)
        except (
            TimeoutError,
            anyio.BrokenResourceError,
            anyio.EndOfStream,
            anyio.IncompleteRead,
        ):
            await self._bury(child)
            self._check_open()
            raise Transient(
                f"a child process did not start: {how(process.returncode)}",
                code="CHILD_START",
                hint="run `waybill doctor`; look at memory and process limits",
            ) from None
        except BaseException:
            await self._bury(child)
            raise
        return child

    async def _bury(self, child: Child) -> None:
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
            raise Transient("the pool of children is closed", code="CHILD_CLOSED")


class Scratch:
    """
    Private folders of children, in one folder of this process.

    The folder is locked while the process lives.  What a killed process left
    behind is not locked, and is removed when the next one begins.
    """

    def __init__(self, root: Path | None) -> None:
        disk = Path("/var/tmp")  # noqa: S108  mkdtemp makes a private folder there
        self._root = root or (disk if disk.is_dir() else Path(tempfile.gettempdir()))
        self._folder: Path | None = None
        self._lock: IO[str] | None = None
        self._count = 0

    def child(self) -> Path:
        """A new folder for one child."""
        if self._folder is None:
            self._sweep()
            # Locked under a name that no sweep looks for, then renamed.
            made = Path(tempfile.mkdtemp(prefix=".waybill-", dir=self._root))
            self._lock = open(made / "lock", "w")  # noqa: SIM115  held open
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._folder = made.rename(made.with_name(made.name[1:]))
        self._count += 1
        folder = self._folder / f"child-{self._count}"
        folder.mkdir()
        return folder

    def remove(self) -> None:
        """Remove everything; later children would begin anew."""
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _sweep(self) -> None:
        for lock in self._root.glob("waybill-*/lock"):
            try:
                with open(lock) as held:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(lock.parent, ignore_errors=True)
            except OSError:
                continue  # its process lives, or another one was quicker


def environment(scratch: Path) -> dict[str, str]:
    """All that a child sees of our environment."""
    kept = {
        name: os.environ[name]
        for name in ("PATH", "TESSDATA_PREFIX")
        if name in os.environ
    }
    return {
        **kept,
        "LANG": "C.UTF-8",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "OMP_THREAD_LIMIT": "1",
    }


def how(returncode: int | None) -> str:
    """How a process ended, in words."""
    if returncode is None:
        return "no answer"
    if returncode < 0:
        return signal.Signals(-returncode).name
    return f"exit status {returncode}"


def result(answer: dict[str, Any]) -> Any:
    """
    The value of an answer; raises the error that it carries.

    Raises:
        WaybillError: as raised in the child; of an unknown class, Permanent.
    """
    raised = answer.get("raised")
    if not isinstance(raised, dict):
        return answer.get("ok")
    kind: type[WaybillError] = RAISABLE.get(str(raised.get("kind")), Permanent)
    pause_s = raised.get("retry_after_s")
    raise kind(
        str(raised.get("message", "")),
        code=str(raised.get("code", kind.code)),
        hint=str(raised.get("hint", "")),
        retry_after_s=float(pause_s) if isinstance(pause_s, int | float) else None,
    )
