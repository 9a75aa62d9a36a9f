"""
Durable writes: a name that exists means the whole content, also after a power cut.

Bytes are written under another name, synced, renamed to their own, and the folder is
synced.  Blocking: call it in a thread where that matters.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

OURS = 0o640  # the service's group may read what it wrote


def write_atomically(path: Path, data: bytes) -> None:
    """Write `path` so that a reader sees all of the new bytes or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_part(path.parent) as part:
        part.write(data)
        publish(part, path, mode=OURS)


@contextmanager
def new_part(folder: Path) -> Iterator[IO[bytes]]:
    """An open file of ours in `folder`, gone with the block unless published."""
    with NamedTemporaryFile(
        dir=folder, prefix=".", suffix=".part", delete=False
    ) as part:
        try:
            yield part
        finally:
            Path(part.name).unlink(missing_ok=True)


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
