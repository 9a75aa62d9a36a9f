"""
Trouble: which errors of the operating system are our own, and nobody's attempt.

A full or read-only disk, no inodes, no descriptors, a folder of ours that cannot be
written to: no item is to blame.  Whoever meets such an error asks here what it is, and
raises `Trouble`; the item goes back in line, uncharged, and the worker takes no other
one until `look_at` finds the folder in order (`pipeline/run/gate.py`).
"""

from __future__ import annotations

import errno
import os
import platform
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from traceback import walk_tb
from typing import NamedTuple

from pipeline.errors import Trouble

TRIED_BYTES = 256 << 10  # arbitrary: less room than this is none
SPARE_FILES = 8  # who has fewer to spare is short of them; arbitrary
TIGHT_BYTES = 1 << 30  # arbitrary: with less room, one file may have filled the disk
# Names in the code that starts a process: what it cannot do is told as EAGAIN.
STARTERS = frozenset(
    ("fork", "forkpty", "fork_exec", "_fork_exec", "posix_spawn", "posix_spawnp")
)


class Place(NamedTuple):
    """
    A folder that the service writes to, and what a person calls it.

    One that was `made` once must be there: were it made anew, what is missing in it
    would pass for lost.  Others are made when they are needed.
    """

    name: str
    folder: Path
    made: bool = False


# Wherever they are met, the machine is to blame: code, what it is, what to do.
MACHINE = {
    errno.ENOSPC: ("DISK_FULL", "the disk is full", "free space"),
    errno.EDQUOT: ("DISK_FULL", "the quota is used up", "raise it"),
    errno.EROFS: ("READ_ONLY", "the disk is read-only", "mount it writable"),
    errno.EIO: ("DISK_IO", "the disk fails", "check the disk"),
    errno.EMFILE: (
        "TOO_MANY_FILES",
        "no file can be opened any more",
        "raise the limit of open files (ulimit -n)",
    ),
    errno.ENFILE: (
        "TOO_MANY_FILES",
        "no file can be opened any more",
        "raise the system's limit of open files (fs.file-max)",
    ),
    errno.ENOMEM: ("NO_MEMORY", "there is no memory", "give the machine more memory"),
    errno.EAGAIN: (
        "NO_PROCESS",
        "no process can be started",
        "raise the limit of processes (ulimit -u)",
    ),
}
NO_INODES = ("NO_INODES", "the disk has no inodes left", "delete files")
# Of a folder of ours they are trouble; of any other file whoever named it is to blame.
FOLDER = {
    errno.EACCES: ("NO_PERMISSION", "may not be written to", "let the service write"),
    errno.EPERM: ("NO_PERMISSION", "may not be written to", "let the service write"),
    errno.ENOENT: ("NO_FOLDER", "is not there", "bring it back"),
    errno.ENOTDIR: ("NO_FOLDER", "is no folder", "move away what is in its place"),
    errno.EEXIST: ("NO_FOLDER", "is no folder", "move away what is in its place"),
    errno.ELOOP: ("NO_FOLDER", "is a loop of links", "make it a folder"),
    errno.ESTALE: ("NO_FOLDER", "is gone from its server", "mount it again"),
    errno.ENOTCONN: ("NO_FOLDER", "is not connected", "mount it again"),
}
# What an item waits for that our own trouble put aside.
TROUBLES = {Trouble.code, "JAIL_START", NO_INODES[0]}.union(
    code for code, _, _ in (*MACHINE.values(), *FOLDER.values())
)
THIS_MACHINE = platform.node()
WHOLE_MACHINE = ("TOO_MANY_FILES", "NO_MEMORY", "NO_PROCESS")
GOES_ON = "; work goes on by itself"


def trouble_of(error: BaseException, places: Sequence[Place] = ()) -> Trouble | None:
    """What `error` tells of the machine, or of one of `places`; None: nothing."""
    if isinstance(error, Trouble):
        return error
    if type(error) is RuntimeError and "start new thread" in str(error):
        return _of_machine(errno.EAGAIN, None)  # what Python makes of it
    if not isinstance(error, OSError):
        return None
    number = error.errno or 0
    place = place_of(error, places)
    if number in MACHINE and (number != errno.EAGAIN or _is_fork(error)):
        return _of_machine(number, place)
    if number in FOLDER and place is not None:
        return _of_folder(number, place, folder_of(error) or place.folder)
    return None


def advice(found: Trouble) -> str:
    """What is wrong, and what to do about it."""
    return f"{found.message}: {found.hint}" if found.hint else found.message


@contextmanager
def ours(name: str, folder: Path) -> Iterator[None]:
    """What goes wrong in this folder of ours is trouble, and raised as such."""
    try:
        yield
    except OSError as error:
        raise trouble_of(error, [Place(name, folder)]) or error from error


def starved() -> Trouble | None:
    """Whether this process has next to no descriptors left."""
    try:
        with ExitStack() as spare:
            for _ in range(SPARE_FILES):
                number = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
                spare.callback(os.close, number)
    except OSError as error:
        return trouble_of(error)
    return None


def borne_out(met: Trouble, places: Sequence[Place]) -> Trouble | None:
    """
    Whether this process or the disks are in the trouble that somebody `met`.

    Beyond what `look_at` finds: who wrote much to a disk has it empty again when he
    is told that it was full.
    """
    if met.code == "DISK_FULL":
        return next((met for place in places if _is_tight(place.folder)), None)
    if met.code == "NO_PROCESS":
        try:
            threading.Thread(target=int).start()  # counts as a process does
        except RuntimeError as error:
            return trouble_of(error)
    return starved()


def look_at(place: Place, folder: Path | None = None) -> Trouble | None:
    """
    Try to write to a place, or to a `folder` in it; None: it is in order.

    What is written has no name, and is gone before this returns.  Blocking.
    """
    at = folder or place.folder
    if folder is not None or not place.made:
        # What is missing can be made, where the nearest that is there lets us.
        while not os.path.lexists(at) and at != at.parent:
            at = at.parent
    try:
        with tempfile.TemporaryFile(dir=at, prefix=".", suffix=".part") as file:
            file.write(bytes(TRIED_BYTES))
    except OSError as error:
        return _found(error, place, at)
    return None


def folder_of(error: OSError) -> Path | None:
    """The folder of the file that an error names."""
    name = error.filename
    if not isinstance(name, (str, bytes, os.PathLike)):
        return None
    path = Path(os.fsdecode(name)).absolute()
    return path if error.errno in (errno.EEXIST, errno.ENOTDIR) else path.parent


def place_of(error: OSError, places: Sequence[Place]) -> Place | None:
    """The place that the file lies in which an error names."""
    if len(places) == 1 and error.filename is None:
        return places[0]  # a write to an open file names none
    for name in (error.filename, error.filename2):
        if isinstance(name, (str, bytes, os.PathLike)):
            path = Path(os.fsdecode(name)).absolute()
            for place in places:
                if path == place.folder or place.folder in path.parents:
                    return place
    return None


def _is_fork(error: OSError) -> bool:
    # EAGAIN of a read or a lock means "not yet", and is no trouble.
    return type(error) is BlockingIOError and any(
        STARTERS.intersection(frame.f_code.co_names)
        for frame, _ in walk_tb(error.__traceback__)
    )


def _is_tight(folder: Path) -> bool:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < TIGHT_BYTES


def _of_machine(number: int, place: Place | None) -> Trouble:
    code, what, hint = MACHINE[number]
    if place is None or code in WHOLE_MACHINE:
        where = f"process {os.getpid()} of {THIS_MACHINE}"
        return Trouble(what, code=code, hint=hint + GOES_ON, where=where)
    if number == errno.ENOSPC and _no_inodes(place.folder):
        code, what, hint = NO_INODES
    said = f"{place.name}: {what}"
    where = str(place.folder)
    return Trouble(said, code=code, hint=hint + GOES_ON, where=where, folder=True)


def _no_inodes(folder: Path) -> bool:
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    return found.f_files > 0 and found.f_favail == 0


def _of_folder(number: int, place: Place, folder: Path) -> Trouble:
    code, what, hint = FOLDER[number]
    said = f"{place.name} {what}"
    where = str(folder)
    return Trouble(said, code=code, hint=hint + GOES_ON, where=where, folder=True)


def _found(error: OSError, place: Place, folder: Path) -> Trouble:
    number = error.errno or errno.EIO
    if number in MACHINE:
        return _of_machine(number, place)
    if number in FOLDER:
        return _of_folder(number, place, folder)
    said = f"{place.name} cannot be written to: {error.strerror}"
    where = str(folder)
    return Trouble(said, code="DISK_IO", hint=GOES_ON[2:], where=where, folder=True)
