"""
Files that may be taken: how they are found, and what is known of them unopened.

A look at the inbox lists names and never follows a link.  What is found is opened
and read in `ingest/copying.py`, by one descriptor.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ingest.watch.folders import (
    DOCUMENT,
    MARKER,
    display_name,
    ignored,
    litter,
    partial,
)
from pipeline.errors import NotFound

PARTIAL_WHY = "it waits to be renamed"
ALONE_WHY = "its file is not there"
MAX_HIDDEN = 10_000  # names of hidden files that are kept; arbitrary
MAX_DEPTH = 16  # folders below the root; deeper is a loop of mounts or a mistake


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
    code: str = "NOT_A_FILE"  # of `odd`


class Waiting(NamedTuple):
    """Why a file has not been taken yet."""

    relative: str  # raw; clean it with `display_name` before showing
    code: str
    why: str
    for_s: float  # how long this has been so


@dataclass(frozen=True, slots=True)
class Candidate:
    """
    A file to take.

    Attributes:
        root: The folder that `relative` starts from; may be a link itself.
        relative: Path below `root`, and the path in the archive.
        identity: What makes this file the same delivery when it is offered
            again: its path below the inbox, or pipeline and absolute path.
        seen: How it looked when it was found complete; None: nobody looked.
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

    @property
    def facts(self) -> dict[str, str]:
        """
        Its name, and the `folder` that it lay in, below one that a person named.

        Of a file in the inbox the folders are its tenant, pipeline and batch.
        """
        folders = self.relative.split("/")[:-1] if self.named else []
        folder = "/".join(display_name(folder) for folder in folders)
        return {"name": self.name} | ({"folder": folder} if folder else {})


class Walk:
    """
    Walks a tree in slices, so that a huge inbox never holds a thread for long.

    Attributes:
        troubles: Folders that could not be listed, with the reason.
        hidden: What is not looked at for its name, but for litter of programs.
    """

    def __init__(self, root: Path) -> None:
        self.troubles: dict[str, str] = {}
        self.hidden: list[str] = []
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
                    relative = f"{below}/{entry.name}" if below else entry.name
                    if ignored(entry.name):
                        if not litter(entry.name) and len(self.hidden) < MAX_HIDDEN:
                            self.hidden.append(relative)
                    elif _descends(entry) and depth < MAX_DEPTH:
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
        why = os.strerror(error.errno or errno.EIO)
        return Look(relative, Seen(0, 0, 0), 0, why, "UNREADABLE")
    look = Look(relative, fingerprint(found), found.st_ctime_ns)
    if stat.S_ISREG(found.st_mode):
        return look
    if _descends(entry):
        why = f"it is a folder {MAX_DEPTH + 1} folders deep"
        return look._replace(odd=why, code="TOO_DEEP")
    why = f"it is {kind_of(found.st_mode)}"
    if stat.S_ISDIR(found.st_mode):
        why += " with the name of a document"
    return look._replace(odd=why)


def kind_of(mode: int) -> str:
    """What stands where a regular file should, in words."""
    for test, word in (
        (stat.S_ISLNK, "a symbolic link"),
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
    ):
        if test(mode):
            return word
    return "a device"


def named(
    paths: Sequence[Path], *, pipeline: str, passed: list[Waiting] | None = None
) -> list[Candidate]:
    """
    The files that a person named, folders expanded.

    A named symbolic link is followed (the person chose it); links inside a
    named folder are not.  What is left out of a folder goes to `passed`, by path.

    Raises:
        NotFound: NO_SUCH_FILE, a path that does not exist.
    """
    found: list[Candidate] = []
    left: list[Waiting] = []
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
        looks: list[Look] = []
        while part := walk.slice(10_000):
            looks += part
        left += [
            waiting._replace(relative=str(path / waiting.relative))
            for waiting in passed_over(walk, looks)
        ]
        found += [
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
        ]
    if passed is not None:
        passed += left
    return found


def passed_over(walk: Walk, looks: Iterable[Look]) -> Iterator[Waiting]:
    """What a finished walk found that is no file to take, and why."""
    files = {look.relative for look in looks if not look.odd}
    for look in looks:
        if look.odd:
            yield Waiting(look.relative, look.code, look.odd, 0.0)
        elif partial(look.relative):
            yield Waiting(look.relative, "PARTIAL", PARTIAL_WHY, 0.0)
        elif (
            look.relative.endswith(MARKER)
            and look.relative.removesuffix(MARKER) not in files
        ):
            yield Waiting(look.relative, "MARKER_ALONE", ALONE_WHY, 0.0)
    for folder, why in walk.troubles.items():
        yield Waiting(folder, "FOLDER_UNREADABLE", why, 0.0)
    for path in walk.hidden:
        yield Waiting(path, "HIDDEN", "its name begins with a dot or ~$", 0.0)


def fingerprint(found: os.stat_result) -> Seen:
    """Size, mtime and inode of a `stat`."""
    return Seen(found.st_size, found.st_mtime_ns, found.st_ino)
