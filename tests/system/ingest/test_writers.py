"""A file that somebody writes to: it is not complete, however long it rests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest import writers
from ingest.writers import unwritten, written_by_neighbours
from pipeline.errors import Transient
from tests.system.ingest.world import House, codes, files, scan

HALF, WHOLE = b"%PDF half", b"%PDF half and the rest"


@pytest.fixture
def no_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system, a drive or an owner that gives none; and nothing is seen in /proc."""
    monkeypatch.setattr(writers, "LEASES", False)
    monkeypatch.setattr(writers, "written_by_neighbours", lambda: iter(()))
    monkeypatch.setattr(writers, "NEIGHBOURS", writers.Neighbours())


def once(when: str, act: Callable[[], object]) -> Callable[[str], None]:
    """A fault that does something the first time that this point is reached."""
    left = [act]

    def fault(point: str) -> None:
        if point == when and left:
            left.pop()()

    return fault


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(WHOLE.removeprefix(HALF))


async def test_a_file_that_is_open_for_writing_is_not_taken(house: House) -> None:
    """It rests for long, marked or not: half of it is never received."""
    path = house.drop("a.pdf", HALF)
    house.drop("a.pdf.done", b"")
    watcher = house.watcher()
    with path.open("ab") as writer:
        for _ in range(3):
            assert [one.code for one in await scan(watcher)] in ([], ["BEING_WRITTEN"])
        assert house.store.receipts == {}
        assert codes(watcher) == {"a.pdf": "BEING_WRITTEN"}
        writer.write(WHOLE.removeprefix(HALF))

    await scan(house.watcher())

    [submission] = house.store.submitted.values()
    assert submission.size_bytes == len(WHOLE)
    assert house.archive() == ["a.pdf"]


async def test_a_reader_of_a_file_keeps_nobody_from_it(house: House) -> None:
    """Somebody looks at it: that is no writer."""
    path = house.drop("a.pdf")

    with path.open("rb"):
        await scan(house.watcher())

    assert house.archive() == ["a.pdf"]


async def test_a_file_that_grew_while_it_was_probed_is_not_received(
    house: House,
) -> None:
    """Between copy and COMMIT it is looked at once more."""
    path = house.drop("a.pdf", HALF)
    grown = [lambda: grow(path)]
    house.artifacts.fault = lambda: grown.pop()() if grown else None
    watcher = house.watcher()

    [first] = await scan(watcher)
    assert (first.code, first.receipt) == ("FILE_GREW", None)
    await scan(watcher)

    [submission] = house.store.submitted.values()
    assert submission.size_bytes == len(WHOLE)


async def test_the_item_of_a_file_that_grew_before_the_move_is_cancelled(
    house: House,
) -> None:
    """Received, then written to: the half is cancelled, the whole is another item."""
    path = house.drop("a.pdf", HALF)
    house.store.fault = once("after admit", lambda: grow(path))
    watcher = house.watcher()

    await scan(watcher)
    await scan(watcher)

    assert house.store.cancelled == [1]
    sizes = [s.size_bytes for s in house.store.submitted.values()]
    assert sizes == [len(HALF), len(WHOLE)]
    assert (house.folders.archive / "a.pdf").read_bytes() == WHOLE


@pytest.mark.parametrize("refused", [False, True])
async def test_a_writer_that_came_before_the_move_gets_its_file_back(
    house: House, refused: bool
) -> None:
    """It opened the file in time and writes on: in the inbox, not in the archive."""
    head = b"bad" if refused else HALF
    path = house.drop("a.pdf", head)
    opened: list[int] = []
    flags = os.O_WRONLY | os.O_APPEND
    house.store.fault = once("after admit", lambda: opened.append(os.open(path, flags)))
    watcher = house.watcher()

    [first] = await scan(watcher)
    assert (first.code, first.receipt is not None) == ("BEING_WRITTEN", True)
    assert house.inbox() == ["a.pdf"]
    os.write(opened[0], b" and the rest")
    os.close(opened[0])
    await scan(watcher)
    await scan(watcher)

    assert house.inbox() == []
    assert house.store.cancelled == ([] if refused else [1])
    sizes = [s.size_bytes for s in house.store.submitted.values()]
    assert sizes == [len(head), len(head) + 13]


async def test_a_writer_that_changed_nothing_leaves_one_item(house: House) -> None:
    """Opened between COMMIT and move, closed unwritten: one receipt, moved."""
    path = house.drop("a.pdf", HALF)
    opened: list[int] = []
    house.store.fault = once(
        "after admit", lambda: opened.append(os.open(path, os.O_WRONLY))
    )

    await scan(house.watcher())
    os.close(opened[0])
    await scan(house.watcher())

    assert house.archive() == ["a.pdf"]
    assert house.store.cancelled == []
    assert house.store.disposals() == ["item"]


async def test_without_leases_what_grew_in_the_archive_comes_back(
    house: House, no_leases: None
) -> None:
    """Nobody vouched for it: it is watched for a minute, and received as it then is."""
    path = house.drop("acme/a.pdf", HALF)
    watcher = house.watcher()
    with path.open("ab") as writer:
        await scan(watcher)
        assert house.archive() == ["acme/a.pdf"]
        writer.write(WHOLE.removeprefix(HALF))

    await watcher.scan_once()
    assert house.store.cancelled == [1]
    await scan(watcher)
    await scan(watcher)

    assert files(house.folders.archive) == ["acme/a.pdf"]
    assert (house.folders.archive / "acme/a.pdf").read_bytes() == WHOLE
    assert [s.size_bytes for s in house.store.submitted.values()][-1] == len(WHOLE)


def test_without_leases_open_files_of_neighbours_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the file system gives no lease, /proc tells of processes like ours."""
    monkeypatch.setattr(writers, "LEASES", False)
    monkeypatch.setattr(writers, "NEIGHBOURS", writers.Neighbours())
    path = tmp_path / "a.pdf"

    with path.open("wb") as writer, path.open("rb") as reader:
        found = os.fstat(writer.fileno())
        assert (found.st_dev, found.st_ino) in set(written_by_neighbours())
        with (
            pytest.raises(Transient, match="open for writing"),
            unwritten(reader.fileno()),
        ):
            raise AssertionError
