"""What the tests of a pool let run in the jail: honest, greedy and broken functions."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from pipeline.errors import Throttled, Transient, Unacceptable


def echo(value: Any) -> Any:
    return value


def whoami() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "leads": os.getpgid(0) == os.getsid(0) == os.getpid(),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "environment": sorted(os.environ),
        "omp": os.environ["OMP_THREAD_LIMIT"],
        "scratch": os.environ["TMPDIR"],
        "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
        "descriptors": len(os.listdir("/proc/self/fd")) - 1,
    }


def babble(value: str) -> str:
    print("a stray print", flush=True)
    os.write(1, b"\0\0\0\0 bytes of a C library")
    subprocess.run(["echo", "started from here"], check=True)
    assert sys.stdin.read() == ""  # nor can requests be eaten
    return value


def remember() -> int:
    """How often it was called in this process, before this time."""
    seen = getattr(remember, "seen", 0)
    setattr(remember, "seen", seen + 1)  # noqa: B010
    return int(seen)


def start_a_thread() -> None:
    """Like a library that keeps one for ever, and does without where it must."""
    thread = threading.Thread(target=time.sleep, args=(600,), daemon=True)
    with contextlib.suppress(RuntimeError):
        thread.start()


def of_threads() -> list[object]:
    """How many there are when one was asked for; what a program says."""
    start_a_thread()
    said = subprocess.run(["echo", "hello"], check=True, capture_output=True)
    return [len(os.listdir("/proc/self/task")), said.stdout.decode().strip()]


def rest(s: float) -> None:
    time.sleep(s)


def linger() -> None:
    """Start another process, and never end."""
    subprocess.Popen(["sleep", "600"])
    time.sleep(600)


def grind() -> None:
    """The same, inside a C library that looks at no signal."""
    subprocess.Popen(["sleep", "600"])
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)


def crash(times: int) -> str:
    """Die like C code in the first `times` processes of a pool."""
    if number() <= times:
        ctypes.string_at(0)
    return "alive"


def number() -> int:
    """The how manyeth process of its pool this is."""
    return int(os.environ["TMPDIR"].rpartition("-")[2])


def devour() -> int:
    return len(bytearray(8 << 30))


def burn() -> None:
    """Keep the processor busy in C code, where no Python handler would run."""
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000_000)


def starve(megabytes: int) -> None:
    """Have a program that we start grow, and die."""
    grow = f"x = bytearray(b'x' * ({megabytes} << 20)); import os; os.abort()"
    ended = subprocess.run([sys.executable, "-I", "-S", "-c", grow], check=False)
    assert ended.returncode == -signal.SIGABRT
    raise Transient("it died", code="OCR_CRASHED")


def fill_disk(size: int) -> None:
    with open("large", "wb") as file:
        file.truncate(size)


def leave_litter() -> list[str]:
    found = os.listdir(os.environ["TMPDIR"])
    Path("litter").write_text("left behind")
    return found


def chatter(size: int) -> str:
    return "x" * size


def refuse() -> None:
    raise Unacceptable("no", code="PDF_ENCRYPTED", hint="remove the password")


def slow_down() -> None:
    raise Throttled("wait", retry_after_s=7.0)


def unpack(size: int) -> list[str]:
    """Leave files, and what is none: the names of all."""
    Path("a.txt").write_text("first")
    Path("b \N{LATIN SMALL LETTER U WITH DIAERESIS}.bin").write_bytes(b"x" * size)
    Path("folder").mkdir()
    Path("folder", "within").write_text("not taken")
    Path("link").symlink_to("/etc/passwd")
    return sorted(os.listdir("."))


def scatter(count: int) -> None:
    for each in range(count):
        Path(str(each)).touch()


def litter_and_fail() -> None:
    Path("a.txt").write_text("first")
    raise Unacceptable("broken", code="CORRUPT")


def blunder() -> None:
    raise ZeroDivisionError("a line of the document")
