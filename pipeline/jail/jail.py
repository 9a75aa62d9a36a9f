"""
The jail: what a process that reads strangers' documents may not do.

A process jails itself (`enter`) before it reads the first byte of a document, and
cannot take it back; everything it starts is in the same jail.  There are tiers,
each on top of the one below, and as many as the kernel grants:

    1   limits of memory, processor, files and processes; own session; no new
        privileges; dies with its worker
    2   files by Landlock: programs and libraries may be read and run, artifacts
        read by name, the own scratch folder written, nothing else.  System calls
        by seccomp: no socket of any kind, no look into other processes, nothing
        that changes limits, owners, modes or mounts
    3   namespaces of its own, with no network in them

What could not be had is named, never passed over in silence.  On another system
than Linux there is tier 1 alone.

Standard library only: it is imported by every jailed process, and its start counts.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.jail import landlock, syscalls

Report = dict[str, Any]

# What one process and all it starts may have running at once, threads included;
# OpenCV and ONNX start one a core, each.
PROCESSES = 64 + 4 * (os.cpu_count() or 1)
# The same where only a user's processes can be counted, all of them together: the
# neighbours' must fit into it as well, and they come and go.
PROCESSES_MARGIN = 1024
DESCRIPTORS = 128  # arbitrary: a page needs about ten

WORKER_LOOK_S = 0.5  # how often a process looks whether its worker is still there

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_CAPBSET_DROP = 24
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2

CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
NAMESPACES = CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS

# Capabilities that root's jailed processes keep, because what they must read may be
# another user's; Landlock says which files that are.
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
CAPABILITY_VERSION = 0x20080522
# Users of root's jailed processes: no other process has such a number, so that the
# limit of processes counts this one alone.
USERS_BEGIN = 2_000_000_000


def enter(profile: dict[str, Any]) -> Report:
    """
    Jail this process; what `profile` asks for and the kernel grants.

    Args:
        profile: `tier` (at most), `memory_bytes`, `file_bytes`, `nice`, `scratch`
            (a folder), `readable` (folders), `packages` (folders of our code),
            `worker` (the pid of the parent).

    Returns:
        `tier`, and what stands: `landlock` (its ABI), `seccomp`, `namespaces`,
        `processes_max`, `missing` (what could not be had, and why).
    """
    # OpenMP reads this at its start.  Without it two tesseract processes ran at
    # 0.23 x the speed on two cores (futex storms).
    assert os.environ.get("OMP_THREAD_LIMIT") == "1"
    report: Report = {"tier": 1, "landlock": 0, "seccomp": False, "namespaces": False}
    report |= {"processes_max": 0, "missing": {}}
    linux = sys.platform == "linux"
    tier = profile["tier"] if linux else 1
    if linux:
        prefer_to_die()
    else:
        report["missing"]["kernel"] = f"{sys.platform} has limits alone"
    os.nice(profile["nice"])
    # Namespaces first: Landlock and seccomp forbid what makes them, and a user
    # namespace takes its own limit of processes from this moment's.
    had = Attempts(report["missing"])
    if tier >= 3:
        report["namespaces"] = had.attempt("namespaces", namespaces)
    if linux:
        had.attempt("privileges", give_up_privileges)
    limits(profile)
    report["processes_max"] = limit_processes(had) if linux else 0
    die_with(profile["worker"])
    if tier >= 2:
        shut = partial(landlock.restrict, profile, had.note)
        had.attempt("files", lambda: report.update(landlock=shut()))
        report["seccomp"] = had.attempt("system calls", syscalls.restrict)
    if report["landlock"] and report["seccomp"]:
        report["tier"] = 3 if report["namespaces"] else 2
    watch_worker(profile["worker"])
    return report


class Attempts:
    """Tries what may not be granted, and notes what was not."""

    def __init__(self, missing: dict[str, str]) -> None:
        self._missing = missing

    def attempt(self, name: str, fn: Callable[[], object]) -> bool:
        """Whether `fn` went through."""
        try:
            fn()
        except OSError as error:
            self.note(name, error.strerror or "refused")
            return False
        return True

    def note(self, name: str, why: str) -> None:
        """Name something that this jail lacks."""
        self._missing[name] = why


# -- tier 1 ---------------------------------------------------------------------------


def prefer_to_die() -> None:
    """Under memory pressure a page dies, not the worker."""
    # Some containers mount /proc read-only; there this is not to be had.
    with (
        contextlib.suppress(OSError),
        open("/proc/self/oom_score_adj", "w", encoding="ascii") as score,
    ):
        score.write("900")


def limits(profile: dict[str, Any]) -> None:
    """The limits that every system has; processor time is limited call by call."""
    lower(resource.RLIMIT_AS, profile["memory_bytes"])
    lower(resource.RLIMIT_FSIZE, profile["file_bytes"])
    lower(resource.RLIMIT_NOFILE, DESCRIPTORS)
    lower(resource.RLIMIT_CORE, 0)
    # RLIMIT_FSIZE must be an error of the write, not the end of the process.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def lower(limit: int, value: int) -> None:
    """Set a limit, never above what this process was given."""
    _, hard = resource.getrlimit(limit)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(limit, (value, value))


def limit_processes(had: Attempts) -> int:
    """
    Bound what a fork bomb can do; returns the limit, 0 when there is none.

    The kernel counts all processes of a user, so a small number would let
    neighbours stop each other.  Where this process is counted alone, in a user
    namespace or as a user of its own, the number is small; elsewhere it is what
    the user has running now, and a margin.
    """
    if os.getuid() == 0:
        had.note("processes", "the kernel does not limit root's")
        return 0
    alone = os.getuid() >= USERS_BEGIN or in_user_namespace()
    value = PROCESSES if alone else of_this_user() + PROCESSES_MARGIN
    lower(resource.RLIMIT_NPROC, value)
    return resource.getrlimit(resource.RLIMIT_NPROC)[0]


def in_user_namespace() -> bool:
    """Whether this process made a user namespace: it maps one user alone."""
    try:
        return Path("/proc/self/uid_map").read_text("ascii").split()[2:] == ["1"]
    except OSError:
        return False


def of_this_user() -> int:
    """Threads that this user runs, as far as /proc shows them."""
    count = 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if entry.stat().st_uid == os.getuid():
                    count += len(os.listdir(f"/proc/{entry.name}/task"))
    return count


def die_with(worker: int) -> None:
    """End this process and all it started when the worker ends, even by kill -9."""

    def end_group(_signal: int, _frame: object) -> None:
        os.killpg(0, signal.SIGKILL)

    # The kernel sends SIGTERM; the handler takes the whole group along, so no
    # tesseract outlives its worker.
    signal.signal(signal.SIGTERM, end_group)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        # Now and not earlier: a change of user or namespace clears it.
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        prctl(PR_SET_NO_NEW_PRIVS, 1)
    if os.getppid() != worker:
        os.killpg(0, signal.SIGKILL)  # it was quicker


def watch_worker(worker: int) -> None:
    """
    The same while C code runs, which may be the endless loop of a hostile document:
    a signal's handler in Python would wait for it to end, this thread does not.

    Called when the jail stands, because its walls bind each thread by itself.
    """

    def watch() -> None:
        while os.getppid() == worker:
            time.sleep(WORKER_LOOK_S)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def give_up_privileges() -> None:
    """Root's processes become somebody else; nobody keeps a capability to misuse."""
    if os.geteuid() != 0:
        drop_capabilities(kept=())
        return
    kept = (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH)
    user = USERS_BEGIN + os.getpid()
    changed = False
    prctl(PR_SET_KEEPCAPS, 1)
    try:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        changed = True
    finally:
        # Without the right to change the user at least the capabilities go.
        drop_capabilities(kept, ambient=changed)


def drop_capabilities(kept: Iterable[int], *, ambient: bool = False) -> None:
    """Give up all capabilities but those of `kept` that this process has."""
    for number in range(64):
        # It ends with EINVAL, or at once with EPERM for an ordinary user.
        if number not in kept and prctl(PR_CAPBSET_DROP, number, check=False):
            break
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    have = (ctypes.c_uint32 * 6)()  # twice: effective, permitted, inheritable
    checked(libc.capget(header, have))
    mask = have[1] & sum(1 << number for number in kept)
    checked(libc.capset(header, (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)))
    for number in kept:
        if ambient and mask >> number & 1:
            # Programs that we start must read the same files.
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, check=False)


# -- tier 3 ---------------------------------------------------------------------------


def namespaces() -> None:
    """
    Leave the network, the IPC objects and the host name of this machine.

    Raises:
        OSError: the kernel, or a container around us, does not let us.
    """
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        unshare(NAMESPACES)
        return
    # Anybody else needs a user namespace, and is themselves in it.  Root without
    # its capabilities may not have one: it would be nobody there.
    unshare(NAMESPACES | CLONE_NEWUSER)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def unshare(flags: int) -> None:
    checked(ctypes.CDLL(None, use_errno=True).unshare(flags))


def prctl(option: int, *values: int, check: bool = True) -> int:
    """The system call of that name; 0 when it went through."""
    padded = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    status = int(ctypes.CDLL(None, use_errno=True).prctl(option, *padded))
    if check:
        checked(status)
    return status


def checked(status: int) -> None:
    """Raise the error of a C function that returned -1."""
    if status < 0:
        number = ctypes.get_errno() or errno.EPERM
        raise OSError(number, os.strerror(number))
