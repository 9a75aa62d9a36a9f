"""
What a taken over process does to its neighbours: one function an attempt.

Each runs jailed, as somebody's call, and returns what it got.  The jail's own
`jailbreak` tries the walls; here it is tried to reach another call, to stay after the
own one, and to take more than a share of the machine.
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import json
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STAYING = "breakout-stays"  # in the command line of what stays
NEST = 1500
FORKED = 6  # processes that hoard memory


def spy(store: list[int], wait_s: float) -> list[str]:
    """Learn what others put into the store meanwhile: names, or bytes."""
    root = os.fsdecode(bytes(store))
    libc = ctypes.CDLL(None, use_errno=True)
    seen: list[str] = []
    watching = libc.inotify_init1(os.O_NONBLOCK)
    if watching >= 0:
        for folder in (root, *(f"{root}/{n:02x}" for n in range(256))):
            libc.inotify_add_watch(watching, folder.encode(), 0xFFF)
    until = time.monotonic() + wait_s
    while time.monotonic() < until:
        time.sleep(0.05)
        with contextlib.suppress(OSError):
            seen += [f"named {os.read(watching, 65536)!r}"]
        for folder in (root, f"{root}/fresh", os.path.dirname(os.environ["TMPDIR"])):
            with contextlib.suppress(OSError):
                seen += [f"listed {name}" for name in os.listdir(folder)]
    return seen


def read_hidden(path: list[int]) -> str:
    """Read a document whose name is known, and which is none of this call's."""
    try:
        return Path(os.fsdecode(bytes(path))).read_text()
    except OSError:
        return ""


def stay() -> None:
    """Leave processes and threads that go on after the call, by every way there is."""
    program = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        "import time; time.sleep(600)",
        STAYING,
    ]
    for new_session in (False, True):
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.Popen(program, start_new_session=new_session)
    for leave in (None, os.setsid, lambda: os.setpgid(0, 0)):
        if os.fork() == 0:
            with contextlib.suppress(OSError):
                if leave:
                    leave()
            if os.fork() == 0:
                for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGXCPU):
                    signal.signal(number, signal.SIG_IGN)
                while True:  # and answer whoever asks next
                    for descriptor in range(3, 20):
                        with contextlib.suppress(OSError):
                            os.write(descriptor, forged("stolen"))
                    time.sleep(0.01)
            os._exit(0)
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    time.sleep(0.2)  # they are up, and write to whatever they find


def forged(word: str) -> bytes:
    """A frame like an answer."""
    data = json.dumps({"ok": word, "peak": 0}).encode()
    return len(data).to_bytes(4, "big") + data


def poison() -> None:
    """Change what the next call would find in its process, were it the same one."""
    setattr(builtins, STAYING, True)
    os.environ[STAYING] = "1"
    Path(os.environ["TMPDIR"], STAYING).write_text("left for the next one")


def look_around(page: str) -> dict[str, Any]:
    """The next call: reads its page, and looks whether anybody was here."""
    mine = Path(page).read_text()
    found = os.listdir(os.environ["TMPDIR"])
    found += [STAYING] * (hasattr(builtins, STAYING) or STAYING in os.environ)
    return {"page": mine, "found": found}


def lie() -> None:
    """Answer with an error whose code is a document."""
    raised = {"kind": "Permanent", "code": "X" * 500_000, "message": "", "hint": ""}
    data = json.dumps({"raised": raised, "peak": 0}).encode()
    for descriptor in range(3, 20):
        with contextlib.suppress(OSError):
            os.write(descriptor, len(data).to_bytes(4, "big") + data)
    os._exit(0)


# -- more than a share ----------------------------------------------------------------


def fill(gigabytes: int, unlinked: bool) -> int:
    """Write that much into the scratch folder, in files with or without a name."""
    block, kept, written = b"x" * (16 << 20), [], 0
    for number in range(gigabytes * 2):
        file = open(f"large-{number}", "wb", buffering=0)  # noqa: SIM115  held open
        kept.append(file)
        if unlinked:
            os.unlink(file.name)
        for _ in range(32):
            written += file.write(block)
    return written


def scatter(files: int) -> int:
    """Make that many files."""
    for number in range(files):
        os.close(os.open(f"f{number}", os.O_CREAT | os.O_WRONLY, 0o600))
    return files


def nest() -> int:
    """Make folders in folders, deeper than a path is long or a recursion goes."""
    for _ in range(NEST):
        os.mkdir("a-folder-in-a-folder")
        os.chdir("a-folder-in-a-folder")
    return NEST


def hoard(gigabytes: int) -> int:
    """Take memory that no limit of one process counts: in files, and in others."""
    libc = ctypes.CDLL(None, use_errno=True)
    anonymous = libc.memfd_create(b"hoard", 0)
    if anonymous >= 0:
        return fill_descriptor(anonymous, gigabytes << 30)
    share = (gigabytes << 30) // FORKED
    pids = [started(lambda: touch(share)) for _ in range(FORKED)]
    time.sleep(20)  # more than enough for who watches
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    return share * FORKED


def fill_descriptor(descriptor: int, size: int) -> int:
    block = b"x" * (16 << 20)
    return sum(os.write(descriptor, block) for _ in range(size // len(block)))


def touch(size: int) -> None:
    """Hold memory, and every page of it."""
    held = mmap.mmap(-1, size)
    for at in range(0, size, 4096):
        held[at] = 1
    time.sleep(600)


def started(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return pid


def linger() -> None:
    """Start a program, and never end."""
    subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)", STAYING]
    )
    time.sleep(600)
