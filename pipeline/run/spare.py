"""
Worker processes, and some in waiting: a successor has imported everything already.

Imports are most of a start: seconds, on a busy machine.  A spare has done them and
waits for a line on its stdin before it looks at the database; it holds nothing, and
ends when its supervisor does.  Each has a shepherd (`pipeline.run.shepherd`), which is
the process that its supervisor knows.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

import anyio
from anyio.abc import Process

from pipeline.run import shepherd
from pipeline.run.slate import Slate

PARENT = "WAYBILL_PARENT_PID"
LOOK_S = 0.5
SLATE = "WAYBILL_SLATE"
CALLED = b"\n"
# A stage that ends its worker needs two: a successor, and one to be tried alone in.
SPARES = 2


class Spares:
    """
    Starts worker processes.

    Args:
        command: The command line of one, which calls `await_call`.
        environment: What its environment adds to ours.
        kept: Files that stay open until the last worker has ended, though we be
            killed: locks on what it needs to its end.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        kept: Sequence[int] = (),
    ) -> None:
        self._command = list(command)
        self._environment = dict(environment)
        self._kept = list(kept)
        self._waiting: list[tuple[Process, Slate]] = []
        self._lock = anyio.Lock()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Spares waiting={len(self._waiting)}>"

    async def take(
        self, *, alone: bool, impatient: bool, short: bool = False
    ) -> tuple[Process, Slate]:
        """
        A worker that begins now; its slate is the caller's to close.

        Raises:
            OSError: the machine has no room for a process.
        """
        async with self._lock:
            # The one that began first.
            process, slate = (
                self._waiting.pop(0) if self._waiting else await self._start()
            )
        slate.alone, slate.impatient, slate.short = alone, impatient, short
        assert process.stdin is not None
        # Should it be dead, its caller sees that as of any other.
        with suppress(anyio.BrokenResourceError):
            await process.stdin.send(CALLED)
        await process.stdin.aclose()
        return process, slate

    async def prepare(self) -> None:
        """Have one more in waiting; where there is no room for it now, none."""
        async with self._lock:
            for process, slate in list(self._waiting):
                if process.returncode is not None:
                    slate.close()
                    self._waiting.remove((process, slate))
            if len(self._waiting) < SPARES and not self._closed:
                with suppress(OSError):
                    self._waiting.append(await self._start())

    async def aclose(self) -> None:
        """End those in waiting, and have no others."""
        with anyio.CancelScope(shield=True):
            async with self._lock:
                self._closed = True
                while self._waiting:
                    process, slate = self._waiting.pop()
                    send(process, shepherd.END)
                    await process.aclose()
                    slate.close()

    async def _start(self) -> tuple[Process, Slate]:
        slate = Slate.shared()
        kept = ",".join(map(str, self._kept))
        try:
            # Its own session: a Ctrl-C in the terminal reaches the supervisor alone,
            # which passes it on once.
            process = await anyio.open_process(
                [
                    sys.executable,
                    *shepherd.BOOT,
                    str(os.getpid()),
                    kept,
                    *self._command,
                ],
                stdout=None,
                stderr=None,
                env={**os.environ, **self._environment, SLATE: str(slate.file)},
                start_new_session=True,
                pass_fds=[slate.file, *self._kept],
            )
        except BaseException:
            slate.close()
            raise
        return process, slate


def send(process: Process, *signals: signal.Signals) -> None:
    """Signals for a shepherd, which goes on should a stage have stopped it."""
    for what in (*signals, signal.SIGCONT):
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.send_signal(what)


def await_call() -> Slate:
    """
    Called by a worker that could begin: wait until it shall.

    Returns:
        The slate that its supervisor reads; without a supervisor, one of its own.
    """
    file = os.environ.get(SLATE)
    if file is None:
        return Slate()
    if os.read(sys.stdin.fileno(), 1) != CALLED:
        sys.exit(0)  # its supervisor is gone
    return Slate(int(file))


def follow_parent() -> None:
    """
    Called by every command: SIGTERM when the process that `PARENT` names is gone.

    Whoever starts it sets that, and wants it to end with itself, however that ends.
    """
    parent = os.environ.pop(PARENT, "")

    def follow() -> None:
        while os.getppid() == int(parent):
            time.sleep(LOOK_S)
        os.kill(os.getpid(), signal.SIGTERM)

    if parent:
        threading.Thread(target=follow, daemon=True, name="follow-parent").start()
