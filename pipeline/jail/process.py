"""
One jailed process, as the worker sees it: its program, its frames, its end.

`pipeline.jail.pool` decides when one starts, what it is asked and when it must go.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from pipeline.errors import Permanent, WaybillError
from pipeline.jail.program import HEADER, RAISABLE

ROOT = Path(__file__).resolve().parents[2]
# -I keeps the environment, the user's site and the current folder out of
# sys.path; the one folder that is needed is named here.
BOOT = "import sys; sys.path.insert(0, sys.argv[1]); import pipeline.jail.program as m"


async def start(scratch: Path, config: dict[str, Any]) -> JailedProcess:
    """A new process, whose folder is `scratch`; it has not answered yet."""
    profile = json.dumps({**config, "scratch": str(scratch), "worker": os.getpid()})
    # Shielded: a cancellation between fork and our hold on the process would
    # leave one that nobody knows.  It takes milliseconds.
    with anyio.CancelScope(shield=True):
        process = await anyio.open_process(
            [sys.executable, "-I", "-c", f"{BOOT}; m.main()", str(ROOT), profile],
            stderr=subprocess.DEVNULL,  # it may quote the document
            cwd=scratch,
            env=environment(scratch),
            start_new_session=True,
        )
    return JailedProcess(process, scratch)


class JailedProcess:
    """One process and the frames to and from it."""

    def __init__(self, process: Process, scratch: Path) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self.scratch = scratch
        self.calls = 0
        self.rss_bytes = 0
        self.peak_bytes = 0
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
            Permanent: JAIL_OUTPUT, the process announced more than it may send;
                JAIL_ANSWER, what it sent is no answer.
        """
        header = await self._out.receive_exactly(HEADER.size)
        (length,) = HEADER.unpack(header)
        if length > output_bytes:
            raise Permanent(
                f"{length} bytes of answer were announced, {output_bytes} allowed",
                code="JAIL_OUTPUT",
            )
        data = await self._out.receive_exactly(length)
        # A process that a document took over could send anything at all.
        try:
            answer: dict[str, Any] = json.loads(data)
            self.rss_bytes = int(answer["rss"])
            self.peak_bytes = int(answer["peak"])
        except (ValueError, TypeError, LookupError, RecursionError):
            raise Permanent(
                "a jailed process sent nonsense", code="JAIL_ANSWER"
            ) from None
        self.quiet = True
        return answer

    def kill(self) -> None:
        """SIGKILL the process and everything it started."""
        # It leads its session, so its group has its pid.  One that died
        # in a call may have left processes behind: the group is killed all the
        # same, at once, before the number can be reused.  One that died between
        # calls left nothing, and its number may long be another's.
        if self.quiet and self.process.returncode is not None:
            return
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return  # nobody is left (macOS: only a zombie is)


class ProcessDied(Exception):
    """The process ended without an answer.  Never leaves the pool."""


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
        "FONTS_HOME": os.path.expanduser("~"),  # whose own fonts count
    }


def how_it_ended(returncode: int | None) -> str:
    """How a process ended, in words."""
    if returncode is None:
        return "no answer"
    if returncode < 0:
        return signal.Signals(-returncode).name
    return f"exit status {returncode}"


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
    pause_s = raised.get("retry_after_s")
    raise kind(
        str(raised.get("message", "")),
        code=str(raised.get("code", kind.code)),
        hint=str(raised.get("hint", "")),
        retry_after_s=float(pause_s) if isinstance(pause_s, int | float) else None,
    )
