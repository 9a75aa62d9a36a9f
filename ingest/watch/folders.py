"""
The folders of the way in: layout, names, and which files are never ours to take.

    inbox/<tenant>/<pipeline>/[batch/…]file

A file directly in the inbox belongs to the tenant `default` and its default
pipeline.  Folders beyond the pipeline name the batch; without them there is one
batch a day.  The other folders (archive, quarantine, store) must lie apart from
the inbox and from each other, or the service would eat its own output.
"""

from __future__ import annotations

import os
import re
import time
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import Usage
from pipeline.names import cut, visible

DEFAULT_TENANT = "default"
MARKER = ".done"  # `scan.pdf.done` says that `scan.pdf` is complete
PARTIAL = (".part", ".partial", ".filepart", ".tmp", ".crdownload")
NOISE = frozenset({"thumbs.db", "desktop.ini", "@eadir", "__macosx"})
# A folder with such a name is a bundle or a mistake: descending into it would
# make one document into many.
DOCUMENT = frozenset(
    (
        ".pdf",
        ".png",
        ".jpg",
        ".jpeg",
        ".tif",
        ".tiff",
        ".heic",
        ".bmp",
        ".gif",
        ".webp",
        ".docx",
        ".doc",
        ".rtf",
    )
)

MAX_NAME_CHARS = 200  # of a display name; arbitrary, fits a terminal line or two
MAX_FILE_BYTES = 190  # of a name we choose, before prefix and suffix; the limit is 255
SPOOL_PREFIX = "take-"
SPOOL_AGE_S = 86_400.0  # a copy this old was left by a killed process

# Of these, changes made on another machine never arrive as events here.
NETWORK = frozenset(
    (
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "ncpfs",
        "9p",
        "afs",
        "ceph",
        "glusterfs",
        "lustre",
        "beegfs",
        "gpfs",
        "vboxsf",
        "prl_fs",
        "virtiofs",
        "drvfs",
        "fakeowner",
        "osxfs",
        "grpcfuse",
    )
)


class Place(NamedTuple):
    """Whose a file is; `pipeline` and `batch` are "" for the default ones."""

    tenant: str
    pipeline: str
    batch: str


@dataclass(frozen=True, slots=True)
class Folders:
    """
    Every folder that the way in touches.

    Attributes:
        inbox: Where people put files.
        archive: Where received files go, under the same relative path.
        quarantine: Where refused files go, with the reason beside them.
        store: The artifact store's folder; only checked to lie apart.
        scratch: For copies of large files on their way into the store.
    """

    inbox: Path
    archive: Path
    quarantine: Path
    store: Path
    scratch: Path

    def prepare(self) -> None:
        """
        Make what is missing and drop the copies of killed processes.

        Raises:
            Usage: INGEST_FOLDERS, when folders overlap or cannot be made.
        """
        self._apart()
        for folder in (self.inbox, self.archive, self.quarantine, self.scratch):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise Usage(
                    f"the folder {folder} cannot be made: {error.strerror}",
                    code="INGEST_FOLDERS",
                    hint="create it, or give the service the right to",
                ) from error
        self._apart()  # again: only folders that exist show a bind mount
        for left in self.scratch.glob(f"{SPOOL_PREFIX}*"):
            if time.time() - left.lstat().st_mtime > SPOOL_AGE_S:
                left.unlink(missing_ok=True)

    def _apart(self) -> None:
        named = (
            ("inbox", self.inbox),
            ("archive", self.archive),
            ("quarantine", self.quarantine),
            ("store", self.store),
        )
        pairs = [(a, b) for a in named for b in named if a[0] < b[0]]
        pairs.append((("inbox", self.inbox), ("scratch", self.scratch)))
        for (one, first), (other, second) in pairs:
            if _holds(first, second) or _holds(second, first):
                raise Usage(
                    f"{one} ({first}) and {other} ({second}) overlap",
                    code="INGEST_FOLDERS",
                    hint="give each its own folder, none inside another",
                )


def _holds(outer: Path, inner: Path) -> bool:
    """Whether `inner` is `outer` or lies in it, also by another name."""
    real_outer, real_inner = outer.resolve(), inner.resolve()
    if real_inner.is_relative_to(real_outer):
        return True
    if not real_outer.exists():
        return False
    # The same folder may be mounted twice; names do not tell, inodes do.
    return any(
        folder.exists() and folder.samefile(real_outer)
        for folder in (real_inner, *real_inner.parents)
    )


def place_of(relative: str) -> Place:
    """Tenant, pipeline and batch of a file, from its path below the inbox."""
    *folders, _ = relative.split("/")
    names = [display_name(folder) for folder in folders]
    tenant = names[0] if names else DEFAULT_TENANT
    pipeline = names[1] if len(names) > 1 else ""
    return Place(tenant, pipeline, "/".join(names[2:])[:MAX_NAME_CHARS])


def today() -> str:
    """The name of today's batch.  UTC, so that all hosts agree."""
    return datetime.now(UTC).date().isoformat()


# -- names ----------------------------------------------------------------------------


def ignored(name: str) -> bool:
    """Whether files and folders of this name are never looked at."""
    return name.startswith((".", "~$")) or name.lower() in NOISE


def litter(name: str) -> bool:
    """Whether a program of the system's left this; nobody misses it."""
    return name.lower() in NOISE or name == ".DS_Store" or name.startswith("._")


def partial(name: str) -> str:
    """The name that a partial file will get, or "" when it is none."""
    for suffix in PARTIAL:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return ""


def display_name(name: str) -> str:
    """
    A file name fit to be stored and shown: valid, visible, bounded.

    Bytes that are not UTF-8 and characters that steer a terminal or the
    direction of text become escapes (`\\xff`, `\\x1b`, `\\u202e`).
    """
    shown = visible(unicodedata.normalize("NFC", name))
    if len(shown) > MAX_NAME_CHARS:
        tail = shown[-40:]  # keeps the extension and the number before it
        shown = f"{shown[: MAX_NAME_CHARS - 41]}…{tail}"
    return shown or "unnamed"


def safe_file_name(name: str) -> str:
    """`name` as a file name of ours: letters, digits, `._-`, at most 190 bytes."""
    plain = re.sub(r"[^\w.\-]+", "_", display_name(name)).lstrip(".-") or "unnamed"
    return fit(plain, MAX_FILE_BYTES)


def fit(name: str, max_bytes: int, tag: str = "") -> str:
    """`name` with `tag` before its extension, shortened in the stem to fit."""
    stem, ext = os.path.splitext(name)
    if len(os.fsencode(ext)) > 16:  # no extension, just a dot in a long name
        stem, ext = name, ""
    return cut(stem, max_bytes - len(os.fsencode(tag + ext))) + tag + ext


# -- file systems ---------------------------------------------------------------------


def network_filesystem(folder: Path, mounts: Iterable[str] | None = None) -> str:
    """
    The type of the network file system that holds `folder`, or "".

    Args:
        mounts: Lines as in `/proc/mounts`, which is read when not given; where
            there is none, "" (then the periodic scan still finds everything).
    """
    if mounts is None:
        try:
            with open("/proc/mounts", encoding="utf-8", errors="replace") as lines:
                mounts = lines.readlines()
        except OSError:
            return ""
    real = folder.resolve()
    best, kind = -1, ""
    for line in mounts:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), fields[1]))
        # The last of several mounts on one point is the one that shows.
        if real.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), fields[2]
    return kind if kind in NETWORK or kind.startswith("fuse.") else ""
