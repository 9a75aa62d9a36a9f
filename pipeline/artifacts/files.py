"""
Artifacts: immutable bytes named by the sha256 of their content.

Laid out as `objects/ab/cdef…`.  Bytes are written beside their place, synced,
renamed and the folder synced, so that a name that exists always means the whole
content, also after a power cut.  Storing the same bytes twice costs a look.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from tempfile import NamedTemporaryFile

from anyio import to_thread

from pipeline.errors import Integrity, NotFound

CHUNK_BYTES = 1 << 20


class FileArtifacts:
    """Artifacts in a folder of this machine (or of a shared file system)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        # Every writer starts here: one file system, so that rename is atomic.
        self._fresh = root / "fresh"
        self._fresh.mkdir(parents=True, exist_ok=True)

    def __repr__(self) -> str:
        return f"<FileArtifacts {self.root}>"

    def path(self, name: str) -> Path:
        """Where the bytes of `name` lie."""
        return self.root / name[:2] / name[2:]

    async def put(self, data: bytes) -> str:
        """Store `data` durably; return its name."""
        return await to_thread.run_sync(self._put, data)

    async def put_file(self, path: Path) -> str:
        """Store a file's bytes durably, streaming; return their name."""
        return await to_thread.run_sync(self._put_file, path)

    async def get(self, name: str) -> bytes:
        """
        The bytes of `name`.

        Raises:
            NotFound: there is no such artifact.
            Integrity: the bytes are not the ones that were stored.
        """
        return await to_thread.run_sync(self._get, name)

    def _put(self, data: bytes) -> str:
        name = hashlib.sha256(data).hexdigest()
        if self.path(name).exists():
            return name
        with NamedTemporaryFile(dir=self._fresh, delete=False) as file:
            file.write(data)
            file.flush()
            self._settle(Path(file.name), file.fileno(), name)
        return name

    def _put_file(self, path: Path) -> str:
        # Copied and hashed in one pass: the name belongs to the copy, whatever
        # happens to the source meanwhile.
        digest = hashlib.sha256()
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        with (
            os.fdopen(descriptor, "rb") as source,
            NamedTemporaryFile(dir=self._fresh, delete=False) as file,
        ):
            try:
                while chunk := source.read(CHUNK_BYTES):
                    digest.update(chunk)
                    file.write(chunk)
                file.flush()
                name = digest.hexdigest()
                self._settle(Path(file.name), file.fileno(), name)
            except OSError:
                Path(file.name).unlink(missing_ok=True)
                raise
        return name

    def _settle(self, fresh: Path, descriptor: int, name: str) -> None:
        place = self.path(name)
        if place.exists():
            fresh.unlink()
            return
        os.fsync(descriptor)
        fresh.chmod(0o640)
        place.parent.mkdir(exist_ok=True)
        fresh.replace(place)
        sync_folder(place.parent)

    def _get(self, name: str) -> bytes:
        try:
            data = self.path(name).read_bytes()
        except FileNotFoundError:
            raise NotFound(f"artifact {name[:12]} is not in the store") from None
        if hashlib.sha256(data).hexdigest() != name:
            raise Integrity(
                f"artifact {name[:12]} changed on disk",
                code="ARTIFACT_CHANGED",
                hint="restore the artifact store from its backup",
            )
        return data


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, data: bytes) -> None:
    """Write `path` so that a reader sees all of the new bytes or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(
        dir=path.parent, prefix=".", suffix=".part", delete=False
    ) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).chmod(0o640)
    Path(file.name).replace(path)
    sync_folder(path.parent)


def free_bytes(folder: Path) -> int:
    """Free space of the file system that `folder` is on."""
    return shutil.disk_usage(folder).free
