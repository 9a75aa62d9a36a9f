"""Folders of the way in: none lies in another."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.watch.folders import Folders
from pipeline.errors import Usage


@pytest.mark.parametrize("inner", ["archive", "quarantine", "store", "scratch"])
def test_overlapping_folders_are_refused(tmp_path: Path, inner: str) -> None:
    """The service does not start where it would eat its own output."""
    places = {
        name: tmp_path / name
        for name in ("inbox", "archive", "quarantine", "store", "scratch")
    }
    places[inner] = tmp_path / "inbox" / "deep" / inner

    with pytest.raises(Usage) as caught:
        Folders(**places).prepare()

    assert caught.value.code == "INGEST_FOLDERS"


def test_overlap_through_a_link_is_refused(tmp_path: Path) -> None:
    """Another name for the same folder does not hide the overlap."""
    (tmp_path / "inbox").mkdir()
    (tmp_path / "archive").symlink_to(tmp_path / "inbox")

    with pytest.raises(Usage):
        Folders(
            inbox=tmp_path / "inbox",
            archive=tmp_path / "archive" / "sub",
            quarantine=tmp_path / "quarantine",
            store=tmp_path / "store",
            scratch=tmp_path / "scratch",
        ).prepare()
