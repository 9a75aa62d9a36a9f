"""A row of the database says which code runs: it is proven before it does."""

from __future__ import annotations

import hashlib
import py_compile
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.files import FileArtifacts
from pipeline.errors import Integrity, NotFound
from pipeline.folder import Builtin, Catalogue
from pipeline.model import Advance
from pipeline.pinned import list_files, version_named, version_of
from pipeline.store.memory import MemoryStore
from pipeline.store.rows import PipelineRow
from tests.unit.engine import Letter

BUILTIN = Builtin({}, Letter)
STAMP = """
from pipeline.stage import Advance, stage

@stage()
async def stamp(letter, ctx):
    return Advance(text="{text}")
"""


class Installation:
    """One published pipeline `x`, whose row and files a test may change."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.live = home / "live"
        self.live.mkdir()
        (self.live / "pipeline.toml").write_text("name = 'x'\nstages = ['stamp']")
        (self.live / "stamp.py").write_text(STAMP.format(text="ours"))
        self.artifacts = FileArtifacts(home / "objects")
        self.store = MemoryStore()
        self.number = 0

    async def publish(self) -> None:
        self.number, _ = await self.catalogue().publish(self.live, self.store)

    def catalogue(self) -> Catalogue:
        """What a worker that has just started has."""
        return Catalogue(self.artifacts, self.home / "pipelines", BUILTIN)

    @property
    def row(self) -> PipelineRow:
        return self.store._pipelines[self.number]

    @row.setter
    def row(self, row: PipelineRow) -> None:
        self.store._pipelines[self.number] = row

    @property
    def laid_out(self) -> Path:
        return self.home / "pipelines" / f"x@{self.row.version}"

    async def runs(self) -> str:
        """The text that the pinned stage makes, in a fresh worker."""
        found = await self.catalogue().get(self.number, self.store)
        outcome: Any = await found.stages["stamp"].stage.run(Letter(), None)
        assert isinstance(outcome, Advance)
        return str(outcome.updates["text"])


@pytest.fixture
async def home(tmp_path: Path) -> Installation:
    """Published, and not laid out yet."""
    made = Installation(tmp_path)
    await made.publish()
    return made


async def evil(home: Installation) -> dict[str, str]:
    """The files of the version with another stage, all of them artifacts."""
    text = STAMP.format(text="theirs").encode()
    return {**home.row.files, "stamp.py": await home.artifacts.put(text)}


async def test_what_was_published_runs(home: Installation) -> None:
    """Laid out, and again from what was laid out."""
    assert [await home.runs(), await home.runs()] == ["ours", "ours"]


async def refused(home: Installation) -> Integrity:
    with pytest.raises(Integrity) as error:
        await home.runs()
    assert error.value.code == "PIPELINE_CHANGED"
    assert error.value.hint
    return error.value


@pytest.mark.parametrize("laid_out", [False, True])
async def test_a_row_with_other_files_is_refused(
    home: Installation, laid_out: bool
) -> None:
    """Its version is not the digest of its files, whatever lies on the disk."""
    if laid_out:
        await home.runs()
    home.row = home.row._replace(files=await evil(home))

    await refused(home)


async def test_a_row_that_nobody_published_is_refused(home: Installation) -> None:
    """Its digest is right and its files are artifacts: documents are artifacts too."""
    files = await evil(home)
    home.row = home.row._replace(files=files, version=version_named(files))

    assert "never published" in (await refused(home)).message


async def test_what_an_earlier_version_published_is_adopted_once(
    home: Installation,
) -> None:
    """It made no notes; rows that come later are not believed."""
    shutil.rmtree(home.artifacts.published)
    mine = home.row
    broken = mine._replace(id=99, files={**mine.files, "more.py": "f" * 64})
    home.store._pipelines[99] = broken

    await home.catalogue().adopt(home.store)

    assert await home.runs() == "ours"
    home.row = broken
    await refused(home)
    files = await evil(home)
    home.row = mine._replace(files=files, version=version_named(files))
    await home.catalogue().adopt(home.store)
    await refused(home)


@pytest.mark.parametrize(
    "relative",
    ["../stamp.py", "/tmp/stamp.py", "a/../../stamp.py", "a//b", "", ".hid/x", "a\0b"],
)
async def test_a_path_that_leads_elsewhere_is_refused(
    home: Installation, relative: str
) -> None:
    """Nothing is written anywhere."""
    files = {**home.row.files, relative: home.row.files["stamp.py"]}
    home.row = home.row._replace(files=files, version=version_named(files))

    await refused(home)

    assert not (home.home / "pipelines").exists()


@pytest.mark.parametrize("name", ["../x", "x/../../y", "X", ""])
async def test_a_name_that_leads_elsewhere_is_refused(
    home: Installation, name: str
) -> None:
    """It is part of a path, too."""
    home.row = home.row._replace(name=name)

    await refused(home)


async def test_an_artifact_that_is_none_is_refused(home: Installation) -> None:
    """A file of the machine is no artifact, by any name."""
    home.row = home.row._replace(files={"stamp.py": "xx/etc/passwd"})

    await refused(home)


def change_a_file(root: Path) -> None:
    (root / "stamp.py").write_text(STAMP.format(text="theirs"))


def add_a_file(root: Path) -> None:
    (root / "state.py").write_text("raise SystemExit")


def remove_a_file(root: Path) -> None:
    (root / "stamp.py").unlink()


def link_a_file(root: Path) -> None:
    (root / "other.py").symlink_to(root / "stamp.py")


@pytest.mark.parametrize(
    "change", [change_a_file, add_a_file, remove_a_file, link_a_file]
)
async def test_a_laid_out_folder_that_somebody_changed_is_refused(
    home: Installation, change: Callable[[Path], None]
) -> None:
    """Until it is deleted: then it is laid out again."""
    await home.runs()
    change(home.laid_out)

    await refused(home)

    shutil.rmtree(home.laid_out)
    assert await home.runs() == "ours"


async def test_compiled_code_beside_a_file_is_not_run(home: Installation) -> None:
    """Python would take it, were its time that of the source."""
    await home.runs()
    source = home.laid_out / "stamp.py"
    other = home.home / "other.py"
    other.write_text(STAMP.format(text="evil"))
    shutil.copystat(source, other)
    other.write_bytes(other.read_bytes().ljust(source.stat().st_size))
    shutil.copystat(source, other)
    for version in ("cpython-311", "cpython-312", "cpython-313", "cpython-314"):
        planted = source.parent / "__pycache__" / f"stamp.{version}.pyc"
        py_compile.compile(str(other), cfile=str(planted))

    assert await home.runs() == "ours"


async def test_an_artifact_that_changed_is_refused(home: Installation) -> None:
    """The store itself may have been written to."""
    home.artifacts.path(home.row.files["stamp.py"]).write_text("import os")

    with pytest.raises(Integrity) as error:
        await home.runs()

    assert error.value.code == "ARTIFACT_CHANGED"


async def test_an_artifact_that_is_gone_is_refused(home: Installation) -> None:
    """It comes back with the store's backup."""
    home.artifacts.path(home.row.files["stamp.py"]).unlink()

    assert "not in the store" in (await refused(home)).message


def test_the_version_of_names_is_that_of_files(tmp_path: Path) -> None:
    """One digest, of a folder and of a row."""
    (tmp_path / "a").mkdir()
    for name in ("b", "a/c"):
        (tmp_path / name).write_text(name)
    named = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("a/c", "b")}

    assert version_of(list_files(tmp_path)) == version_named(named)


@pytest.mark.parametrize("name", ["xx/etc/passwd", "../..", "", "A" * 64, "a" * 63])
def test_no_name_of_an_artifact_leads_elsewhere(tmp_path: Path, name: str) -> None:
    """It may come from a row that somebody wrote."""
    with pytest.raises(NotFound):
        FileArtifacts(tmp_path).path(name)
