"""
A template and a jailed process, as the worker sees them: sockets, frames, an end.

`pipeline.jail.pool` decides what is asked and when it must end.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import anyio
from anyio.abc import Process, UNIXSocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

from pipeline.errors import Permanent, WaybillError
from pipeline.jail.jail import FATAL
from pipeline.jail.program import BEGUN, HEADER, RAISABLE
from pipeline.jail.template import BIRTH, DEATH, READY, Why
from pipeline.jail.watch import descendants
from pipeline.proc import queued_s

ROOT = Path(__file__).resolve().parents[2]
# -I keeps the environment, the user's site and the current folder out of
# sys.path; the one folder that is needed is named here.
BOOT = (
    *("-I", "-c"),
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "import pipeline.jail.template as m; m.main()",
)

# Memory in large pages, and kept: a page of a document takes half a gigabyte in turns,
# and to be given it anew each time cost a fifth of the nets' processor seconds.
TUNABLES = ":".join(
    (
        "glibc.malloc.hugetlb=1",
        "glibc.malloc.mmap_max=0",
        f"glibc.malloc.trim_threshold={1 << 32}",
    )
)

# What an anyio stream raises when the other side is no more.
GONE = (
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
    anyio.IncompleteRead,
)
# What arrives over the wire may come from a process that a document took over.
CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
WORDS_CHARS_MAX = 1000  # of a message, of a hint
PAUSE_S_MAX = 86400.0
REPORT_BYTES_MAX = 1 << 16


async def start(folder: Path, config: dict[str, Any]) -> TemplateProcess:
    """A new template, for calls whose folders lie in `folder`; not yet ready."""
    profile = {**config, "folder": str(folder), "worker": os.getpid()}
    ours, theirs = socket.socketpair()
    # Shielded: a cancellation between fork and our hold on the process would
    # leave one that nobody knows.  It takes milliseconds.
    with anyio.CancelScope(shield=True), theirs, closed_on_error(ours):
        process = await anyio.open_process(
            [sys.executable, *BOOT, str(ROOT), json.dumps(profile)],
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # it may quote the document
            cwd=folder,
            env=environment(folder),
            start_new_session=True,
        )
        control = await UNIXSocketStream.from_socket(ours)
    return TemplateProcess(process, control)


@contextlib.contextmanager
def closed_on_error(ours: socket.socket) -> Iterator[None]:
    """Closed when the block raises; what it made of the socket has it otherwise."""
    try:
        yield
    except BaseException:
        ours.close()
        raise


class TemplateProcess:
    """The process that forks one for each call."""

    def __init__(self, process: Process, control: UNIXSocketStream) -> None:
        self.process = process
        self._control = control

    @property
    def alive(self) -> bool:
        """Whether it still runs, as far as we were told."""
        return self.process.returncode is None

    @property
    def queued_s(self) -> float:
        """
        Seconds that it stood in line for a core; 0.0 where nobody counts it.

        What was started only waits: what becomes warm is its child.
        """
        pids = (self.process.pid, *descendants(self.process.pid))
        return max(queued_s(pid) or 0.0 for pid in pids)

    async def ready(self) -> None:
        """Return when it is warm; raises one of `GONE` when it never will be."""
        if await self._control.receive(1) != READY:
            raise anyio.BrokenResourceError

    async def fork(self, number: int, folder: Path) -> JailedProcess:
        """A process for one call; raises one of `GONE`."""
        with anyio.CancelScope(shield=True), contextlib.ExitStack() as theirs:
            streams: list[UNIXSocketStream] = []
            given: list[int] = []
            for _ in ("talk", "line"):
                ours, other = socket.socketpair()
                given.append(theirs.enter_context(other).fileno())
                theirs.enter_context(closed_on_error(ours))
                streams.append(await UNIXSocketStream.from_socket(ours))
            await self._control.send_fds(BIRTH.pack(number), given)
        talk, line = streams
        return JailedProcess(talk, line, folder)

    async def aclose(self, patience_s: float) -> bool:
        """End it, and with it every call; whether it could be reaped in time."""
        await self._control.aclose()
        for harder in (False, True):
            if harder:
                self.process.kill()
            with anyio.move_on_after(patience_s / 2):
                await self.process.wait()
                return True
        return False


class JailedProcess:
    """The process of one call, and the frames to and from it."""

    def __init__(
        self, talk: UNIXSocketStream, line: UNIXSocketStream, folder: Path
    ) -> None:
        self.folder = folder
        self.jail: dict[str, Any] = {}
        self.peak_bytes = 0
        self.end: End | None = None  # None: it may still run
        self._talk, self._line = talk, line
        self._out = BufferedByteReceiveStream(talk)
        self._top: int | None = None

    @property
    def left(self) -> Path:
        """Where the files lie that it left."""
        return self.folder if self._top is None else Path(f"/proc/self/fd/{self._top}")

    async def begin(self, request: dict[str, Any]) -> None:
        """Have it jail itself for this request; raises one of `GONE`."""
        data = json.dumps(request).encode()
        await self._talk.send(HEADER.pack(len(data)) + data)
        message, descriptors = await self._talk.receive_fds(len(BEGUN), 1)
        for self._top in descriptors:
            os.set_inheritable(self._top, False)
        if message != BEGUN:
            raise anyio.BrokenResourceError
        self.jail = (await self._receive(REPORT_BYTES_MAX))["ok"]
        if self.jail["bounded"] and self._top is None:
            # It was sent, and there was no room for it here: what the call leaves
            # would be found nowhere, and taken for nothing.
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async def answer(self, output_bytes: int) -> dict[str, Any]:
        """
        Its answer; raises one of `GONE` when it ends without.

        Raises:
            Permanent: JAIL_OUTPUT, the process announced more than it may send;
                JAIL_ANSWER, what it sent is no answer.
        """
        answer = await self._receive(output_bytes)
        try:
            self.peak_bytes = int(answer["peak"])
        except (ValueError, TypeError, LookupError, OverflowError):
            raise no_answer() from None
        return answer

    async def finish(self) -> None:
        """Kill it and all that it started; returns when nothing of it is left."""
        if self.end is not None:
            return
        try:
            await self._line.send_eof()
            data = await BufferedByteReceiveStream(self._line).receive_exactly(
                DEATH.size
            )
            code, why = DEATH.unpack(data)
            self.end = End(code, Why(why))
        except (*GONE, OSError):
            self.end = End(-signal.SIGKILL, Why.UNBORN)  # the template died, and it

    async def aclose(self) -> None:
        """Let go of what is held for it."""
        await self._talk.aclose()
        await self._line.aclose()
        if self._top is not None:
            os.close(self._top)
            self._top = None

    async def _receive(self, most: int) -> dict[str, Any]:
        header = await self._out.receive_exactly(HEADER.size)
        (length,) = HEADER.unpack(header)
        if length > most:
            raise Permanent(
                f"{length} bytes of answer were announced, {most} allowed",
                code="JAIL_OUTPUT",
            )
        data = await self._out.receive_exactly(length)
        try:
            answer = json.loads(data, parse_constant=float_is_none)
        except (ValueError, RecursionError):
            raise no_answer() from None
        if not isinstance(answer, dict):
            raise no_answer()
        return answer


class End(NamedTuple):
    """How a jailed process ended: an exit status, or below zero a signal; why."""

    code: int
    why: Why

    def __str__(self) -> str:
        # A process that was the first of its namespace ends with the signal's number.
        if self.code < 0 or self.code in FATAL:
            return signal.Signals(abs(self.code)).name
        return f"exit status {self.code}"

    @property
    def overran(self) -> bool:
        """Whether the kernel ended it for its processor time."""
        return str(self) == "SIGXCPU"


def float_is_none(word: str) -> float:
    """JSON knows neither NaN nor infinity."""
    raise ValueError(word)


def no_answer() -> Permanent:
    """The error for what is no answer."""
    return Permanent("a jailed process sent nonsense", code="JAIL_ANSWER")


def environment(scratch: Path) -> dict[str, str]:
    """All that a jailed process sees of our environment."""
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
        "OPENBLAS_NUM_THREADS": "1",  # numpy's; it starts them when it is imported
        "GLIBC_TUNABLES": TUNABLES,
        "FONTS_HOME": os.path.expanduser("~"),  # whose own fonts count
    }


def value_of(answer: dict[str, Any]) -> Any:
    """
    The value of an answer; raises the error that it carries.

    Raises:
        WaybillError: as raised in the jail; of an unknown class, Permanent.
    """
    raised = answer.get("raised")
    if not isinstance(raised, dict):
        return answer.get("ok")
    kind: type[WaybillError] = RAISABLE.get(str(raised.get("kind")), Permanent)
    code = raised.get("code")
    fits = isinstance(code, str) and CODE.fullmatch(code)
    raise kind(
        str(raised.get("message", ""))[:WORDS_CHARS_MAX],
        code=str(code) if fits else kind.code,
        hint=str(raised.get("hint", ""))[:WORDS_CHARS_MAX],
        retry_after_s=pause(raised.get("retry_after_s")),
    )


def pause(given: object) -> float | None:
    """Seconds to wait, within reason."""
    if not isinstance(given, int | float) or not math.isfinite(given):
        return None
    return float(min(max(given, 0.0), PAUSE_S_MAX))
