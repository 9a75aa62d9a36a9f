"""The watcher, real files and events: all is found, our own trouble waited out."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from typing import Any

import anyio
import pytest
import structlog

from ingest.watch.watcher import Pace
from pipeline.errors import StoreUnavailable
from tests.system.ingest.world import House, codes, scan, until


async def running(house: House, act: Callable[[], Any]) -> None:
    """Run a watcher while `act` goes on."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(house.watcher().run)
        await act()
        tasks.cancel_scope.cancel()


async def test_a_dropped_file_becomes_an_item(house: House) -> None:
    """A file in the inbox is received, archived under its path, its bytes stored."""

    async def act() -> None:
        house.drop("acme/letters/monday/a.pdf", b"%PDF-1.7 hello")
        await until(lambda: bool(house.archive()), "the file is archived")

    await running(house, act)

    assert house.archive() == ["acme/letters/monday/a.pdf"]
    assert house.inbox() == []
    assert house.store.batches[-1] == "acme/monday"
    [submission] = house.store.submitted.values()
    key = hashlib.sha256(b"%PDF-1.7 hello").hexdigest()
    assert submission.key == key
    assert submission.input == {
        "source": key,
        "media_type": "application/pdf",
        "facts": {"name": "a.pdf", "pages": 1},
    }
    assert await house.artifacts.get(key) == b"%PDF-1.7 hello"


async def test_a_slow_copy_is_taken_whole(house: House) -> None:
    """A file that grows with pauses is taken once, with all of its bytes."""
    house.pace = Pace(rescan_s=0.05, settle_s=0.5)

    async def act() -> None:
        path = house.drop("a.pdf", b"%PDF")
        for _ in range(8):
            await anyio.sleep(0.05)
            with path.open("ab") as file:
                file.write(b" more")
        await until(lambda: bool(house.archive()), "the file is archived")

    await running(house, act)

    [submission] = house.store.submitted.values()
    assert submission.size_bytes == len(b"%PDF" + 8 * b" more")


async def test_events_shorten_the_wait(house: House) -> None:
    """With an hour between scans, a marked file is still taken within seconds."""
    house.pace = Pace(rescan_s=3600.0, settle_s=3600.0)
    (house.folders.inbox / "acme").mkdir()

    async def act() -> None:
        await anyio.sleep(0.3)  # the first scan is over, events are being watched
        house.drop("acme/a.pdf")
        house.drop("acme/a.pdf.done", b"")
        await until(lambda: bool(house.archive()), "the file is archived")

    await running(house, act)

    assert house.inbox() == []


async def test_without_events_the_scan_finds_everything(house: House) -> None:
    """Where the file system sends no events, files are found all the same."""
    house.pace = Pace(rescan_s=0.05, settle_s=0.1, events=False)

    async def act() -> None:
        house.drop("acme/a.pdf")
        await until(lambda: bool(house.archive()), "the file is archived")

    await running(house, act)

    assert house.archive() == ["acme/a.pdf"]
    assert house.store.disposals() == ["item"]


async def test_a_name_that_is_no_text_does_not_end_the_watch(house: House) -> None:
    """Of a name in no UTF-8 the events cannot tell; the scans go on."""
    house.pace = Pace(rescan_s=0.2, settle_s=0.1)

    async def act() -> None:
        await anyio.sleep(0.3)  # the first scan is over, events are being watched
        odd = os.path.join(os.fsencode(house.folders.inbox), b"acme-\xff\xfe.pdf")
        with open(odd, "wb") as file:  # noqa: ASYNC230  a tiny local file
            file.write(b"%PDF-1.7")
        await anyio.sleep(0.5)  # the event has come
        house.drop("acme/a.pdf")
        await until(
            lambda: any(name.endswith("a.pdf") for name in house.archive()),
            "the file is archived",
        )

    await running(house, act)

    assert house.inbox() == []
    assert house.archive() == ["acme-\udcff\udcfe.pdf", "acme/a.pdf"]
    assert house.store.disposals() == ["item", "item"]


async def test_a_file_renamed_into_place_is_taken_at_once(house: House) -> None:
    """`a.pdf.part` is left alone; `a.pdf` is taken by the scan after the rename."""
    house.pace = Pace(settle_s=3600.0)
    watcher = house.watcher()
    part = house.drop("a.pdf.part")
    await watcher.scan_once()
    assert codes(watcher) == {"a.pdf.part": "PARTIAL"}

    part.rename(part.with_name("a.pdf"))
    taken = await watcher.scan_once()

    assert [one.candidate.name for one in taken] == ["a.pdf"]
    assert house.archive() == ["a.pdf"]


async def test_a_marker_is_removed_with_its_file(house: House) -> None:
    """`.done` makes the file complete and does not outlive it."""
    house.pace = Pace(settle_s=3600.0)
    house.drop("a.pdf")
    house.drop("a.pdf.done", b"")

    await house.watcher().scan_once()

    assert house.inbox() == []
    assert house.archive() == ["a.pdf"]


async def test_a_place_without_a_pipeline_waits(house: House) -> None:
    """Files for a pipeline that is not there wait; others are taken."""
    house.drop("acme/nowhere/a.pdf", b"%PDF a")
    house.drop("acme/letters/b.pdf", b"%PDF b")
    watcher = house.watcher()

    await scan(watcher)

    assert codes(watcher) == {"acme/nowhere/a.pdf": "NOT_FOUND"}
    assert house.archive() == ["acme/letters/b.pdf"]


async def test_a_full_disk_pauses_and_resumes_by_itself(house: House) -> None:
    """ENOSPC refuses no file: everything stays, and goes on when there is space."""
    for number in range(5):
        house.drop(f"{number}.pdf", b"%%PDF %d" % number)

    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    house.artifacts.fault = full
    watcher = house.watcher()
    with structlog.testing.capture_logs() as logs:
        taken = await scan(watcher)
        await watcher.scan_once()
        assert {one.code for one in taken} == {"DISK_FULL"}
        assert all(one.paused for one in taken)
        assert len(house.inbox()) == 5
        house.artifacts.fault = lambda: None

        await watcher.scan_once()

    assert len(house.archive()) == 5
    assert house.quarantine() == []
    paused = [log["event"] for log in logs if log["event"].startswith("ingest_")]
    assert paused == ["ingest_paused", "ingest_resumed"]


@pytest.mark.parametrize("when", ["open_batch", "before admit", "after admit"])
async def test_a_database_that_is_away_pauses(house: House, when: str) -> None:
    """No answer from the database, also to COMMIT: files stay, none is doubled."""
    house.drop("a.pdf")

    def away(point: str) -> None:
        if point == when:
            raise StoreUnavailable("no answer", in_doubt=when == "after admit")

    house.store.fault = away
    watcher = house.watcher()
    [taken] = await scan(watcher)
    assert (taken.code, taken.paused) == ("DATABASE_UNAVAILABLE", True)
    assert house.inbox() == ["a.pdf"]
    house.store.fault = lambda point: None

    await watcher.scan_once()

    assert house.store.disposals() == ["item"]
    assert house.archive() == ["a.pdf"]


async def test_a_missing_inbox_pauses_until_it_is_back(house: House) -> None:
    """An unmounted inbox is not an end: the watcher goes on when it returns."""
    watcher = house.watcher()
    away = house.folders.inbox.with_name("away")
    house.drop("a.pdf")
    house.folders.inbox.rename(away)
    with structlog.testing.capture_logs() as logs:
        await watcher.scan_once()
        away.rename(house.folders.inbox)
        await scan(watcher)

    assert [log["event"] for log in logs] == [
        "ingest_paused",
        "ingest_resumed",
        "file_received",
    ]
