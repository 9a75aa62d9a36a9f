"""Durable writes: whole or not at all, and nothing left behind."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.artifacts.durable import (
    new_part,
    publish,
    sweep,
    write_atomically,
    write_once,
)
from pipeline.artifacts.files import FileArtifacts
from pipeline.errors import Trouble


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_replaces_what_was_there(tmp_path: Path) -> None:
    """Under its name alone, readable by the service's group."""
    target = tmp_path / "new" / "file"
    write_atomically(target, b"first")
    write_atomically(target, b"second")

    assert target.read_bytes() == b"second"
    assert target.stat().st_mode & 0o777 == 0o640
    assert names(target.parent) == ["file"]


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    """Neither half of the new bytes nor the part that they were written to."""
    target = tmp_path / "file"
    write_atomically(target, b"first")

    def fail() -> None:
        with new_part(tmp_path) as part:
            part.write(b"sec")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail()

    assert target.read_bytes() == b"first"
    assert names(tmp_path) == ["file"]


def test_a_published_file_keeps_the_mode_it_was_made_with(tmp_path: Path) -> None:
    """Who makes the part says who may read it."""
    with new_part(tmp_path) as part:
        part.write(b"x")
        publish(part, tmp_path / "file")

    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


def test_a_sweep_takes_what_nobody_writes(tmp_path: Path) -> None:
    """A killed process's part goes; a living one's stays."""
    (tmp_path / ".killed.part").write_bytes(b"half")
    (tmp_path / "document.part").write_bytes(b"somebody's")
    with new_part(tmp_path) as part:
        part.write(b"x")
        sweep(tmp_path)
        publish(part, tmp_path / "file")

    assert names(tmp_path) == ["document.part", "file"]


def test_a_store_begins_without_old_parts(tmp_path: Path) -> None:
    """What a killed worker was writing does not stay for ever."""
    FileArtifacts(tmp_path)
    (tmp_path / "fresh" / ".killed.part").write_bytes(b"half")
    FileArtifacts(tmp_path)

    assert names(tmp_path / "fresh") == []


def test_a_folder_that_cannot_be_written_to_is_trouble(tmp_path: Path) -> None:
    """Named, and told apart from what is wrong with the bytes."""
    (tmp_path / "out").write_text("a file")

    with pytest.raises(Trouble) as raised:
        write_atomically(tmp_path / "out" / "x", b"x")

    assert raised.value.code == "NO_FOLDER"
    assert raised.value.where == str(tmp_path / "out")


def test_a_folder_that_is_moved_away_keeps_no_part(tmp_path: Path) -> None:
    """Somebody makes room for another folder while a file is written."""
    (tmp_path / "out").mkdir()
    with new_part(tmp_path / "out") as part:
        part.write(b"half")
        (tmp_path / "out").rename(tmp_path / "away")

    assert names(tmp_path / "away") == []


def test_what_is_written_once_is_the_first_ones(tmp_path: Path) -> None:
    """For its owner alone; nothing is left beside it."""
    path = tmp_path / "keys" / "one"

    first, second = write_once(path, b"first"), write_once(path, b"second")

    assert first == second == b"first"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_of_many_who_write_once_one_is_the_first(tmp_path: Path) -> None:
    """All have what stands there."""
    path = tmp_path / "keys" / "one"
    with ThreadPoolExecutor(8) as pool:
        said = set(pool.map(lambda n: write_once(path, b"%d" % n), range(64)))

    assert said == {path.read_bytes()}
