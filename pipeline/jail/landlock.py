"""
Landlock: which files a jailed process may touch, and how the kernel is told.

Called directly, by number, because no C library wraps it.
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys
from collections.abc import Callable, Iterator
from typing import Any

from pipeline.jail import syscalls

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
REMOVE_DIR, REMOVE_FILE, MAKE_DIR, MAKE_REG, MAKE_SYM = 16, 32, 128, 256, 1 << 12
REFER, TRUNCATE = 1 << 13, 1 << 14  # move between folders; cut a file short
RUN = EXECUTE | READ_FILE | READ_DIR
LOOK = READ_FILE | READ_DIR
OWN = LOOK | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SYM
OWN |= REFER | TRUNCATE
# What each version of Landlock learned to refuse: first ABI, number of rights.
RIGHTS = ((1, 13), (2, 14), (3, 15), (5, 16))
ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE  # the others are of folders
NET_TCP = 3  # bind and connect; no rule allows either
SCOPES = 3  # abstract unix sockets, and signals to processes outside

PROGRAMS = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"),
    *("/nix/store", "/gnu/store", "/home/linuxbrew/.linuxbrew"),
)
# Of /etc and the like what programs need to start, and nothing that is secret.
LOOKED_AT = (
    *("/etc/ld.so.cache", "/etc/alternatives", "/etc/fonts", "/etc/localtime"),
    *("/etc/passwd", "/etc/nsswitch.conf", "/proc/cpuinfo"),
    *("/proc/meminfo", "/proc/stat", "/proc/sys/vm/overcommit_memory"),
    *("/sys/devices/system/cpu", "/dev/urandom", "/dev/random", "/dev/zero"),
)


def restrict(profile: dict[str, Any], note: Callable[[str, str], None]) -> int:
    """
    Refuse all files but those of the rules; returns the kernel's ABI of Landlock.

    Raises:
        OSError: the kernel has none.
    """
    has = abi()
    rights = max(count for first, count in RIGHTS if has >= first)
    handled = (1 << rights) - 1
    attributes = (ctypes.c_uint64 * 3)(
        handled, NET_TCP if has >= 4 else 0, SCOPES if has >= 6 else 0
    )
    size = 24 if has >= 6 else 16 if has >= 4 else 8
    ruleset = syscalls.call("landlock_create_ruleset", attributes, size, 0)
    try:
        for path, allowed in (*profile["usual"], *own_rules(profile)):
            allow(ruleset, path, allowed & handled)
        syscalls.call("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)
    if has < 3:
        note("truncating files", f"Landlock has ABI {has}, it needs 3")
    if has < 6:
        note("signals", f"Landlock has ABI {has}, they need 6")
    return has


def abi() -> int:
    """
    The kernel's ABI of Landlock.

    Raises:
        OSError: it has none.
    """
    return syscalls.call("landlock_create_ruleset", None, 0, 1)


def usual_rules(profile: dict[str, Any]) -> list[tuple[str, int]]:
    """
    What every call of a template may do, and beneath which path.

    Each place once, and none that lies in another with the same rights: a call pays
    for each.  What is not there when the template begins does not count.
    """
    found: dict[str, int] = {}
    for name, allowed in everywhere(profile):
        if not os.path.isabs(name):
            continue  # "" and "." in PATH
        path = os.path.realpath(name)
        # "/", by whatever name, would be all there is.
        if os.path.exists(path) and not os.path.samefile(path, "/"):
            found[path] = found.get(path, 0) | allowed
    return [
        (path, allowed)
        for path, allowed in found.items()
        if not any(
            within != path
            and path.startswith(within + "/")
            and more & allowed == allowed
            for within, more in found.items()
        )
    ]


def everywhere(profile: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """What may be done beneath each path, whatever is called."""
    environment = os.environ
    for path in (*PROGRAMS, sys.prefix, sys.base_prefix, sys.exec_prefix):
        yield path, RUN
    for path in environment.get("PATH", "").split(os.pathsep):
        yield path, RUN
    for path in (*LOOKED_AT, *profile["packages"], *profile["paths"]):
        yield path, LOOK
    yield environment.get("TESSDATA_PREFIX", ""), LOOK
    for folder in (".fonts", ".local/share/fonts"):
        yield os.path.join(environment.get("FONTS_HOME", ""), folder), LOOK
    yield os.devnull, READ_FILE | WRITE_FILE


def own_rules(profile: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """What this call may do beside, and beneath which path."""
    yield "/proc/self", LOOK  # each process is another one there
    # Of all documents and pipelines those of this call, each by its name.
    for path in profile["files"]:
        yield path, READ_FILE
    yield profile["folder"], LOOK
    yield profile["scratch"], OWN


def allow(ruleset: int, path: str, allowed: int) -> None:
    """Add one rule; a path that is not there needs none."""
    if not os.path.isabs(path):
        return  # a call without a folder of a pipeline
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            allowed &= ON_FILES
        # The kernel's struct is packed: 8 bytes of rights, 4 of the descriptor.
        attributes = allowed.to_bytes(8, sys.byteorder)
        attributes += descriptor.to_bytes(4, sys.byteorder)
        syscalls.call("landlock_add_rule", ruleset, 1, attributes, 0)
    finally:
        os.close(descriptor)
