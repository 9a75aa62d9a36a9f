"""
The program of a jailed process: jail itself, answer one call, end.

Forked by `pipeline.jail.template`.  A frame is four bytes, big endian, with the length
of the JSON that follows.  The request `{"fn", "file", "kwargs", …}` comes in; out go a
byte that may carry a descriptor of the scratch folder, a frame that says that the jail
stands, and the answer, of one kind:

    {"ok": value}            what the function returned
    {"raised": {...}}        class, code, message and hint of a `WaybillError`
    {"memory": true}         the function ran out of memory

An answer also carries `peak`, the most bytes that any process it started and waited
for ever had.
"""

from __future__ import annotations

import errno
import importlib
import json
import math
import os
import resource
import socket
import struct
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pipeline import errors
from pipeline.jail import custom, jail

HEADER = struct.Struct(">I")
REQUEST_BYTES_MAX = 1 << 20  # arguments are paths and numbers
BEGUN = b"b"  # the byte that may carry a descriptor
CPU_GRACE_S = 1  # who does not end when told to is killed after it

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


def answer_one(talk: socket.socket, config: dict[str, Any]) -> None:
    """Read the request from `talk`, jail this process, and answer."""
    request = receive(talk)
    if request is None:
        return
    scratch = request["scratch"]
    report = jail.enter({**config, **request}, partial(begin, talk))
    send(talk, json.dumps({"ok": report}).encode())
    os.chdir(scratch)
    os.environ.update(TMPDIR=scratch, HOME=scratch)
    tempfile.tempdir = None  # whatever the template looked up
    limit_cpu(request["cpu_s"])
    answer = call(request, config, bounded_scratch=report["bounded"])
    send(talk, bounded(answer, config["output_bytes"]))


def begin(talk: socket.socket, top: int | None) -> None:
    """Hand the worker what it needs to find the scratch folder; later nobody may."""
    if top is None:
        talk.send(BEGUN)
    else:
        socket.send_fds(talk, [BEGUN], [top])
        os.close(top)


def limit_cpu(cpu_s: float) -> None:
    """
    From now on this process may burn `cpu_s`, and each one it starts about that.

    Beyond it the kernel sends SIGXCPU, whose action ends the process: a handler in
    Python would wait for the C code that is burning the time.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = math.ceil(used.ru_utime + used.ru_stime + cpu_s)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, soft + CPU_GRACE_S))


def call(
    request: dict[str, Any], config: dict[str, Any], *, bounded_scratch: bool
) -> dict[str, Any]:
    """Run one function; whatever it raises becomes an answer."""
    try:
        fn = resolve(request["fn"], request["file"], config)
        return {"ok": fn(**request["kwargs"])}
    except errors.WaybillError as error:
        # A process that we started cannot tell us that memory was all; that it
        # died, and was large, says it well enough.
        large = peak_bytes() > config["memory_bytes"] // 2
        if error.code in config["want_of_memory"] and large:
            return {"memory": True}
        return {"raised": describe(error)}
    except MemoryError:
        return {"memory": True}
    except (Exception, SystemExit, KeyboardInterrupt, GeneratorExit) as error:
        # The edge of the jail.  Only the type leaves it: a parser's message
        # may quote the document.  `sys.exit()` ends a call like any other error.
        full = (errno.EFBIG, *[errno.ENOSPC] * bounded_scratch)
        if isinstance(error, OSError) and error.errno in full:
            return {"raised": too_much_scratch(request["fn"])}
        where = line_of(error, request["file"])
        return {
            "raised": {
                "kind": "Permanent",
                "code": "JAIL_ERROR",
                "message": f"{request['fn']} raised {type(error).__name__}{where}",
                "hint": "report this with the document's key; it is a bug of ours",
            }
        }


def line_of(error: BaseException, file: str) -> str:
    """Where in a file of a pipeline an error was raised, in words."""
    found, trace = "", error.__traceback__
    while trace is not None:
        if file and trace.tb_frame.f_code.co_filename == file:
            found = f" at line {trace.tb_lineno}"
        trace = trace.tb_next
    return found


def too_much_scratch(name: str) -> dict[str, Any]:
    """What is raised when a call left more on disk than it may."""
    return {
        "kind": "Permanent",
        "code": "JAIL_SCRATCH",
        "message": f"{name} wrote more into its scratch folder than it may",
        "hint": "split the document, or give one call less to do",
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
        path = Path(file)
        if custom.lies_within(path, config["pipelines"]):
            found = custom.import_file(path)
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
    answer["peak"] = peak_bytes()
    try:
        data = json.dumps(answer, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        return refusal("JAIL_ANSWER", "the function's result is not JSON")
    except MemoryError:
        return json.dumps({"memory": True, "peak": 0}).encode()
    if len(data) > output_bytes:
        text = f"the answer has {len(data)} bytes, {output_bytes} are allowed"
        return refusal("JAIL_OUTPUT", text)
    return data


def refusal(code: str, message: str) -> bytes:
    """A Permanent error in place of an answer that cannot be sent."""
    hint = "return less: put large results into files"
    raised = {"kind": "Permanent", "code": code, "message": message, "hint": hint}
    return json.dumps({"raised": raised, "peak": peak_bytes()}).encode()


def send(talk: socket.socket, data: bytes) -> None:
    """Write one frame; as to a file, for the jail lets nobody send to a socket."""
    left = memoryview(HEADER.pack(len(data)) + data)
    while left:
        left = left[os.write(talk.fileno(), left) :]


def receive(talk: socket.socket) -> dict[str, Any] | None:
    """Read one request; None when the worker gave it up."""
    header = read(talk, HEADER.size)
    if len(header) < HEADER.size:
        return None
    (length,) = HEADER.unpack(header)
    assert length <= REQUEST_BYTES_MAX
    data = read(talk, length)
    if len(data) < length:
        return None
    request: dict[str, Any] = json.loads(data)
    return request


def read(talk: socket.socket, count: int) -> bytes:
    """So many bytes, or fewer at the end."""
    data = b""
    while len(data) < count and (more := os.read(talk.fileno(), count - len(data))):
        data += more
    return data


def peak_bytes() -> int:
    """The peak of the largest process that this one started and waited for."""
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB
