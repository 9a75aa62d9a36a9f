"""
Scratch: the private folders of jailed processes, and what they leave there.

Where the kernel lets us, a folder is a file system of its own in memory, of bounded
size (`pipeline.jail.namespaces`), and what lies here is the place it is mounted on.
What a process left is looked at when nothing of it lives any more: nobody can put
something else in its place.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
from itertools import islice
from pathlib import Path
from typing import IO

from pipeline.errors import Permanent
from pipeline.threads import in_thread

FILES_MAX = 1000  # twice what one call of `ctx.spawn` takes
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILES_BYTES_MAX = 4 << 30  # arbitrary: what a bundle may unpack to, and more


class Scratch:
    """
    Private folders of jailed processes, in one folder of this process.

    The folder is locked while the process lives.  What a killed process left
    behind is not locked, and is removed when the next one begins.
    """

    def __init__(self, root: Path | None) -> None:
        disk = Path("/var/tmp")  # noqa: S108  mkdtemp makes a private folder there
        self._root = root or (disk if disk.is_dir() else Path(tempfile.gettempdir()))
        self._folder: Path | None = None
        self._lock: IO[str] | None = None

    def place(self) -> Path:
        """The folder that all others lie in."""
        if self._folder is None:
            self._sweep()
            # Locked under a name that no sweep looks for, then renamed.
            made = Path(tempfile.mkdtemp(prefix=".waybill-", dir=self._root))
            try:
                self._lock = open(made / "lock", "w")  # noqa: SIM115  held open
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._folder = made.rename(made.with_name(made.name[1:]))
            except OSError:  # no room, no descriptor: nothing is to stay of it
                remove(made)
                raise
        return self._folder

    def folder(self, number: int) -> Path:
        """A new folder for one call."""
        folder = self.place() / f"jailed-{number}"
        folder.mkdir()
        return folder

    async def remove_folder(self, folder: Path) -> None:
        """Remove the folder of a call, and all that lies in it."""
        try:
            folder.rmdir()  # nearly always: what was in it is gone already
        except OSError:
            await in_thread(remove, folder)

    def remove(self) -> None:
        """Remove everything; later processes would begin anew."""
        folder, self._folder = self._folder, None
        if folder is not None:
            remove(folder)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _sweep(self) -> None:
        for lock in self._root.glob("waybill-*/lock"):
            try:
                with open(lock) as held:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    remove(lock.parent)
            except OSError:
                continue  # its process lives, or another one was quicker


def remove(folder: Path) -> None:
    """
    Remove a folder and all that lies in it, however deep; what cannot be is left.

    It is walked by descriptors, one at a time: a stranger's folders may be deeper than
    a path is long, or a recursion goes.
    """
    with contextlib.suppress(OSError):
        here = os.open(folder, FOLDER)
        try:
            path: list[str] = []
            waiting = [emptied(here)]  # folders left, of each level down to here
            while path or waiting[-1]:
                if waiting[-1]:
                    path.append(waiting[-1].pop())
                    os.chmod(path[-1], 0o700, dir_fd=here)
                    here = stepped(here, path[-1])
                    waiting.append(emptied(here))
                else:
                    here = stepped(here, "..")
                    waiting.pop()
                    os.rmdir(path.pop(), dir_fd=here)
        finally:
            os.close(here)
        folder.rmdir()


def stepped(here: int, name: str) -> int:
    """The folder `name` in the place of the one that it lies in."""
    there = os.open(name, FOLDER, dir_fd=here)
    os.close(here)
    return there


def emptied(here: int) -> list[str]:
    """Remove everything that is no folder; the names of those that are."""
    with os.scandir(here) as scan:
        entries = list(scan)
    folders = []
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            folders.append(entry.name)
        else:
            os.unlink(entry.name, dir_fd=here)
    return folders


def take(folder: Path) -> list[Path]:
    """
    The files that lie in `folder` and are fit to be kept.

    Fit are regular files with one link and a name that is text; links, pipes and
    folders are not.  Called when nothing lives that could change them.

    Raises:
        Permanent: JAIL_OUTPUT, there are more or larger files than allowed.
    """
    with os.scandir(folder) as scan:
        entries = list(islice(scan, FILES_MAX + 1))
    if len(entries) > FILES_MAX:
        raise excess(f"more than {FILES_MAX} files")
    taken: list[Path] = []
    size_bytes = 0
    for entry in entries:
        found = entry.stat(follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            continue
        if not is_text(entry.name):
            continue
        size_bytes += found.st_size
        if size_bytes > FILES_BYTES_MAX:
            raise excess(f"more than {FILES_BYTES_MAX >> 20} MiB")
        path = folder / entry.name
        path.chmod(0o600)  # it may have been made unreadable
        taken.append(path)
    return sorted(taken)


def excess(found: str) -> Permanent:
    """A jailed process left more than is taken from one."""
    return Permanent(
        f"a jailed process left {found} in its scratch folder",
        code="JAIL_OUTPUT",
        hint="split the document, or send fewer files in one bundle",
    )


def is_text(name: str) -> bool:
    """Whether a file's name is UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
