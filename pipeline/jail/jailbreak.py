"""
Jailbreak: what a process that a document took over would try, tried.

`self_test` runs `attempts` in a process of the real pool, under the real profile, and
says what was refused.  That a restriction was asked for proves nothing; that its
breach fails does.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import platform
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from pipeline.jail import syscalls

ALLOWED = "ALLOWED"
FORKS_MAX = 256  # more than a jail with a small limit allows, harmless elsewhere
PTRACE_SEIZE = 0x4206  # unlike PTRACE_ATTACH it does not stop the worker
TIMEOUT_S = 60.0
GROUPS = {
    "network": ("tcp", "udp", "unix", "abstract", "raw", "netlink"),
    "files": (
        *("read", "list", "write", "write_store", "mode"),
        *("neighbour", "inotify", "fanotify", "handle", "link"),
    ),
    "processes": ("ptrace", "environment", "signal", "session", "pidfd", "mount"),
    "limits": ("forks", "file_size", "memory", "processor", "memfd", "shared"),
}


class Pool(Protocol):
    """A pool of jailed processes, as far as it is tested."""

    readable: tuple[Path, ...]

    @property
    def jail(self) -> dict[str, Any]:
        """What stands of the jail."""
        ...

    async def run(
        self, fn: Callable[..., Any], /, *, timeout_s: float, **kwargs: Any
    ) -> Any:
        """Run `fn(**kwargs)` in the jail."""
        ...


async def self_test(pool: Pool, programs: Sequence[str] = ()) -> dict[str, Any]:
    """
    Have a jailed process try everything; takes a fraction of a second.

    Returns:
        What stands (`tier`, `landlock`, `seccomp`, `namespaces`, `processes_max`,
        `missing`); `attempts`, each with the error that met it, or ALLOWED; for
        `network`, `files`, `processes` and `limits` whether all of theirs were
        blocked ("blocked" or "open"); `network_attempts` and
        `network_attempts_allowed`; of each of `programs` whether it `runs` there.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "canary").write_text("nobody's business")
        neighbour = artifact_beside(pool.readable, folder)
        stack.callback(neighbour.unlink)
        tcp, udp, local, abstract = (
            stack.enter_context(socket.socket(family, kind))
            for family, kind in (
                (socket.AF_INET, socket.SOCK_STREAM),
                (socket.AF_INET, socket.SOCK_DGRAM),
                (socket.AF_UNIX, socket.SOCK_STREAM),
                (socket.AF_UNIX, socket.SOCK_STREAM),
            )
        )
        # Ours, and listening: what it does not reach, the jail refused.
        for ours in (tcp, udp):
            ours.bind(("127.0.0.1", 0))
        local.bind(str(folder / "socket"))
        name = f"\0waybill-{os.getpid()}" if sys.platform == "linux" else ""
        if name:
            abstract.bind(name)
            abstract.listen()
        tcp.listen()
        local.listen()
        tried: dict[str, str] = await pool.run(
            attempts,
            timeout_s=TIMEOUT_S,
            tcp=tcp.getsockname()[1],
            udp=udp.getsockname()[1],
            unix=str(folder / "socket"),
            abstract=name,
            outside=str(folder),
            store=str(pool.readable[0]) if pool.readable else "",
            worker=os.getpid(),
            # Not as a path: what an argument names may be read.
            neighbour=list(os.fspath(neighbour).encode()),
        )
        runs = {
            program: await pool.run(runs_here, timeout_s=TIMEOUT_S, program=program)
            for program in programs
        }
    allowed = {name for name, met in tried.items() if met == ALLOWED}
    verdicts = {
        group: "open" if allowed & set(names) else "blocked"
        for group, names in GROUPS.items()
    }
    return {
        **pool.jail,
        **verdicts,
        "network_attempts": len(GROUPS["network"]),
        "network_attempts_allowed": len(allowed & set(GROUPS["network"])),
        "attempts": tried,
        "runs": runs,
    }


def artifact_beside(readable: Sequence[Path], folder: Path) -> Path:
    """A new file like somebody else's, where artifacts lie, or in `folder`."""
    place = next((root for root in readable if os.access(root, os.W_OK)), folder)
    descriptor, name = tempfile.mkstemp(prefix="jailbreak-", dir=place)
    os.close(descriptor)
    return Path(name)


# -- in the jail ----------------------------------------------------------------------


def attempts(
    tcp: int,
    udp: int,
    unix: str,
    abstract: str,
    outside: str,
    store: str,
    worker: int,
    neighbour: Sequence[int],
) -> dict[str, str]:
    """Try everything once; what met each attempt: an errno's name, or ALLOWED."""
    local = ("127.0.0.1", tcp)
    beside = os.fsdecode(bytes(neighbour))
    canary = os.path.join(outside, "canary")
    every: dict[str, Callable[[], object]] = {
        "tcp": lambda: reach(socket.AF_INET, socket.SOCK_STREAM, local),
        "udp": lambda: send(("127.0.0.1", udp)),
        "unix": lambda: reach(socket.AF_UNIX, socket.SOCK_STREAM, unix),
        "abstract": lambda: reach(socket.AF_UNIX, socket.SOCK_STREAM, abstract),
        "raw": lambda: reach(socket.AF_INET, socket.SOCK_RAW, proto=1),
        "netlink": lambda: reach(getattr(socket, "AF_NETLINK", -1), socket.SOCK_RAW),
        "read": lambda: Path(canary).read_bytes(),
        "list": lambda: os.listdir(store or outside),
        "write": lambda: leave(outside),
        "write_store": lambda: leave(store or outside),
        "mode": lambda: os.chmod(canary, 0o644),
        "neighbour": lambda: Path(beside).read_bytes(),
        "inotify": lambda: system("inotify_init1", 0),
        "fanotify": lambda: system("fanotify_init", 0, 0),
        "handle": lambda: system("open_by_handle_at", -100, 0, 0),
        "link": lambda: os.link(beside, os.path.join(os.environ["TMPDIR"], "link")),
        "ptrace": lambda: forked(lambda: trace(worker)),
        "environment": lambda: Path(f"/proc/{worker}/environ").read_bytes(),
        "signal": lambda: os.kill(worker, 0),
        "session": lambda: forked(os.setsid),
        "pidfd": lambda: system("pidfd_getfd", 0, 0, 0),
        "mount": lambda: system("mount", 0, 0, 0, 0, 0),
        "forks": forks,
        "file_size": too_large_a_file,
        "memory": too_much_memory,
        "processor": lambda: "SIGXCPU" if soft(resource.RLIMIT_CPU) else None,
        "memfd": lambda: system("memfd_create", b"jailbreak", 0),
        "shared": lambda: system("shmget", 0, 4096, 0o600 | 0o1000),
    }
    return {name: met(attempt) for name, attempt in every.items()}


def met(attempt: Callable[[], object]) -> str:
    """What an attempt ended with."""
    try:
        refused = attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, type(error).__name__)
    # A limit answers with its name, because it can only be met by reaching it.
    return refused if isinstance(refused, str) else ALLOWED


def system(name: str, *arguments: int | bytes) -> None:
    """A system call by its name; one that is let through fails on its arguments."""
    if sys.platform != "linux" or platform.machine() not in syscalls.AUDIT_ARCH:
        raise OSError(errno.ENOSYS, "not tried")
    column = 0 if platform.machine() == "x86_64" else 1
    number = syscalls.REFUSED[name][column]
    wide = [ctypes.c_long(x) if isinstance(x, int) else x for x in arguments]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(ctypes.c_long(number or -1), *wide) < 0:
        met = ctypes.get_errno()
        if met in (errno.EPERM, errno.EACCES, errno.ENOSYS):
            raise OSError(met, os.strerror(met))


def reach(family: int, kind: int, address: Any = None, *, proto: int = 0) -> None:
    with socket.socket(family, kind, proto) as client:
        client.settimeout(2.0)
        if address is not None:
            client.connect(address)


def send(address: tuple[str, int]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"?", address)


def leave(folder: str) -> None:
    """Write a new file, and take it back."""
    path = os.path.join(folder, f"jailbreak-{os.getpid()}")
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    os.unlink(path)


def trace(pid: int) -> None:
    """Look into the worker."""
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, "not tried")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(ctypes.c_long(PTRACE_SEIZE), pid, None, None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def forked(attempt: Callable[[], object]) -> None:
    """
    An attempt in a process that ends at once.

    Where it is allowed it would change this one: a tracer that lives on holds up
    the worker's signals, and who left the group is not killed with it.
    """
    pid = os.fork()
    if pid == 0:
        try:
            attempt()
        except OSError as error:
            os._exit(error.errno or errno.EPERM)
        os._exit(0)
    number = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if number:
        raise OSError(number, os.strerror(number))


def forks() -> str:
    """A bomb of `FORKS_MAX` processes, which a limit ends earlier."""
    started: list[int] = []
    try:
        while len(started) < FORKS_MAX:
            pid = os.fork()
            if pid == 0:
                while True:
                    time.sleep(60)
            started.append(pid)
    finally:
        for pid in started:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    # No end was seen; a limit for all processes of the user may lie further on.
    return ALLOWED if not soft(resource.RLIMIT_NPROC) else "RLIMIT_NPROC"


def too_large_a_file() -> None:
    size = soft(resource.RLIMIT_FSIZE)
    if size:
        with tempfile.TemporaryFile() as file:
            os.pwrite(file.fileno(), b"?", size)


def too_much_memory() -> None:
    size = soft(resource.RLIMIT_AS)
    if size:
        mmap.mmap(-1, size).close()


def soft(limit: int) -> int:
    """A limit's value; 0 for none."""
    value = resource.getrlimit(limit)[0]
    return 0 if value == resource.RLIM_INFINITY else value


def runs_here(program: str) -> bool:
    """Whether a program starts in here, with all the libraries it needs."""
    path = shutil.which(program)
    if path is None:
        return False
    try:
        ran = subprocess.run(
            [path, "--version"], capture_output=True, timeout=30, check=False
        )
    except OSError:
        return False
    return ran.returncode == 0
