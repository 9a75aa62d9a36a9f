"""Which errors are the machine's, which a folder's, and which are somebody's own."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import Trouble
from pipeline.trouble import (
    FOLDER,
    MACHINE,
    Place,
    borne_out,
    look_at,
    ours,
    trouble_of,
)


@pytest.mark.parametrize(
    "number", [n for n in MACHINE if n != errno.EAGAIN], ids=errno.errorcode.get
)
def test_the_machines_errors_are_trouble_wherever_they_are_met(number: int) -> None:
    """With a code, a sentence, and what to do."""
    found = trouble_of(OSError(number, os.strerror(number), None))

    assert found is not None
    assert found.code != Trouble.code
    assert found.message
    assert found.hint
    assert str(os.getpid()) in found.where


@pytest.mark.parametrize("number", FOLDER, ids=errno.errorcode.get)
def test_of_a_folder_only_ours_is_trouble(number: int, tmp_path: Path) -> None:
    """The same error of a file elsewhere is its reader's own."""
    out = Place("the output folder", tmp_path / "out")
    inside = OSError(number, os.strerror(number), str(out.folder / "b1" / "x"))
    elsewhere = OSError(number, os.strerror(number), str(tmp_path / "other" / "x"))

    found = trouble_of(inside, [out])

    assert found is not None
    assert found.folder
    assert found.where.startswith(str(out.folder))
    assert "the output folder" in found.message
    assert trouble_of(elsewhere, [out]) is None


def test_a_thread_that_cannot_start_is_trouble() -> None:
    """Python tells it as no error of the system."""
    found = trouble_of(RuntimeError("can't start new thread"))

    assert found is not None
    assert found.code == "NO_PROCESS"
    assert trouble_of(RuntimeError("a loop")) is None


def test_a_disk_without_inodes_is_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is room, and no file can be made: freeing space would not help."""
    none_left = os.statvfs_result((4096, 4096, 9, 9, 9, 5, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda folder: none_left)

    found = trouble_of(OSError(errno.ENOSPC, "full"), [Place("out", Path("/out"))])

    assert found is not None
    assert found.code == "NO_INODES"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        OSError("no number"),
        OSError(errno.EFBIG, "its own limit"),
        BrokenPipeError(errno.EPIPE, "nobody reads"),
        ConnectionRefusedError(errno.ECONNREFUSED, "a vendor's"),
    ],
    ids=repr,
)
def test_anything_else_is_none(error: Exception) -> None:
    """A bug, a bound, a vendor."""
    assert trouble_of(error, [Place("anything", Path("/"))]) is None


def test_a_process_that_cannot_start_is_trouble(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By the code that starts it; a lock that somebody holds is the stage's."""

    def none_left(*_: Any) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "_fork_exec", none_left)
    monkeypatch.setattr(subprocess, "_USE_POSIX_SPAWN", False)
    with pytest.raises(BlockingIOError) as started:
        subprocess.Popen(["true"])
    path = tmp_path / "locked"
    with path.open("wb") as file, path.open("rb") as other:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError) as locked:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)

    found = trouble_of(started.value)
    assert found is not None
    assert found.code == "NO_PROCESS"
    assert trouble_of(locked.value) is None


@pytest.mark.parametrize(("room", "full"), [(1 << 29, True), (1 << 31, False)])
def test_a_disk_with_little_room_may_have_been_full(
    monkeypatch: pytest.MonkeyPatch, room: int, full: bool
) -> None:
    """What one wrote to it is gone when the error is looked at."""
    left = os.statvfs_result((4096, 4096, 9, room >> 12, room >> 12, 9, 9, 9, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda folder: left)
    met = trouble_of(OSError(errno.ENOSPC, "full"))
    assert met is not None

    assert (borne_out(met, [Place("out", Path("/out"))]) is met) is full


def test_that_no_process_starts_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread counts as a process does."""

    def none_left(self: object) -> None:
        raise RuntimeError("can't start new thread")

    met = Trouble("no process", code="NO_PROCESS")
    assert borne_out(met, []) is None

    monkeypatch.setattr(threading.Thread, "start", none_left)

    found = borne_out(met, [])
    assert found is not None
    assert found.code == "NO_PROCESS"


def test_what_is_in_order_is_left_as_it_was(tmp_path: Path) -> None:
    """A look leaves nothing, and makes nothing."""
    place = Place("out", tmp_path / "not" / "yet")

    assert look_at(place) is None
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_vanished_is_not_made_anew(tmp_path: Path) -> None:
    """An empty folder where a disk was mounted would pass for a store without
    anything in it."""
    found = look_at(Place("the artifact store", tmp_path / "objects", made=True))

    assert found is not None
    assert found.code == "NO_FOLDER"
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_a_folders_place_is_seen(tmp_path: Path) -> None:
    """Of the place itself, and of a folder in it."""
    (tmp_path / "file").write_text("in the way")
    place = Place("the output folder", tmp_path / "file" / "b1")

    found = look_at(place)
    inside = look_at(Place("the output folder", tmp_path), tmp_path / "file" / "b1")

    assert found is not None
    assert inside is not None
    assert found.where == inside.where == str(tmp_path / "file")
    assert found.message == "the output folder is no folder"


def test_what_goes_wrong_in_ours_names_no_other_folder(tmp_path: Path) -> None:
    """Somebody else's missing file is no trouble of the folder that it should go to."""

    def read() -> None:
        with ours("the artifact store", tmp_path / "objects"):
            (tmp_path / "missing").read_bytes()

    with pytest.raises(FileNotFoundError):
        read()
