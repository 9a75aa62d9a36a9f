"""
Proof: who must survive a pipeline's files has another process import them first.

The top level of a file may end its process without an exception (`os._exit`, a crash
in C), or keep every thread of it from going on; neither can be seen from inside.  What
a file raises is no matter here: loading it says that better.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pipeline.errors import Usage
from pipeline.jail.custom import import_file
from pipeline.loading import IMPORT_S, hangs

ROOT = Path(__file__).resolve().parents[1]
BOOT = (
    "-c",
    "import sys; sys.path.insert(0, sys.argv[1]); import pipeline.proof as it; "
    "it.main(int(sys.argv[2]), sys.argv[3:])",
    str(ROOT),
)
BEGUN, OVER = b".", b"!"
STARTS_S = 5.0  # of a process, on a busy machine
PROOF_S = IMPORT_S + STARTS_S


def prove(paths: Sequence[Path], patience_s: float = PROOF_S) -> None:
    """
    Import files in a process that may die of it; blocking.

    Raises:
        Usage: one of them ends the process; PIPELINE_HANGS, it takes longer.
        OSError: the machine has no room for a process.
    """
    if not paths:
        return
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)  # what it has forked may hold the other end
    try:
        with open(theirs, "wb"):
            process = subprocess.Popen(
                [sys.executable, *BOOT, str(theirs), *map(str, paths)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs],
                start_new_session=True,
            )
        code = _code(process, patience_s)
        said = _said(ours)
    finally:
        os.close(ours)
    if said.endswith(OVER):
        return
    at = paths[max(len(said) - 1, 0)]
    if code is None:
        raise hangs(at, patience_s)
    raise Usage(
        f"{at} cannot be imported: it ends the process that does (exit code {code})",
        hint="what a file does at its top level is done by whoever looks at it",
    )


def main(tell: int, paths: Sequence[str]) -> None:
    """In the process: say which file begins, and that all are over."""
    process = os.getpid()
    for path in paths:
        os.write(tell, BEGUN)
        with suppress(BaseException):
            import_file(Path(path))
        if os.getpid() != process:
            os._exit(0)  # a copy that a file forked: it proves nothing
    os.write(tell, OVER)
    os._exit(0)  # whatever threads they have left


def _code(process: subprocess.Popen[bytes], patience_s: float) -> int | None:
    """Its exit code; None when it had to be killed."""
    try:
        return process.wait(patience_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _said(file: int) -> bytes:
    try:
        return os.read(file, 4096)
    except BlockingIOError:
        return b""
