"""
Whether somebody has a file open for writing.

A file that rests may still be half a file: its sender paused.  On Linux the kernel
knows.  A read lease on an open file is refused while anybody has it open for
writing, and it is broken, not ignored, when somebody opens it so later.  A lease is
given to the file's owner or with CAP_LEASE, on local file systems; where there is
none, the open files of processes that we may look at are searched in `/proc`, and
beyond those nobody vouches for anything (see docs/operations.md).
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import Transient

BEING_WRITTEN = "BEING_WRITTEN"
LOOK_S = 1.0  # how long a search of /proc is believed; it costs some milliseconds
LEASES = hasattr(fcntl, "F_SETLEASE")  # Linux alone

Inode = tuple[int, int]  # device and number


@contextmanager
def unwritten(file: int) -> Iterator[bool]:
    """
    While this lasts nobody opens the open `file` for writing, or it raises.

    Yields whether the kernel vouches for it.  Who wants to write meanwhile waits
    until we let go, which must be soon.

    Raises:
        Transient: BEING_WRITTEN, at the beginning or at the end.
    """
    vouched = _lease(file)
    if not vouched and NEIGHBOURS.write_to(file):
        raise being_written()
    try:
        yield vouched
        if vouched and fcntl.fcntl(file, fcntl.F_GETLEASE) != fcntl.F_RDLCK:
            raise being_written()
    finally:
        if vouched:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def being_written() -> Transient:
    """The error for a file that somebody has open for writing."""
    return Transient(
        "somebody has it open for writing",
        code=BEING_WRITTEN,
        hint="nothing to do: it is taken when its writer closes it",
    )


def _lease(file: int) -> bool:
    if not LEASES:
        return False
    try:
        # Told of a writer by a signal: by default one that would end the process.
        fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        if error.errno == errno.EAGAIN:
            raise being_written() from None
        return False  # not our file (EACCES), or no such thing there (EINVAL …)
    return True


# -- without a lease -----------------------------------------------------------------


class Neighbours:
    """The processes that we may look at; a look at them is believed for a second."""

    def __init__(self) -> None:
        self._looked = -LOOK_S
        self._written: frozenset[Inode] = frozenset()

    def __repr__(self) -> str:
        return f"<Neighbours write to {len(self._written)} files>"

    def write_to(self, file: int) -> bool:
        """Whether one of them has the open `file` open for writing."""
        now = time.monotonic()
        if now - self._looked >= LOOK_S:
            self._looked = now
            self._written = frozenset(written_by_neighbours())
        return _inode(os.fstat(file)) in self._written


NEIGHBOURS = Neighbours()


def written_by_neighbours(proc: Path = Path("/proc")) -> Iterator[Inode]:
    """Each file that is open for writing somewhere, as far as we may see."""
    for process in proc.glob("[0-9]*"):
        try:
            opened = os.listdir(process / "fd")
        except OSError:
            continue  # another user's, or it ended
        for number in opened:
            try:
                text = (process / "fdinfo" / number).read_text(encoding="ascii")
                flags = int(text.split("flags:", 1)[1].split(None, 1)[0], 8)
                if flags & os.O_ACCMODE != os.O_RDONLY:
                    yield _inode(os.stat(process / "fd" / number))
            except (OSError, ValueError, IndexError):
                continue  # closed meanwhile, or no file


def _inode(found: os.stat_result) -> Inode:
    return found.st_dev, found.st_ino
