"""
The shepherd: the program between a supervisor and one of its workers.

    python -I -c … PARENT KEPT COMMAND…

A stage may fork, and a copy that calls `setsid` is in nobody's group; a worker that is
killed, or that a stage keeps busy, cleans up after nobody.  So the worker is the child
of a small process in which nothing foreign runs, and which inherits whatever loses its
parent there (Linux alone has the call; elsewhere the worker's group ends).  It passes
signals on, and when the worker has ended, however it ends, so does all that is left,
before the supervisor is told.  A supervisor that is gone has the worker drain for a
moment, then put back what it has, then end.

Standard library alone: it stays for as long as the worker does.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from pipeline.jail.watch import descendants

ROOT = Path(__file__).resolve().parents[2]
BOOT = (
    *("-I", "-c"),
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "import pipeline.run.shepherd as it; it.main(*sys.argv[2:])",
    str(ROOT),
)
END = signal.SIGUSR2  # to a shepherd: its worker and all that is left end now
PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
LOOK_S = 0.5  # how soon the supervisor's end is noticed
# The steps of an orphan's end, each as long as this after the one before.
STEP_S = 6.0
STEPS = (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL)
REAP_S = 5.0  # longer means uninterruptible sleep in the kernel
NAP_S = 0.01
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def main(parent: str, kept: str, *command: str) -> NoReturn:
    """Run the command as a child of `parent`, and end as it ends; `kept` are files."""
    _Shepherd(int(parent)).run(command, [int(file) for file in kept.split(",") if file])


class _Shepherd:
    """One worker's."""

    def __init__(self, parent: int) -> None:
        self._parent = parent
        self._worker = 0
        self._steps = list(STEPS)
        self._next_step = 0.0

    def run(self, command: tuple[str, ...], kept: Sequence[int]) -> NoReturn:
        """The worker's whole life; it has not what is `kept` open meanwhile."""
        adopt()
        heard = {*PASSED_ON, END, signal.SIGALRM}
        # None of them is lost, or meets the child before it is another program.
        signal.pthread_sigmask(signal.SIG_BLOCK, heard)
        self._worker = os.fork()
        if self._worker == 0:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, heard)
            for file in kept:  # a copy of it that gets away would keep it for good
                os.set_inheritable(file, False)
            _become(command)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for each in PASSED_ON:
            signal.signal(each, lambda what, _: self._signal(what))
        signal.signal(END, lambda *_: self._signal(signal.SIGKILL))
        signal.signal(signal.SIGALRM, lambda *_: self._look())
        signal.setitimer(signal.ITIMER_REAL, LOOK_S, LOOK_S)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, heard)
        code = self._until_over()
        signal.setitimer(signal.ITIMER_REAL, 0)
        for each in heard:  # its number may be another's from now on
            signal.signal(each, signal.SIG_IGN)
        end_all(self._worker)
        _end_like(code)

    def _until_over(self) -> int:
        """The worker's exit code; others who come to us are buried."""
        while True:
            pid, status = os.waitpid(-1, 0)
            # A stage may have its worker traced, whose stops are told here as well.
            if pid == self._worker and not os.WIFSTOPPED(status):
                return os.waitstatus_to_exitcode(status)

    def _signal(self, what: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._worker, what)

    def _look(self) -> None:
        if os.getppid() == self._parent or time.monotonic() < self._next_step:
            return
        self._signal(self._steps.pop(0) if len(self._steps) > 1 else self._steps[0])
        self._next_step = time.monotonic() + STEP_S


def end_all(group: int) -> None:
    """End what a group, and all that is left beneath this process, still does."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
    until = time.monotonic() + REAP_S
    while time.monotonic() < until:
        for pid in descendants(os.getpid()):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            buried, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not buried:
            time.sleep(NAP_S)


def adopt() -> None:
    """From now on whatever loses its parent beneath this process is its child."""
    _ask_kernel(PR_SET_CHILD_SUBREAPER, 1)


def end_left(spared: Iterable[int]) -> None:
    """In a process that ends: end all beneath it but these, and what is theirs."""
    kept = {each for pid in spared for each in (pid, *descendants(pid))}
    until = time.monotonic() + REAP_S
    while (left := set(descendants(os.getpid())) - kept) and time.monotonic() < until:
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(NAP_S)


def _become(command: tuple[str, ...]) -> NoReturn:
    """In the child: the worker, which ends when its shepherd does."""
    shepherd = os.getppid()
    try:
        os.setsid()  # what a stage does to its own group is not done to us
        _ask_kernel(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == shepherd:
            os.execv(command[0], command)  # noqa: S606
    finally:
        os._exit(os.EX_OSERR)


def _ask_kernel(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _end_like(code: int) -> NoReturn:
    """By the signal that ended the worker, or with its exit code."""
    if code < 0:
        with suppress(OSError):  # SIGKILL
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 128 - code)
