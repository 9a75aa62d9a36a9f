"""
The program of a child process: jail itself, then answer calls until stdin ends.

Started by `pipeline.children`, never by hand.  A frame is four bytes, big endian,
with the length of the JSON that follows.  The first frame out says that the jail
stands; after it each request `{"fn", "kwargs"}` gets one answer, of one kind:

    {"ok": value}            what the function returned
    {"raised": {...}}        class, code, message and hint of a `WaybillError`
    {"memory": true}         the function ran out of memory

Each answer also carries `rss`, the resident bytes of this process.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import resource
import shutil
import signal
import struct
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

from pipeline import errors

HEADER = struct.Struct(">I")
REQUEST_BYTES_MAX = 1 << 20  # arguments are paths and numbers

# Classes that keep their name across the pipe.  Any other error of ours arrives
# as the nearest of its bases in this table.
RAISABLE: dict[str, type[errors.WaybillError]] = {
    kind.__name__: kind
    for kind in (
        errors.Transient,
        errors.StageTimeout,
        errors.Throttled,
        errors.NeedsReview,
        errors.Unacceptable,
        errors.Permanent,
        errors.DeadlinePassed,
        errors.Usage,
        errors.Integrity,
    )
}

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38


def main() -> None:
    """Run the child; `argv[2]` is the JSON of its limits and its allow-list."""
    config = json.loads(sys.argv[2])
    sys.path[1:1] = config["paths"]
    requests, answers = take_pipes()
    jail(config)
    send(answers, {"ok": os.getpid(), "rss": resident_bytes()})
    while (request := receive(requests)) is not None:
        answer = call(request, frozenset(config["allow"]))
        send(answers, bounded(answer, config["output_bytes"]))
        sweep(os.environ["TMPDIR"])


def take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """
    Move the protocol away from file descriptors 0 and 1.

    A stray `print`, a C library's warning or a grandchild that reads its stdin
    then meets /dev/null and cannot corrupt a frame.  Duplicates are not
    inheritable, so no grandchild keeps the pipes open either.
    """
    requests, answers = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    # Whatever else the worker's event loop let slip into us (uvloop does): sockets
    # of the database have no place here.
    low, high = sorted((requests, answers))
    os.closerange(3, low)
    os.closerange(low + 1, high)
    os.closerange(high + 1, 4096)
    return os.fdopen(requests, "rb"), os.fdopen(answers, "wb")


def jail(config: dict[str, Any]) -> None:
    """Lower every limit before the first byte of a document is read."""
    # OpenMP reads this at its start.  Without it two tesseract processes ran at
    # 0.23 x the speed on two cores (futex storms).
    assert os.environ.get("OMP_THREAD_LIMIT") == "1"

    def end_group(_signal: int, _frame: object) -> None:
        os.killpg(0, signal.SIGKILL)

    # The kernel sends SIGTERM when the worker dies, even by kill -9; the handler
    # takes the whole group along, so no tesseract outlives its worker.
    signal.signal(signal.SIGTERM, end_group)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        # Under memory pressure a page dies, not the worker.  Some containers
        # mount /proc read-only; there this is not to be had.
        with (
            contextlib.suppress(OSError),
            open("/proc/self/oom_score_adj", "w", encoding="ascii") as score,
        ):
            score.write("900")
    os.nice(config["nice"])
    lower(resource.RLIMIT_AS, config["memory_bytes"])
    lower(resource.RLIMIT_FSIZE, config["file_bytes"])
    lower(resource.RLIMIT_NOFILE, 128)  # arbitrary: a page needs about ten
    lower(resource.RLIMIT_CORE, 0)
    # RLIMIT_FSIZE must be an error of the write, not the end of the process.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def lower(limit: int, value: int) -> None:
    """Set a limit, never above what this process was given."""
    _, hard = resource.getrlimit(limit)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(limit, (value, value))


def call(request: dict[str, Any], allow: frozenset[str]) -> dict[str, Any]:
    """Run one function; whatever it raises becomes an answer."""
    try:
        value = resolve(request["fn"], allow)(**request["kwargs"])
        return {"ok": value}
    except errors.WaybillError as error:
        return {"raised": describe(error)}
    except MemoryError:
        return {"memory": True}
    except Exception as error:
        # The edge of the child.  Only the type leaves it: a parser's message
        # may quote the document.
        kind = type(error).__name__
        return {
            "raised": {
                "kind": "Permanent",
                "code": "CHILD_ERROR",
                "message": f"{request['fn']} raised {kind}",
                "hint": "report this with the document's key; it is a bug of ours",
            }
        }


def resolve(name: str, allow: frozenset[str]) -> Callable[..., Any]:
    """The function `module:name`; only of modules on the allow-list."""
    module, _, attribute = name.partition(":")
    if module not in allow:
        raise errors.Usage(
            f"module {module} may not run in a child",
            code="CHILD_NOT_ALLOWED",
            hint="add it to the `allow` list of the child pool",
        )
    fn: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return fn


def describe(error: errors.WaybillError) -> dict[str, Any]:
    """What survives of an error: nearest known class, code, message, hint."""
    names = (base.__name__ for base in type(error).__mro__)
    return {
        "kind": next((name for name in names if name in RAISABLE), "Permanent"),
        "code": error.code,
        "message": error.message,
        "hint": error.hint,
        "retry_after_s": error.retry_after_s,
    }


def bounded(answer: dict[str, Any], output_bytes: int) -> bytes:
    """The answer as JSON, or an error in its place when it is too large."""
    answer["rss"] = resident_bytes()
    try:
        data = json.dumps(answer, allow_nan=False).encode()
    except (TypeError, ValueError):
        return refusal("CHILD_ANSWER", "the function's result is not JSON")
    except MemoryError:
        return json.dumps({"memory": True, "rss": 0}).encode()
    if len(data) > output_bytes:
        text = f"the answer has {len(data)} bytes, {output_bytes} are allowed"
        return refusal("CHILD_OUTPUT", text)
    return data


def refusal(code: str, message: str) -> bytes:
    """A Permanent error in place of an answer that cannot be sent."""
    hint = "return less: put large results into files"
    raised = {"kind": "Permanent", "code": code, "message": message, "hint": hint}
    return json.dumps({"raised": raised, "rss": resident_bytes()}).encode()


def send(answers: BinaryIO, data: bytes | dict[str, Any]) -> None:
    """Write one frame."""
    if isinstance(data, dict):
        data = json.dumps(data).encode()
    answers.write(HEADER.pack(len(data)) + data)
    answers.flush()


def receive(requests: BinaryIO) -> dict[str, Any] | None:
    """Read one request; None when the parent closed the pipe."""
    header = requests.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    (length,) = HEADER.unpack(header)
    assert length <= REQUEST_BYTES_MAX
    data = requests.read(length)
    if len(data) < length:
        return None
    request: dict[str, Any] = json.loads(data)
    return request


def sweep(folder: str) -> None:
    """Empty the scratch folder: what a call left there is of no use to the next."""
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            os.unlink(entry.path)


def resident_bytes() -> int:
    """Resident memory of this process now; 0 where /proc does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()
    except OSError:
        return 0
