"""
The program of a jailed process: jail itself, then answer calls until stdin ends.

Started by `pipeline.jail.pool`, never by hand.  A frame is four bytes, big endian,
with the length of the JSON that follows.  The first frame out says that the jail
stands; after it each request `{"fn", "file", "kwargs"}` gets one answer, of one
kind:

    {"ok": value}            what the function returned
    {"raised": {...}}        class, code, message and hint of a `WaybillError`
    {"memory": true}         the function ran out of memory

Each answer also carries `rss`, the resident bytes of this process, and `peak`, the
most that any process it started and waited for ever had.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import resource
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from pipeline import errors
from pipeline.jail import jail

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


def main() -> None:
    """Run the process; `argv[2]` is the JSON of its limits and of what it may run."""
    config = json.loads(sys.argv[2])
    sys.path[1:1] = config["paths"]
    requests, answers = take_pipes()
    config["packages"] = packages(config["allow"])
    send(answers, {"ok": jail.enter(config), **sizes()})
    scratch = config["scratch"]
    while (request := receive(requests)) is not None:
        sweep(scratch)
        limit_cpu(request["cpu_s"])
        answer = call(request, config)
        send(answers, bounded(answer, config["output_bytes"]))
        if not request["leave"]:
            sweep(scratch)  # at once: a document's pieces are not left lying about


def take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """
    Move the protocol away from file descriptors 0 and 1.

    A stray `print`, a C library's warning or a program that reads its stdin
    then meets /dev/null and cannot corrupt a frame.  Duplicates are not
    inheritable, so no program keeps the pipes open either.
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


def packages(allow: list[str]) -> list[str]:
    """
    Folders of our own code, which the jail leaves readable.

    Importing the packages here, which are empty, finds them before the folder they
    lie in can no longer be listed: data may lie in it too.
    """
    names = {"pipeline", *(module.partition(".")[0] for module in allow)}
    return [
        folder
        for name in sorted(names)
        for folder in getattr(importlib.import_module(name), "__path__", ())
    ]


def limit_cpu(cpu_s: float) -> None:
    """
    From now on this process may burn `cpu_s`, and each one it starts about that.

    Beyond it the kernel sends SIGXCPU, whose default action ends the process: a
    handler in Python would wait for the C code that is burning the time.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = math.ceil(used.ru_utime + used.ru_stime + cpu_s)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def call(request: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Run one function; whatever it raises becomes an answer."""
    before = sizes()["peak"]
    try:
        fn = resolve(request["fn"], request["file"], config)
        return {"ok": fn(**request["kwargs"])}
    except errors.WaybillError as error:
        # A process that we started cannot tell us that memory was all; that it
        # died, and had grown large in this call, says it well enough.
        after = sizes()["peak"]
        large = after > before and after > config["memory_bytes"] // 2
        if error.code in config["want_of_memory"] and large:
            return {"memory": True}
        return {"raised": describe(error)}
    except MemoryError:
        return {"memory": True}
    except Exception as error:
        # The edge of the jail.  Only the type leaves it: a parser's message
        # may quote the document.
        kind = type(error).__name__
        return {
            "raised": {
                "kind": "Permanent",
                "code": "JAIL_ERROR",
                "message": f"{request['fn']} raised {kind}",
                "hint": "report this with the document's key; it is a bug of ours",
            }
        }


def resolve(name: str, file: str, config: dict[str, Any]) -> Callable[..., Any]:
    """
    The function `module:name`; only of an allowed module, or of a pinned `file`.

    Raises:
        Usage: JAIL_NOT_ALLOWED.
    """
    module, _, attribute = name.partition(":")
    found = None
    if file:
        # Here, because a start counts and most processes never need it.
        from pipeline.jail import custom

        path = Path(file)
        if custom.lies_within(path, config["pipelines"]):
            # A pinned file never changes, so it is run once.
            known = sys.modules.get(custom.module_name(path))
            found = known or custom.import_file(path)
    elif module in config["allow"]:
        found = importlib.import_module(module)
    if found is None:
        raise errors.Usage(
            f"{module} may not run in the jail",
            code="JAIL_NOT_ALLOWED",
            hint="the jail runs what its pool was made for, and files of pipelines",
        )
    fn: Callable[..., Any] = getattr(found, attribute)
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
    answer |= sizes()
    try:
        data = json.dumps(answer, allow_nan=False).encode()
    except (TypeError, ValueError):
        return refusal("JAIL_ANSWER", "the function's result is not JSON")
    except MemoryError:
        return json.dumps({"memory": True, "rss": 0, "peak": 0}).encode()
    if len(data) > output_bytes:
        text = f"the answer has {len(data)} bytes, {output_bytes} are allowed"
        return refusal("JAIL_OUTPUT", text)
    return data


def refusal(code: str, message: str) -> bytes:
    """A Permanent error in place of an answer that cannot be sent."""
    hint = "return less: put large results into files"
    raised = {"kind": "Permanent", "code": code, "message": message, "hint": hint}
    return json.dumps({"raised": raised, **sizes()}).encode()


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


def sizes() -> dict[str, int]:
    """
    Resident memory of this process now (0 where /proc does not tell), and the peak
    of the largest process that it started and waited for.
    """
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    if sys.platform != "darwin":
        peak *= 1024  # Linux counts in KiB
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            resident = int(statm.read().split()[1]) * resource.getpagesize()
    except OSError:
        resident = 0
    return {"rss": resident, "peak": peak}
