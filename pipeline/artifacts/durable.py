"""
Durable writes: a name that exists means the whole content, also after a power cut.

Bytes are written under another name, synced, renamed to their own, and the folder is
synced.  What a killed process was writing is swept away by the next one: whoever
writes a part holds a lock on it.  Blocking: call it in a thread where that matters.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from pipeline.trouble import ours

OURS = 0o640  # the service's group may read what it wrote
PREFIX, SUFFIX = ".", ".part"


def write_atomically(path: Path, data: bytes) -> None:
    """
    Write `path` so that a reader sees all of the new bytes or none.

    Raises:
        Trouble: a full disk, a folder that cannot be written to; nothing is left.
    """
    with ours(f"the folder {path.parent.name}", path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_part(path.parent) as part:
            part.write(data)
            publish(part, path, mode=OURS)


def write_once(path: Path, data: bytes) -> bytes:
    """
    Write `path` for its owner alone, unless it is there; returns what stands there.

    Whoever is first wins, also among processes.

    Raises:
        Trouble: as `write_atomically` does.
    """
    with ours(f"the folder {path.parent.name}", path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with new_part(path.parent) as part:  # made for its owner alone
                part.write(data)
                part.flush()
                os.fsync(part.fileno())
                with suppress(FileExistsError):
                    os.link(part.name, path)
            sync_folder(path.parent)
        return path.read_bytes()


@contextmanager
def new_part(folder: Path) -> Iterator[IO[bytes]]:
    """An open file of ours in `folder`, gone with the block unless published."""
    here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        part = _locked(folder)
        try:
            yield part
        finally:
            # By its folder, which may have another name by now.  A disk that became
            # read-only keeps it; the next sweep takes it away.
            with suppress(OSError):
                os.unlink(Path(part.name).name, dir_fd=here)
            # What could not be written cannot be flushed: the first error told it.
            with suppress(OSError):
                part.close()
    finally:
        os.close(here)


def _locked(folder: Path) -> IO[bytes]:
    while True:
        part = NamedTemporaryFile(  # noqa: SIM115  the caller closes it
            dir=folder, prefix=PREFIX, suffix=SUFFIX, delete=False
        )
        try:
            fcntl.flock(part, fcntl.LOCK_EX)
        except OSError:  # a file system without locks: nothing is swept there
            return part
        if os.fstat(part.fileno()).st_nlink:
            return part
        part.close()  # swept before it was locked


def sweep(folder: Path) -> None:
    """Remove the parts in `folder` that nobody writes any more."""
    for path in folder.glob(f"{PREFIX}*{SUFFIX}"):
        with suppress(OSError), path.open("rb") as part:
            fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)


def publish(part: IO[bytes], target: Path, *, mode: int | None = None) -> None:
    """
    Give an open file, written in the same file system, its own name, durably.

    What had that name is replaced.  Without a `mode` it keeps the one it was made
    with.
    """
    part.flush()
    os.fsync(part.fileno())
    if mode is not None:
        os.fchmod(part.fileno(), mode)
    os.replace(part.name, target)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
