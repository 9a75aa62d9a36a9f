"""
Where received files go: the archive, or quarantine with the reason beside them.

Nothing here deletes a document or writes over one.  A target name is reserved
first (exclusive create), then the file is renamed onto our own empty reservation:
that is atomic on every file system, and a crash between the two leaves an empty
file and the document still in the inbox.  Blocking: call it in a thread.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ingest.candidates import Candidate, Seen, fingerprint
from ingest.copying import changed, copy_into, folder_of
from ingest.watch.folders import MARKER, display_name, fit, safe_file_name
from ingest.writers import unwritten
from pipeline.errors import Transient

REASON = ".reason.json"
MAX_NAME_BYTES = 255  # of one path component on the usual file systems
MAX_REASON_BYTES = 65_536
MAX_NAMESAKES = 1000  # deliveries of one name that the archive keeps apart


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a file is quarantined."""

    code: str
    why: str
    hint: str

    @property
    def said(self) -> str:
        """Why, and what to do."""
        return f"{self.why} ({self.hint})" if self.hint else self.why


class Shelf:
    """Puts files away, each under a name that was free."""

    def __init__(self, archive: Path, quarantine: Path) -> None:
        self.archive_root = archive
        self.quarantine_root = quarantine

    def archive(self, candidate: Candidate, seen: Seen, token: str) -> Path:
        """
        Move a received file to the archive, under the same relative path.

        Raises:
            Transient: FILE_CHANGED, it is not the file that was received any
                more; it was left, or put back, where it was.
            OSError: it could not be moved; it is where it was.
        """
        wanted = self.archive_root / candidate.relative
        names = _archive_names(wanted.name, token)
        return move(candidate, seen, wanted.parent, names)

    def reserve(
        self,
        candidate: Candidate,
        refusal: Refusal,
        *,
        key: str,
        token: str,
        size_bytes: int,
        arrived_s: float,
    ) -> str:
        """
        Write the reason and so reserve the place of a file that is refused.

        Comes before the receipt, which names the place.  After a crash the same
        file (`token`) gets the same place: the day in it is that of its arrival.

        Returns:
            The file's place to be, below the quarantine folder.

        Raises:
            OSError: the reason could not be written.
        """
        day = datetime.fromtimestamp(arrived_s, UTC).date().isoformat()
        folder = self.quarantine_root / day
        folder.mkdir(parents=True, exist_ok=True)
        reason = {
            "code": refusal.code,
            "why": refusal.why,
            "hint": refusal.hint,
            "path": display_name(str(candidate.path)),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "sha256": key,
            "size_bytes": size_bytes,
            "token": token,
        }
        plain = safe_file_name(candidate.name)
        for prefix in (key[:12], f"{key[:12]}-{token[:8]}", f"{key[:12]}-{token}"):
            name = f"{prefix}-{plain}" if len(prefix) < 32 else prefix
            if _write_reason(folder / f"{name}{REASON}", reason):
                return f"{day}/{name}"
        raise FileExistsError(errno.EEXIST, "the quarantine place is taken")

    def quarantine(
        self, candidate: Candidate, seen: Seen, kept_at: str, *, across: bool = True
    ) -> Path:
        """
        Move a refused file to the place that `reserve` gave; raises like `archive`.

        With `across` off it is not copied to another file system (EXDEV instead):
        a file over the size cap may be a terabyte of nothing.
        """
        target = self.quarantine_root / kept_at
        # The reason beside it already reserves this place for this very file, so
        # what a crash left here (nothing, or a copy) is its own.
        return move(candidate, seen, target.parent, None, target, across=across)

    def keep_copy(self, bytes_at: Path, kept_at: str) -> Path:
        """Quarantine a copy, where the original is to stay in its place."""
        target = self.quarantine_root / kept_at
        if not target.exists():
            with bytes_at.open("rb") as source:
                copy_into(source.fileno(), target)
        return target

    def take_back(self, target: Path, candidate: Candidate) -> None:
        """Put a file that should not have been moved back into its folder."""
        with folder_of(candidate) as (folder, name):
            _give_back(target, folder, name)

    def drop_marker(self, candidate: Candidate) -> None:
        """
        Remove a file's `.done` marker, if there is one.

        Before the file itself is moved: a marker left alone would vouch for the
        next file of that name, however incomplete.
        """
        with folder_of(candidate) as (folder, name):
            try:
                found = os.stat(name + MARKER, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISREG(found.st_mode):
                    os.unlink(name + MARKER, dir_fd=folder)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENAMETOOLONG):
                    raise


def _archive_names(name: str, token: str) -> Iterator[str]:
    yield name
    yield fit(name, MAX_NAME_BYTES, f"~{token[:8]}")
    for number in range(2, MAX_NAMESAKES):
        yield fit(name, MAX_NAME_BYTES, f"~{token[:8]}-{number}")


def _write_reason(path: Path, reason: dict[str, object]) -> bool:
    """Whether `path` is now this file's reason; False: it is another file's."""
    try:
        with path.open("x", encoding="utf-8") as file:
            json.dump(reason, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        try:
            with path.open("rb") as file:
                earlier = json.loads(file.read(MAX_REASON_BYTES))
        except ValueError:
            return False  # cut off by a crash: leave it, take another name
        return isinstance(earlier, dict) and earlier.get("token") == reason["token"]
    return True


def move(
    candidate: Candidate,
    seen: Seen,
    folder: Path,
    names: Iterator[str] | None,
    reserved: Path | None = None,
    *,
    across: bool = True,
) -> Path:
    """
    Move the file that was `seen` into `folder`, and no other one.

    Args:
        names: Names to try; the first that is free is taken.
        reserved: The place itself, where it is this file's already.
        across: Whether it may be copied to another file system.

    Raises:
        Transient: FILE_CHANGED, another file is there now; it was not moved.
        OSError: it could not be moved; it is where it was.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with folder_of(candidate) as (source, name):
        # Somebody may have put another file there since we read it: that one
        # has not been received, so it must not go.
        now = fingerprint(os.stat(name, dir_fd=source, follow_symlinks=False))
        if now != seen:
            raise changed(now, seen)
        target = reserved or _reserve(folder, names or iter(()))
        try:
            try:
                os.replace(name, target, src_dir_fd=source)
            except OSError as error:
                if error.errno != errno.EXDEV or not across:
                    raise
                _move_across(source, name, seen, target)
                return target
        except (OSError, Transient):
            if reserved is None:
                target.unlink()  # our own reservation, or a copy
            raise
        now = fingerprint(target.lstat())
        if now != seen:
            # It was swapped between the look and the rename.
            _give_back(target, source, name)
            raise changed(now, seen)
        # Its sender may have let everybody read it.  One that is not our own we cannot
        # close; the folder that it lies in now is.
        with suppress(OSError):
            target.chmod(stat.S_IMODE(target.stat().st_mode) & ~0o007)
        return target


def _reserve(folder: Path, names: Iterator[str]) -> Path:
    for name in names:
        target = folder / name
        try:
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640))
        except FileExistsError:
            continue
        return target
    raise FileExistsError(errno.EEXIST, "every name for it is taken")


def _move_across(source: int, name: str, seen: Seen, target: Path) -> None:
    """Move to another file system: copy, fsync, and only then unlink."""
    reader = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=source)
    try:
        if fingerprint(os.fstat(reader)) != seen:
            raise changed()
        # What is written after the unlink is lost: only while nobody can.
        with unwritten(reader):
            copy_into(reader, target)
            os.utime(target, ns=(seen.mtime_ns, seen.mtime_ns))
            now = os.stat(name, dir_fd=source, follow_symlinks=False)
            if not fingerprint(os.fstat(reader)) == fingerprint(now) == seen:
                raise changed()
        os.unlink(name, dir_fd=source)
    finally:
        os.close(reader)


def _give_back(target: Path, source: int, name: str) -> None:
    """Put a file that we should not have moved back, under a free name."""
    for number in range(MAX_NAMESAKES):
        tag = f"~{number}" if number else ""
        back = fit(name, MAX_NAME_BYTES, tag)
        try:
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
            os.close(os.open(back, flags, 0o640, dir_fd=source))
        except FileExistsError:
            continue
        os.replace(target, back, dst_dir_fd=source)
        return
