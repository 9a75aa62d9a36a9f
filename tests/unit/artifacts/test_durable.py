"""Durable writes: whole or not at all, and nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.artifacts.durable import new_part, publish, write_atomically


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
