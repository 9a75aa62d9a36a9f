"""
Artifacts: immutable bytes named by the sha256 of their content.

Laid out as `objects/ab/cdef…`, written durably: a name that exists always means the
whole content.  Storing the same bytes twice costs a look.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

from pipeline.artifacts.durable import OURS, new_part, publish, sweep
from pipeline.errors import Integrity, NotFound
from pipeline.threads import in_thread
from pipeline.trouble import Place, ours

CHUNK_BYTES = 1 << 20
NAME = re.compile(r"[0-9a-f]{64}")


class FileArtifacts:
    """
    Artifacts in a folder of this machine (or of a shared file system).

    Every method raises `Trouble` when the folder cannot be used.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        # Every writer starts here: one file system, so that rename is atomic.
        self._fresh = root / "fresh"
        self.place = Place("the artifact store", self._fresh, made=True)
        with self._ours():
            self._fresh.mkdir(parents=True, exist_ok=True)
            sweep(self._fresh)
        self.published = root / "published"  # notes of `pipeline.pinned`

    def __repr__(self) -> str:
        return f"<FileArtifacts {self.root}>"

    def path(self, name: str) -> Path:
        """
        Where the bytes of `name` lie.

        Raises:
            NotFound: that is no artifact's name: it may come from a row that somebody
                wrote, and must not lead to another file.
        """
        if not NAME.fullmatch(name):
            raise NotFound("that is no artifact's name")
        return self.root / name[:2] / name[2:]

    async def put(self, data: bytes) -> str:
        """Store `data` durably; return its name."""
        return await in_thread(self._put, data)

    async def put_file(self, path: Path) -> str:
        """Store a file's bytes durably, streaming; return their name."""
        return await in_thread(self._put_file, path)

    async def get(self, name: str) -> bytes:
        """
        The bytes of `name`.

        Raises:
            NotFound: there is no such artifact.
            Integrity: the bytes are not the ones that were stored.
        """
        return await in_thread(self._get, name)

    def _ours(self) -> AbstractContextManager[None]:
        return ours(self.place.name, self.root)

    def _put(self, data: bytes) -> str:
        name = hashlib.sha256(data).hexdigest()
        with self._ours():
            if not self.path(name).exists():
                with new_part(self._fresh) as part:
                    part.write(data)
                    self._settle(part, name)
        return name

    def _put_file(self, path: Path) -> str:
        # Copied and hashed in one pass: the name belongs to the copy, whatever
        # happens to the source meanwhile.
        digest = hashlib.sha256()
        with (
            self._ours(),
            os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as source,
            new_part(self._fresh) as part,
        ):
            while chunk := source.read(CHUNK_BYTES):
                digest.update(chunk)
                part.write(chunk)
            name = digest.hexdigest()
            self._settle(part, name)
        return name

    def _settle(self, part: IO[bytes], name: str) -> None:
        place = self.path(name)
        if not place.exists():
            place.parent.mkdir(exist_ok=True)
            publish(part, place, mode=OURS)

    def _get(self, name: str) -> bytes:
        with ours(self.place.name, self.root):
            try:
                data = self.path(name).read_bytes()
            except FileNotFoundError:
                if not self._fresh.is_dir():
                    raise  # a disk that is not mounted: the whole store is gone
                said = f"artifact {name[:12]} is not in the store"
                raise NotFound(said) from None
        if hashlib.sha256(data).hexdigest() != name:
            raise Integrity(
                f"artifact {name[:12]} changed on disk",
                code="ARTIFACT_CHANGED",
                hint="restore the artifact store from its backup",
            )
        return data


def free_bytes(folder: Path) -> int:
    """Free space of the file system that `folder` is on."""
    return shutil.disk_usage(folder).free
