"""
Taking the bytes of a file safely, and what it means when that fails.

Whoever can write to the inbox may put anything there and swap it at any moment.
So a file is reached by walking down from its root without following a symbolic
link, it is opened without blocking, only a regular file is read, at most as many
bytes as it had when it was opened, and everything after that is about those bytes.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ingest.candidates import Candidate, Seen, fingerprint, kind_of
from ingest.watch.folders import SPOOL_PREFIX
from ingest.writers import unwritten
from pipeline.artifacts.durable import new_part, publish
from pipeline.errors import Transient, Trouble
from pipeline.trouble import FOLDER, GOES_ON, MACHINE

CHUNK_BYTES = 1 << 20

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Copy:
    """
    The bytes of a file as they were read.

    Exactly one of `data` (small files) and `spool` (a file of ours, to be
    unlinked by the caller) is set; none when the file is over the size cap.
    """

    seen: Seen
    arrived_s: float  # ctime: when it came under this name, seconds since 1970
    data: bytes | None = None
    spool: Path | None = None


def copy_bytes(
    candidate: Candidate, *, max_bytes: int, in_memory_bytes: int, scratch: Path
) -> Copy:
    """
    Read a file once, through one descriptor.

    Raises:
        Transient: NOT_A_FILE; LINKED, it has a second name; BEING_WRITTEN, somebody
            has it open for writing; FILE_CHANGED, it was written meanwhile.
        Paused: our own copy could not be written.
        OSError: it could not be opened or read.
    """
    with folder_of(candidate) as (folder, name):
        # Look before opening: opening a device can already do something.
        _require_regular(os.stat(name, dir_fd=folder, follow_symlinks=False))
        source = os.open(name, _FILE, dir_fd=folder)
        try:
            found = os.fstat(source)
            _require_regular(found)
            if found.st_nlink > 1 and not candidate.named:
                raise linked()
            seen = fingerprint(found)
            if candidate.seen not in (None, seen):
                raise changed()
            with unwritten(source):
                if seen.size > max_bytes:
                    return Copy(seen, found.st_ctime_ns / 1e9)
                in_memory = seen.size <= in_memory_bytes
                return _whole(source, found, None if in_memory else scratch)
        finally:
            os.close(source)


def _whole(source: int, found: os.stat_result, scratch: Path | None) -> Copy:
    """The bytes of an open file, all it has; in memory without a `scratch` folder."""
    seen, arrived_s = fingerprint(found), found.st_ctime_ns / 1e9
    if scratch is None:
        # One byte more than it should have: growth shows as a surplus.
        copy = Copy(seen, arrived_s, data=_read(source, seen.size + 1))
        size = len(copy.data or b"")
    else:
        copy = Copy(seen, arrived_s, spool=_spool(source, seen.size, scratch))
        size = copy.spool.stat().st_size if copy.spool is not None else -1
    if size != seen.size or fingerprint(os.fstat(source)) != seen:
        if copy.spool is not None:
            copy.spool.unlink()
        raise changed()
    return copy


def require_rest(path: Path, seen: Seen, folder: int | None = None) -> bool:
    """
    Check that a file is what was `seen`, and that nobody has it open for writing.

    Returns whether the kernel vouches for the second.

    Raises:
        Transient: BEING_WRITTEN, FILE_GREW, FILE_CHANGED.
        OSError: it cannot be opened.
    """
    file = os.open(path, _FILE, dir_fd=folder)
    try:
        with unwritten(file) as vouched:
            now = fingerprint(os.fstat(file))
            if now != seen:
                raise changed(now, seen)
        return vouched
    finally:
        os.close(file)


@contextmanager
def folder_of(candidate: Candidate) -> Iterator[tuple[int, str]]:
    """
    Open a file's folder; yields its descriptor and the file's bare name.

    Raises:
        OSError: also ELOOP or ENOTDIR, when a folder became a symbolic link.
    """
    *folders, name = candidate.relative.split("/")
    here = os.open(candidate.root, _FOLDER)
    try:
        for folder in folders:
            deeper = os.open(folder, _FOLDER | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = deeper
        yield here, name
    finally:
        os.close(here)


def _require_regular(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise Transient(
            f"not a regular file: it is {kind_of(found.st_mode)}",
            code="NOT_A_FILE",
            hint="put the document itself there",
        )


def _read(source: int, limit: int) -> bytes:
    chunks: list[bytes] = []
    while limit > 0 and (chunk := os.read(source, min(limit, CHUNK_BYTES))):
        chunks.append(chunk)
        limit -= len(chunk)
    return b"".join(chunks)


def _spool(source: int, size: int, scratch: Path) -> Path:
    """Copy at most `size` + 1 bytes into a new file of ours."""
    spool: Path | None = None
    try:
        descriptor, path = tempfile.mkstemp(prefix=SPOOL_PREFIX, dir=scratch)
        spool = Path(path)
        with open(descriptor, "wb") as target:
            left = size + 1
            while left > 0:
                chunk = _source_read(source, min(left, CHUNK_BYTES))
                if not chunk:
                    break
                target.write(chunk)
                left -= len(chunk)
    except OSError as error:
        if spool is not None:
            spool.unlink(missing_ok=True)
        if isinstance(error, _SourceError):
            raise
        raise paused(error, "the scratch folder") from error
    return spool


class _SourceError(OSError):
    """Reading the source failed, as against writing our copy."""


def _source_read(source: int, limit: int) -> bytes:
    try:
        return os.read(source, limit)
    except OSError as error:
        raise _SourceError(error.errno, error.strerror) from error


def copy_into(source: int, target: Path) -> None:
    """Copy a descriptor's bytes over `target`: durable, and all of them or none."""
    with open(source, "rb", closefd=False) as reader, new_part(target.parent) as part:
        shutil.copyfileobj(reader, part, CHUNK_BYTES)
        publish(part, target)


# -- what a failure means -----------------------------------------------------------


class Paused(Trouble):
    """
    Our own trouble (a full disk, no database): nothing more is taken this round.

    No file is to blame, so none is refused; the next round tries again.
    """

    code = "INGEST_PAUSED"


def paused(error: OSError, what: str) -> Paused:
    """What an operating system error in a folder of ours means."""
    number = error.errno or errno.EIO
    code, said, hint = {**FOLDER, **MACHINE}.get(
        number, ("DISK_IO", os.strerror(number), "see the system's log")
    )
    return Paused(f"{what}: {said}", code=code, hint=hint + GOES_ON)


def unreadable(error: OSError) -> Transient:
    """What an operating system error on one file of the inbox means for it."""
    why = os.strerror(error.errno or errno.EIO)
    match error.errno:
        case errno.ENOENT | errno.ESTALE:
            return Transient("it is gone", code="FILE_GONE")
        case errno.EACCES | errno.EPERM:
            return Transient(
                f"it cannot be read: {why}",
                code="UNREADABLE",
                hint="let the service's user read it",
            )
        case errno.ELOOP | errno.ENOTDIR | errno.EISDIR | errno.ENXIO:
            return Transient(
                f"not a regular file: {why}",
                code="NOT_A_FILE",
                hint="put the document itself there",
            )
        case _:
            return Transient(
                f"it cannot be read: {why}",
                code="SOURCE_IO",
                hint="check the inbox's disk or network mount",
            )


def linked() -> Transient:
    """The error for a file that may be somebody else's by another name."""
    return Transient(
        "the file has more than one name (hard link)",
        code="LINKED",
        hint="copy it into the inbox instead of linking it",
    )


def changed(now: Seen | None = None, seen: Seen | None = None) -> Transient:
    """
    The error for a file that is not, or is `now` no more, what was `seen`.

    FILE_GREW: the same file, and more of it.
    """
    grew = now and seen and now.inode == seen.inode and now.size > seen.size
    return Transient(
        "the file changed while it was being read",
        code="FILE_GREW" if grew else "FILE_CHANGED",
        hint="nothing to do: it is taken when it rests",
    )
