"""The shelf: what was received is moved whole and once; nothing is overwritten."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from anyio import to_thread

from ingest.candidates import Candidate, Seen
from ingest.shelf import Shelf, move
from pipeline.errors import Transient
from tests.system.ingest.world import House, codes, files, scan


async def test_the_same_refused_bytes_twice_are_both_kept(house: House) -> None:
    """Two refused files of one name and content do not overwrite each other."""
    house.drop("one/scan.pdf", b"bad")
    house.drop("two/scan.pdf", b"bad")

    await scan(house.watcher())

    assert house.store.disposals() == ["quarantined", "quarantined"]
    kept = [name for name in house.quarantine() if not name.endswith(".json")]
    assert len(kept) == 2
    assert sorted(s.kept_at for s in house.store.submitted.values()) == kept


async def test_a_file_that_cannot_be_moved_is_received_once(house: House) -> None:
    """Received but not moved: no second copy, probe or receipt, only the move."""
    house.drop("a.pdf")

    def readonly(when: str) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    house.shelf.fault = readonly
    watcher = house.watcher()
    [taken] = await scan(watcher)
    assert (taken.code, taken.receipt is not None) == ("NOT_MOVED", True)
    assert codes(watcher) == {"a.pdf": "NOT_MOVED"}
    house.shelf.fault = lambda when: None

    moved = await house.admission().put_away(taken)

    assert moved.code == ""
    assert house.archive() == ["a.pdf"]
    assert house.store.disposals() == ["item"]


async def test_a_file_replaced_before_the_move_is_not_archived_unread(
    house: House,
) -> None:
    """The new file of the same name is a delivery of its own, never swept away."""
    path = house.drop("a.pdf", b"%PDF old")

    def replaced(point: str) -> None:
        if point == "after admit":
            house.store.fault = lambda point: None
            fresh = house.folders.scratch / "fresh"
            fresh.write_bytes(b"%PDF new")
            fresh.rename(path)

    house.store.fault = replaced
    watcher = house.watcher()
    await scan(watcher)
    assert path.read_bytes() == b"%PDF new"

    await scan(watcher)

    assert house.inbox() == []
    assert house.store.disposals() == ["item", "item"]


async def test_a_file_swapped_during_the_move_is_put_back(house: House) -> None:
    """A file that slips in between the look and the rename goes back, unharmed."""
    path = house.drop("a.pdf", b"%PDF old")
    found = path.stat()
    seen = Seen(found.st_size, found.st_mtime_ns, found.st_ino)

    def names() -> Iterator[str]:  # asked for between the look and the rename
        fresh = house.folders.scratch / "fresh"
        fresh.write_bytes(b"%PDF new")
        fresh.rename(path)
        yield "a.pdf"

    candidate = Candidate(house.folders.inbox, "a.pdf", "a.pdf")
    with pytest.raises(Transient) as caught:
        move(candidate, seen, house.folders.archive, names())

    assert caught.value.code == "FILE_CHANGED"
    assert path.read_bytes() == b"%PDF new"
    assert house.archive() == []


async def test_moving_across_file_systems_copies_first(
    house: House, tmp_path: Path
) -> None:
    """An archive on another disk receives a whole copy before the source goes."""
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("/dev/shm is not another file system here")
    archive = other / f"waybill-test-{os.getpid()}"
    path = house.drop("a.pdf", b"%PDF across")
    os.utime(path, ns=(1, 123_000_000_000))
    shelf = Shelf(archive, house.folders.quarantine)
    found = path.stat()
    seen = Seen(found.st_size, found.st_mtime_ns, found.st_ino)
    try:
        target = await to_thread.run_sync(
            shelf.archive, Candidate(house.folders.inbox, "a.pdf", "a.pdf"), seen, "t"
        )

        assert target.read_bytes() == b"%PDF across"
        assert target.stat().st_mtime_ns == 123_000_000_000
        assert files(archive) == ["a.pdf"]
        assert house.inbox() == []
    finally:
        for left in archive.iterdir():
            left.unlink()
        archive.rmdir()


async def test_what_was_received_is_nobody_elses_to_read(house: House) -> None:
    """Whatever its sender let others do with it."""
    house.drop("a.pdf").chmod(0o666)

    await scan(house.watcher())

    [kept] = [p for p in house.folders.archive.rglob("*") if p.is_file()]
    assert kept.stat().st_mode & 0o777 == 0o660
