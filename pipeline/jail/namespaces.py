"""
Namespaces: what a template, and each process that it forks, sees of the machine.

The costly ones are made once, by the template: network, IPC objects, host name,
processes.  Each forked process gets two of its own: of processes, in which it is the
first, so that the kernel ends with it whatever it started; and of mounts, in which its
scratch folder is a file system of bounded size that goes with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path

from pipeline.jail.syscalls import call, checked, libc

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
NETWORK = CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS
EVERY = NETWORK | CLONE_NEWNS | CLONE_NEWPID

MS_REC, MS_PRIVATE = 0x4000, 0x40000
MS_SAFE = 2 | 4 | 8  # no setuid, no devices, no programs
# Of the calls that mount by descriptor.
FSCONFIG_SET_STRING, FSCONFIG_CMD_CREATE = 1, 6
CLOEXEC, EMPTY_PATH, AT_FDCWD = 1, 4, -100
MOUNT_ATTR_SAFE = 2 | 4 | 8


def granted(flags: int) -> OSError | None:
    """Why these cannot be had, found by trying in a process of its own."""
    pid = os.fork()
    if pid == 0:
        try:
            leave(flags)
            if flags & CLONE_NEWPID:
                started = os.fork()
                if started == 0:
                    show_own_processes()
                    os._exit(0)
                os._exit(os.waitstatus_to_exitcode(os.waitpid(started, 0)[1]))
            os._exit(0)
        except OSError as error:
            os._exit(error.errno or 1)
        finally:
            os._exit(1)
    number = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return OSError(number, os.strerror(abs(number))) if number else None


def leave(flags: int) -> None:
    """
    Leave what `flags` name; the processes are left by what is forked from now on.

    Raises:
        OSError: the kernel, or a container around us, does not let us.
    """
    unshare(flags)
    if flags & CLONE_NEWNS:
        # What is mounted from here on is nobody else's.
        mount("none", "/", "", MS_REC | MS_PRIVATE)


def unshare(flags: int) -> None:
    """The system call; who is not root gets a user namespace to do it in."""
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        checked(libc().unshare(flags))
        return
    # They are themselves in it.  Root without its capabilities may not have one: it
    # would be nobody there.
    checked(libc().unshare(flags | CLONE_NEWUSER))
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def show_own_processes() -> None:
    """Have /proc show the processes of this namespace and no others."""
    mount("proc", "/proc", "proc", MS_SAFE)


def mount(what: str, where: str, kind: str, flags: int) -> None:
    """The system call."""
    given = (each.encode() for each in (what, where, kind))
    checked(libc().mount(*given, ctypes.c_ulong(flags), None))


class ForkFirst:
    """Forks processes that are each the first of a namespace of processes."""

    def __init__(self) -> None:
        self._own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def fork(self) -> int:
        """As `os.fork`."""
        checked(libc().unshare(CLONE_NEWPID))
        pid = -1
        try:
            pid = os.fork()
            return pid
        finally:
            # Back to where we are: the kernel makes a second one from nowhere else.
            if pid:
                checked(libc().setns(self._own, CLONE_NEWPID))


def bounded_scratch(folder: str, bytes_max: int, files_max: int, user: int) -> int:
    """
    Mount an empty file system in memory on `folder`, for this process alone.

    Returns a descriptor of its top folder, by which others may look into it, as long
    as they hold it.

    Raises:
        OSError: the kernel does not let us.
    """
    unshare(CLONE_NEWNS)
    options = {"size": bytes_max, "nr_inodes": files_max, "mode": "0700"}
    options |= {"uid": user, "gid": user} if os.geteuid() == 0 else {}
    with contextlib.ExitStack() as stack:
        made = call("fsopen", b"tmpfs", CLOEXEC)
        stack.callback(os.close, made)
        for name, value in options.items():
            given = (name.encode(), str(value).encode())
            call("fsconfig", made, FSCONFIG_SET_STRING, *given, 0)
        call("fsconfig", made, FSCONFIG_CMD_CREATE, None, None, 0)
        top = call("fsmount", made, CLOEXEC, MOUNT_ATTR_SAFE)
        stack.callback(os.close, top)
        call("move_mount", top, b"", AT_FDCWD, folder.encode(), EMPTY_PATH)
        return os.dup(top)


def in_user_namespace() -> bool:
    """Whether this process made a user namespace: it maps one user alone."""
    try:
        return Path("/proc/self/uid_map").read_text("ascii").split()[2:] == ["1"]
    except OSError:
        return False


def best(tier: int, note: Callable[[str, str], None]) -> int:
    """The most of the namespaces that can be had here; notes what cannot."""
    if tier < 3 or sys.platform != "linux":
        return 0
    refused = granted(EVERY)
    if refused is None:
        return EVERY
    note("processes of its own", str(refused.strerror))
    refused = granted(NETWORK)
    if refused is None:
        return NETWORK
    note("namespaces", str(refused.strerror))
    return 0
