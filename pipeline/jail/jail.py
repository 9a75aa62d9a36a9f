"""
The jail: what a process that reads strangers' documents may not do.

A process jails itself (`enter`) before it reads the first byte of a document, and
cannot take it back; everything it starts is in the same jail.  There are tiers,
each on top of the one below, and as many as the kernel grants:

    1   limits of memory, processor, files and processes; own session; no new
        privileges; dies with its template
    2   files by Landlock: programs and libraries may be read and run, the files of
        this one call read, the own scratch folder written, nothing else.  System
        calls by seccomp: no socket of any kind, no look into other processes, no
        news of folders, nothing that changes limits, owners, modes or mounts
    3   namespaces of its own, with no network and no other process in them, and a
        scratch folder of bounded size in memory (`pipeline.jail.namespaces`)

What could not be had is named, never passed over in silence.  On another system
than Linux there is tier 1 alone.

Standard library only: it is imported by every template, and its start counts.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from pipeline.jail import landlock, namespaces, syscalls
from pipeline.jail.syscalls import checked, libc, prctl

Report = dict[str, Any]

# What one process and all it starts may have running at once, threads included;
# OpenCV and ONNX start one a core, each.
PROCESSES = 64 + 4 * (os.cpu_count() or 1)
# The same where only a user's processes can be counted, all of them together: the
# neighbours' must fit into it as well, and they come and go.
PROCESSES_MARGIN = 1024
DESCRIPTORS = 128  # arbitrary: a page needs about ten

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_CAPBSET_DROP = 24
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2

# What ends a process by default: the first of a namespace is spared by the kernel
# where it has no handler.
FATAL = (
    *(signal.SIGXCPU, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE),
    *(signal.SIGABRT, signal.SIGSYS, signal.SIGTERM),
)

# Capabilities that root's jailed processes keep, because what they must read may be
# another user's; Landlock says which files that are.  The first where they write to
# a folder of ours.
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
CAPABILITY_VERSION = 0x20080522
# Users of root's jailed processes: no other process has such a number, so that the
# limit of processes counts this one alone.
USERS_BEGIN = 2_000_000_000


def enter(profile: dict[str, Any], begun: Callable[[int | None], None]) -> Report:
    """
    Jail this process; what `profile` asks for and the kernel grants.

    Args:
        profile: `tier` (at most), `memory_bytes`, `file_bytes`, `scratch` (a folder),
            `scratch_bytes`, `scratch_files`, `files` and `folder` (what may be read),
            `usual` (what may be done beneath which path, whatever is called), `user` (a
            number for root's process),
            `stands` (what its template has already, and what that lacks).
        begun: Called before the walls stand, with a descriptor of the scratch folder
            where others cannot find it by its path.

    Returns:
        `tier`, and what stands: `landlock` (its ABI), `seccomp`, `namespaces`, `alone`
        (in a namespace of processes), `bounded` (the kernel bounds its scratch
        folder), `processes_max`, `missing` (what could not be had, and why).
    """
    # OpenMP reads this at its start.  Without it two tesseract processes ran at
    # 0.23 x the speed on two cores (futex storms).
    assert os.environ.get("OMP_THREAD_LIMIT") == "1"
    report: Report = {"tier": 1, "landlock": 0, "seccomp": False, "bounded": False}
    report |= profile["stands"]
    report["missing"] = dict(report["missing"])
    linux = sys.platform == "linux"
    had = Attempts(report["missing"])
    top: list[int] = []
    if report["alone"]:
        end_like_any_other()
        # First: Landlock and seccomp forbid what makes namespaces, and a user
        # namespace takes its own limit of processes from this moment's.
        sizes = (profile["scratch_bytes"], profile["scratch_files"], profile["user"])
        bounded = partial(namespaces.bounded_scratch, profile["scratch"], *sizes)
        report["bounded"] = had.attempt("scratch", lambda: top.append(bounded()))
    begun(top[0] if top else None)
    if linux:
        kept = (CAP_DAC_READ_SEARCH,) + (CAP_DAC_OVERRIDE,) * (not top)
        had.attempt("privileges", lambda: give_up_privileges(profile["user"], kept))
    limits(profile)
    beside = report["processes_max"]
    report["processes_max"] = limit_processes(had, beside) if linux else 0
    if linux:
        # Now and not earlier: a change of user or namespace clears it.
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    if linux and profile["tier"] >= 2:
        shut = partial(landlock.restrict, profile, had.note)
        had.attempt("files", lambda: report.update(landlock=shut()))
        report["seccomp"] = had.attempt("system calls", syscalls.restrict)
    report["tier"] = tier_of(report)
    return report


def tier_of(report: Report) -> int:
    """The highest tier of which nothing is missing."""
    if not (report["landlock"] and report["seccomp"]):
        return 1
    own = report["namespaces"] and report["alone"] and report["bounded"]
    return 3 if own else 2


def refused_here() -> dict[str, str]:
    """What tier 2 needs and the kernel has not, by name, with its reason; cheap."""
    if sys.platform != "linux":
        return {"kernel": f"{sys.platform} has limits alone"}
    missing: dict[str, str] = {}
    had = Attempts(missing)
    had.attempt("files", landlock.abi)
    had.attempt("system calls", syscalls.filters)
    return missing


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


def limit_processes(had: Attempts, beside: int) -> int:
    """
    Bound what a fork bomb can do; returns the limit, 0 when there is none.

    The kernel counts all processes of a user, so a small number would let
    neighbours stop each other.  Where this process is counted alone, in a user
    namespace or as a user of its own, the number is small; elsewhere it is `beside`,
    what the user had running when the template began, and a margin.
    """
    if os.getuid() == 0:
        had.note("processes", "the kernel does not limit root's")
        return 0
    alone = os.getuid() >= USERS_BEGIN or namespaces.in_user_namespace()
    lower(resource.RLIMIT_NPROC, PROCESSES if alone else beside)
    return resource.getrlimit(resource.RLIMIT_NPROC)[0]


def processes_beside() -> int:
    """A limit that leaves room for all that this user runs, as /proc shows it."""
    count = PROCESSES_MARGIN
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if entry.stat().st_uid == os.getuid():
                    count += len(os.listdir(f"/proc/{entry.name}/task"))
    return count


def die_with(parent: int) -> None:
    """End this process when its parent ends, even by kill -9."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the worker's affair
    if sys.platform == "linux":
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it was quicker


def end_like_any_other() -> None:
    """
    Have the signals end this process that end any other.

    Handlers in C, because one in Python would wait for C code, which may be the
    endless loop of a hostile document.  The exit status is the signal's number.
    """
    leave = ctypes.cast(libc()._exit, ctypes.c_void_p)
    for number in FATAL:
        libc().signal(ctypes.c_int(number), leave)


def give_up_privileges(user: int, kept: Iterable[int]) -> None:
    """Root's processes become `user`; nobody keeps a capability to misuse."""
    if not user:
        drop_capabilities(kept=())
        return
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
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    have = (ctypes.c_uint32 * 6)()  # twice: effective, permitted, inheritable
    checked(libc().capget(header, have))
    mask = have[1] & sum(1 << number for number in kept)
    checked(libc().capset(header, (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)))
    for number in kept:
        if ambient and mask >> number & 1:
            # Programs that we start must read the same files.
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, check=False)
