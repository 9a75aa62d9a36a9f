"""
Pinned pipelines: the files of one version, laid out again and proven before they run.

A row of the database says which files a version has, and its files are code.  So the
row is not believed: its files must have the digest that is its version, and it must be
what this installation published, which is noted beside the artifacts, where a row
cannot reach.  Each file must have the bytes of its name, and a folder that was laid out
before is compared file by file.  Who may write to those folders is the service itself.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from pipeline.artifacts.durable import write_atomically
from pipeline.errors import Integrity, NotFound, Usage
from pipeline.stage import Artifacts
from pipeline.store.rows import PipelineRow
from pipeline.trouble import ours

FILES_MAX = 500  # arbitrary; a pipeline is configuration, not a corpus
FILE_BYTES_MAX = 20 << 20  # a font may lie beside a template
COMPLETE = ".complete"
NAME = re.compile(r"[a-z][a-z0-9_-]{0,40}")
VERSION = re.compile(r"[0-9a-f]{12}")
ARTIFACT = re.compile(r"[0-9a-f]{64}")


class Kept(Artifacts, Protocol):
    """Artifacts, and the folder beside them where it is noted what was published."""

    published: Path


class Pins:
    """
    The pinned versions of this installation.

    Args:
        cache: Folder where they are laid out.
    """

    def __init__(self, artifacts: Kept, cache: Path) -> None:
        self._artifacts = artifacts
        self._cache = cache

    async def keep(self, name: str, files: Mapping[str, Path]) -> dict[str, str]:
        """Store a folder's files, and note them as published; path -> artifact."""
        kept = {
            relative: await self._artifacts.put_file(path)
            for relative, path in files.items()
        }
        note = self._note(name, version_named(kept))
        text = _noted(kept)
        with ours("the artifact store", note.parent):
            if not note.is_file() or note.read_text(encoding="utf-8") != text:
                write_atomically(note, text.encode())
        return kept

    def adopt(self, rows: Sequence[PipelineRow]) -> None:
        """
        Note as published what an earlier version published, which made no notes.

        Once: as soon as there is a folder of notes, rows are not believed any more.
        """
        published = self._artifacts.published
        with ours("the artifact store", published.parent):
            published.parent.mkdir(parents=True, exist_ok=True)
            fresh = Path(tempfile.mkdtemp(prefix=".published-", dir=published.parent))
            for row in rows:
                if _is_sound(row):
                    note = fresh / self._note(row.name, row.version).name
                    note.write_text(_noted(row.files), encoding="utf-8")
            try:
                fresh.rename(published)
            except OSError:
                shutil.rmtree(fresh)
                if not published.is_dir():
                    raise  # else somebody was quicker, with the same notes

    @property
    def adopted(self) -> bool:
        """Whether this installation has a folder of notes."""
        return self._artifacts.published.is_dir()

    async def lay_out(self, row: PipelineRow) -> Path:
        """
        The folder of a version, proven.

        Raises:
            Integrity: PIPELINE_CHANGED, the row or the folder is not what was
                published, or not in the store; ARTIFACT_CHANGED, a file there is not
                what it was.
        """
        self._prove(row)
        root = self._cache / f"{row.name}@{row.version}"
        # Written last, so that a folder half laid out is laid out again.
        mark = root / COMPLETE
        if not mark.exists():
            for relative, artifact in row.files.items():
                write_atomically(root / relative, await self._get(artifact))
            write_atomically(mark, b"")
        if _found(root) != row.files:
            raise _changed(
                f"the files in {root} are not those of this version any more",
                "see who changed them, then delete the folder: it is laid out again",
            )
        return root

    def _prove(self, row: PipelineRow) -> None:
        """That the row is what was published here."""
        if not _is_sound(row):
            raise _changed(
                "the database's row of this pipeline is not what was published",
                "see who changed it; restore it from a backup",
            )
        note = self._note(row.name, row.version)
        try:
            published = note.read_text(encoding="utf-8") == _noted(row.files)
        except FileNotFoundError:
            published = False
        if not published:
            raise _changed(
                f"{row.name}@{row.version} was never published by this installation",
                "was WAYBILL_HOME/objects restored or shared without its folder "
                "`published`? Else see who wrote that row",
            )

    async def _get(self, artifact: str) -> bytes:
        try:
            return await self._artifacts.get(artifact)
        except NotFound as error:
            raise _changed(error.message, "restore WAYBILL_HOME/objects") from None

    def _note(self, name: str, version: str) -> Path:
        return self._artifacts.published / f"{name}@{version}.json"


def _is_sound(row: PipelineRow) -> bool:
    """Whether a row has the form of what is published, and names its own content."""
    return (
        NAME.fullmatch(row.name) is not None
        and VERSION.fullmatch(row.version) is not None
        and all(_is_inside(relative) for relative in row.files)
        and all(ARTIFACT.fullmatch(artifact) for artifact in row.files.values())
        and version_named(row.files) == row.version
    )


def list_files(root: Path) -> dict[str, Path]:
    """Relative path -> file, of all that belongs to a pipeline folder."""
    found = {}
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if _is_hidden(relative.parts) or path.is_symlink() or not path.is_file():
            continue
        if path.stat().st_size > FILE_BYTES_MAX:
            raise Usage(f"{path} is larger than {FILE_BYTES_MAX >> 20} MiB")
        found[relative.as_posix()] = path
        if len(found) > FILES_MAX:
            raise Usage(f"{root} has more than {FILES_MAX} files: is it a pipeline?")
    return found


def version_of(files: Mapping[str, Path]) -> str:
    """The digest that names this content of a folder: 12 hex digits."""
    return version_named({relative: _sha256(path) for relative, path in files.items()})


def version_named(files: Mapping[str, str]) -> str:
    """The same of relative path -> sha256, which is an artifact's name."""
    digest = hashlib.sha256()
    for relative, artifact in sorted(files.items()):
        digest.update(relative.encode() + b"\0")
        digest.update(bytes.fromhex(artifact))
    return digest.hexdigest()[:12]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _found(root: Path) -> dict[str, str]:
    """What lies in a laid out folder; a link counts, for it may be run."""
    links = {
        path.relative_to(root).as_posix(): "link"
        for path in root.rglob("*")
        if path.is_symlink()
    }
    return {name: _sha256(path) for name, path in list_files(root).items()} | links


def _is_hidden(parts: tuple[str, ...]) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in parts)


def _is_inside(relative: str) -> bool:
    """Whether this is a path that `list_files` gives: it names a place below."""
    parts = tuple(relative.split("/"))
    return all(parts) and not _is_hidden(parts) and "\0" not in relative


def _noted(files: Mapping[str, str]) -> str:
    return json.dumps(files, sort_keys=True)


def _changed(message: str, hint: str) -> Integrity:
    return Integrity(message, code="PIPELINE_CHANGED", hint=hint)
