"""
Files that may be taken: how they are found, and how they are opened safely.

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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ingest.watch.folders import (
    DOCUMENT,
    MARKER,
    SPOOL_PREFIX,
    display_name,
    ignored,
    partial,
)
from pipeline.errors import NotFound, Transient

CHUNK_BYTES = 1 << 20
MAX_DEPTH = 16  # folders below the root; deeper is a loop of mounts or a mistake

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Seen(NamedTuple):
    """What tells whether a file is still the one that we looked at."""

    size: int  # bytes
    mtime_ns: int
    inode: int


class Look(NamedTuple):
    """One directory entry, as one scan saw it."""

    relative: str  # below the root, "/" between folders, bytes as surrogates
    seen: Seen
    ctime_ns: int
    odd: str = ""  # why this can never be taken; "" for a regular file


@dataclass(frozen=True, slots=True)
class Candidate:
    """
    A file to take.

    Attributes:
        root: The folder that `relative` starts from; may be a link itself.
        relative: Path below `root`, and the path in the archive.
        identity: What makes this file the same delivery when it is offered
            again: its path below the inbox, or pipeline and absolute path.
        seen: How it looked when it was judged complete; None: never judged.
        named: A person named it on the command line.
    """

    root: Path
    relative: str
    identity: str
    seen: Seen | None = None
    named: bool = False

    @property
    def path(self) -> Path:
        """Where the file is; for messages, never for opening it."""
        return self.root / self.relative

    @property
    def name(self) -> str:
        """The display name."""
        return display_name(self.relative.rpartition("/")[2])


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


# -- finding --------------------------------------------------------------------------


class Walk:
    """
    Walks a tree in slices, so that a huge inbox never holds a thread for long.

    Attributes:
        troubles: Folders that could not be listed, with the reason.
    """

    def __init__(self, root: Path) -> None:
        self.troubles: dict[str, str] = {}
        self._root = root
        self._entries = self._walk("", 0)

    def slice(self, limit: int) -> list[Look]:
        """
        Up to `limit` further entries; an empty list at the end.

        Raises:
            OSError: the root itself cannot be listed.
        """
        looks: list[Look] = []
        for look in self._entries:
            looks.append(look)
            if len(looks) >= limit:
                break
        return looks

    def _walk(self, below: str, depth: int) -> Iterator[Look]:
        deeper: list[str] = []
        try:
            with os.scandir(self._root / below) as entries:
                for entry in entries:
                    if ignored(entry.name):
                        continue
                    relative = f"{below}/{entry.name}" if below else entry.name
                    if _descends(entry) and depth < MAX_DEPTH:
                        deeper.append(relative)
                    elif (look := _look(entry, relative)) is not None:
                        yield look
        except OSError as error:
            if not below:
                raise
            self.troubles[below] = os.strerror(error.errno or errno.EIO)
        for relative in deeper:
            yield from self._walk(relative, depth + 1)


def _descends(entry: os.DirEntry[str]) -> bool:
    document = os.path.splitext(entry.name)[1].lower() in DOCUMENT
    return entry.is_dir(follow_symlinks=False) and not document


def _look(entry: os.DirEntry[str], relative: str) -> Look | None:
    try:
        found = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None  # gone between the listing and the look
    except OSError as error:
        return Look(relative, Seen(0, 0, 0), 0, os.strerror(error.errno or errno.EIO))
    odd = "" if stat.S_ISREG(found.st_mode) else f"it is {_kind(found.st_mode)}"
    return Look(relative, fingerprint(found), found.st_ctime_ns, odd)


def _kind(mode: int) -> str:
    for test, word in (
        (stat.S_ISLNK, "a symbolic link"),
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
    ):
        if test(mode):
            return word
    return "a device"


def named(paths: Sequence[Path], *, pipeline: str) -> list[Candidate]:
    """
    The files that a person named, folders expanded.

    A named symbolic link is followed (the person chose it); links inside a
    named folder are not.  Partial files and markers inside folders are left out.

    Raises:
        NotFound: NO_SUCH_FILE, a path that does not exist.
    """
    found: list[Candidate] = []
    for path in paths:
        if not path.exists():
            raise NotFound(
                f"there is no file {display_name(str(path))}",
                code="NO_SUCH_FILE",
                hint="check the path",
            )
        real = path.resolve()
        if not real.is_dir():
            identity = f"{pipeline}:{real}"
            found.append(Candidate(real.parent, real.name, identity, named=True))
            continue
        walk = Walk(real)
        while looks := walk.slice(10_000):
            found.extend(
                Candidate(
                    real,
                    look.relative,
                    f"{pipeline}:{real / look.relative}",
                    look.seen,
                    named=True,
                )
                for look in looks
                if not look.odd
                and not partial(look.relative)
                and not look.relative.endswith(MARKER)
            )
    return found


# -- opening --------------------------------------------------------------------------


def fingerprint(found: os.stat_result) -> Seen:
    """Size, mtime and inode of a `stat`."""
    return Seen(found.st_size, found.st_mtime_ns, found.st_ino)


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


def copy_bytes(
    candidate: Candidate, *, max_bytes: int, in_memory_bytes: int, scratch: Path
) -> Copy:
    """
    Read a file once, through one descriptor.

    Raises:
        Transient: NOT_A_FILE; LINKED, it has a second name; FILE_CHANGED, it was
            written meanwhile.
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
                raise Transient(
                    "the file has more than one name (hard link)",
                    code="LINKED",
                    hint="copy it into the inbox instead of linking it",
                )
            seen = fingerprint(found)
            if candidate.seen not in (None, seen):
                raise changed()
            arrived_s = found.st_ctime_ns / 1e9
            if seen.size > max_bytes:
                return Copy(seen, arrived_s)
            if seen.size <= in_memory_bytes:
                # One byte more than it should have: growth shows as a surplus.
                data = _read(source, seen.size + 1)
                copy = Copy(seen, arrived_s, data=data)
                whole = len(data) == seen.size
            else:
                copy = Copy(seen, arrived_s, spool=_spool(source, seen.size, scratch))
                whole = copy.spool is not None and (
                    copy.spool.stat().st_size == seen.size
                )
            if not whole or fingerprint(os.fstat(source)) != seen:
                if copy.spool is not None:
                    copy.spool.unlink()
                raise changed()
            return copy
        finally:
            os.close(source)


class Paused(Transient):
    """
    Our own trouble (a full disk, no database): nothing more is taken this round.

    No file is to blame, so none is refused; the next round tries again.
    """

    code = "INGEST_PAUSED"


def paused(error: OSError, what: str) -> Paused:
    """What an operating system error in a folder of ours means."""
    number = error.errno or errno.EIO
    code, hint = TROUBLE.get(number, ("STORE_IO", "see the system's log"))
    return Paused(f"{what}: {os.strerror(number)}", code=code, hint=hint)


TROUBLE = {
    errno.ENOSPC: ("DISK_FULL", "free space; it goes on by itself"),
    errno.EDQUOT: ("DISK_FULL", "raise the quota; it goes on by itself"),
    errno.EROFS: ("READ_ONLY", "mount the disk writable"),
    errno.EACCES: ("NO_PERMISSION", "let the service's user write there"),
    errno.EPERM: ("NO_PERMISSION", "let the service's user write there"),
    errno.EIO: ("DISK_IO", "check the disk"),
    errno.EMFILE: ("TOO_MANY_FILES", "raise the limit of open files (ulimit -n)"),
    errno.ENFILE: ("TOO_MANY_FILES", "raise the system's limit of open files"),
    errno.ENOMEM: ("NO_MEMORY", "give the service more memory"),
}


def changed() -> Transient:
    """The error for a file that was written while we had it."""
    return Transient(
        "the file changed while it was being read",
        code="FILE_CHANGED",
        hint="nothing to do: it is taken when it rests",
    )


def _require_regular(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise Transient(
            f"not a regular file: it is {_kind(found.st_mode)}",
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
    with (
        open(source, "rb", closefd=False) as reader,
        tempfile.NamedTemporaryFile(
            dir=target.parent, prefix=".", suffix=".part", delete=False
        ) as writer,
    ):
        part = Path(writer.name)
        try:
            shutil.copyfileobj(reader, writer, CHUNK_BYTES)
            writer.flush()
            os.fsync(writer.fileno())
            part.replace(target)
        except OSError:
            part.unlink(missing_ok=True)
            raise
