"""
Scratch: the private folders of jailed processes, and what they leave there.

A file becomes ours by being moved away first and looked at afterwards: where it
lies then, whoever wrote it can no longer put something else in its place.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from itertools import islice
from pathlib import Path
from typing import IO

from pipeline.errors import Permanent

FILES_MAX = 1000  # twice what one call of `ctx.spawn` takes
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
        self._count = 0

    def folder(self) -> Path:
        """A new folder for one process."""
        if self._folder is None:
            self._sweep()
            # Locked under a name that no sweep looks for, then renamed.
            made = Path(tempfile.mkdtemp(prefix=".waybill-", dir=self._root))
            try:
                self._lock = open(made / "lock", "w")  # noqa: SIM115  held open
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._folder = made.rename(made.with_name(made.name[1:]))
            except OSError:  # no room, no descriptor: nothing is to stay of it
                shutil.rmtree(made, ignore_errors=True)
                raise
        self._count += 1
        folder = self._folder / f"jailed-{self._count}"
        folder.mkdir()
        return folder

    def apart(self) -> Path:
        """A new folder that no jailed process may reach."""
        assert self._folder is not None, "files are taken from a jailed process"
        return Path(tempfile.mkdtemp(prefix="taken-", dir=self._folder))

    def remove(self) -> None:
        """Remove everything; later processes would begin anew."""
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _sweep(self) -> None:
        for lock in self._root.glob("waybill-*/lock"):
            try:
                with open(lock) as held:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(lock.parent, ignore_errors=True)
            except OSError:
                continue  # its process lives, or another one was quicker


def take(folder: Path, apart: Path) -> list[Path]:
    """
    Move the files that lie in `folder` to `apart`; return those fit to be kept.

    Fit are regular files with one link and a name that is text.  Links, pipes and
    folders stay where they are, or lie in `apart` and are not returned.

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
        if not entry.is_file(follow_symlinks=False) or not is_text(entry.name):
            continue
        place = apart / entry.name
        os.rename(entry.path, place)
        found = place.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            continue
        size_bytes += found.st_size
        if size_bytes > FILES_BYTES_MAX:
            raise excess(f"more than {FILES_BYTES_MAX >> 20} MiB")
        place.chmod(0o600)  # it may have been made unreadable
        taken.append(place)
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
