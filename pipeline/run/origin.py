"""Processes of this machine: who we are, and whether a neighbour is gone."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.store.rows import Origin


@cache
def here() -> str:
    """
    Host name, boot id and pid namespace: where a process id means something.

    Two containers may share a boot id and a host name but never a namespace.
    """
    boot = _read("/proc/sys/kernel/random/boot_id") or "-"
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = "-"
    return f"{platform.node()}/{boot}/{namespace}"


def origin() -> Origin:
    """This process."""
    pid = os.getpid()
    return Origin(here(), pid, _born(pid) or "")


def is_gone(other: Origin) -> bool:
    """
    Whether the process is known to be dead.

    False for a process of another machine: only its lease can tell.
    """
    if other.host != here():
        return False
    try:
        os.kill(other.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # somebody else's process has this id: look at its start below
    if not other.born:
        return False
    try:
        return _born(other.pid) != other.born
    except OSError:
        return False  # we cannot look now (no descriptors): nobody is dead for that


def turned(turn: Callable[[Any], Any], given: Any) -> Any:
    """
    One turn.  A copy that it forked ends here, if it has not ended itself: it would
    renew and write as this worker, on the same connections.
    """
    pid = os.getpid()
    try:
        return turn(given)
    finally:
        if os.getpid() != pid:
            os._exit(0)


def _born(pid: int) -> str | None:
    """Start time in clock ticks; None for a dead or not yet reaped process."""
    text = _read(f"/proc/{pid}/stat")
    if not text:
        return None if Path("/proc/self/stat").exists() else ""
    # The name in parentheses may hold spaces: count fields after it.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""
