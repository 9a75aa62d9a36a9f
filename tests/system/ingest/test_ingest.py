"""The way in with real files: nothing is lost, nothing is deleted, nothing doubled."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
import structlog
from anyio import to_thread

from ingest.admission import Admission, Bounds, Found, Taken
from ingest.candidates import Candidate, Seen, named
from ingest.shelf import Shelf, move
from ingest.watch.folders import Folders, Place
from ingest.watch.watcher import Pace, Route, Watcher
from pipeline.artifacts.files import FileArtifacts
from pipeline.errors import (
    NotFound,
    Refused,
    StoreUnavailable,
    Transient,
    Unacceptable,
    Usage,
)
from pipeline.jail.codes import JAIL
from pipeline.model import Batch, Disposal, Receipt, Submission

BOUND_S = 10.0  # for anything that is waited for; all of it takes well under 1 s
QUICK = Pace(rescan_s=0.1, settle_s=0.1, settle_empty_s=0.1)


class Crash(BaseException):
    """The process dies here: nothing catches it, no clean-up of ours follows."""


class FakeDesk:
    """A store that survives crashes; `fault(when)` is called around a commit."""

    def __init__(self) -> None:
        self.submitted: dict[str, Submission] = {}  # token -> submission
        self.receipts: dict[str, Receipt] = {}
        self.items: dict[tuple[str, int, str], int] = {}
        self.batches: list[str] = []
        self.fault: Callable[[str], None] = lambda when: None

    async def open_batch(self, tenant: str, name: str, *, deadline_s: float) -> Batch:
        self.fault("open_batch")
        self.batches.append(f"{tenant}/{name}")
        return Batch(1, tenant, name, datetime.now(UTC) + timedelta(seconds=deadline_s))

    async def admit(
        self, batch: Batch, pipeline_id: int, submissions: Sequence[Submission]
    ) -> list[Receipt]:
        assert len(submissions) <= 200
        if any("refused" in one.name for one in submissions):
            raise Refused("a value is out of range")
        self.fault("before admit")
        for one in submissions:
            self.receipts.setdefault(one.token, self._receive(batch, pipeline_id, one))
            self.submitted.setdefault(one.token, one)
        self.fault("after admit")
        return [self.receipts[one.token] for one in submissions]

    def _receive(self, batch: Batch, pipeline_id: int, one: Submission) -> Receipt:
        if one.token in self.receipts:
            return self.receipts[one.token]
        if one.refused_code:
            return Receipt(one.name, Disposal.QUARANTINED, None)
        key = (batch.tenant, pipeline_id, one.key)
        disposal = Disposal.DUPLICATE if key in self.items else Disposal.ITEM
        item = self.items.setdefault(key, len(self.items) + 1)
        return Receipt(one.name, disposal, item)

    def disposals(self) -> list[str]:
        return sorted(receipt.disposal.value for receipt in self.receipts.values())


class FaultyArtifacts(FileArtifacts):
    """The real artifact store; `fault` is called after bytes became durable."""

    fault: Callable[[], None] = staticmethod(lambda: None)

    async def put(self, data: bytes) -> str:
        name = await super().put(data)
        self.fault()
        return name


class FaultyShelf(Shelf):
    """The real shelf; `fault` is called before and after every move."""

    fault: Callable[[str], None] = staticmethod(lambda when: None)

    def archive(self, candidate: Candidate, seen: Seen, token: str) -> Path:
        self.fault("before move")
        target = super().archive(candidate, seen, token)
        self.fault("after move")
        return target


async def probe(path: Path, name: str, tenant: str, pipeline_id: int) -> Found:
    """Judges by the stored bytes, as the real one does."""
    data = path.read_bytes()
    if not data:
        raise Unacceptable("no bytes", code="EMPTY_FILE", hint="send it again")
    if data.startswith(b"bad"):
        raise Unacceptable("cannot be read", code="UNSUPPORTED_TYPE", hint="a PDF")
    if data.startswith(b"poison"):
        raise Transient("the probe was killed", code="JAIL_TIMEOUT")
    if data.startswith(b"locked") and tenant != "acme":
        raise Unacceptable(
            "it needs a password", code="PDF_ENCRYPTED", hint="remove it"
        )
    assert pipeline_id == 7
    return Found("application/pdf", {"pages": 1})


class House:
    """One inbox with everything behind it; `watcher()` is a fresh process."""

    def __init__(self, root: Path) -> None:
        self.folders = Folders(
            inbox=root / "inbox",
            archive=root / "archive",
            quarantine=root / "quarantine",
            store=root / "store",
            scratch=root / "scratch",
        )
        self.folders.prepare()
        self.desk = FakeDesk()
        self.artifacts = FaultyArtifacts(self.folders.store)
        self.shelf = FaultyShelf(self.folders.archive, self.folders.quarantine)
        self.pace = QUICK

    def admission(self, **bounds: int) -> Admission:
        return Admission(
            self.desk,
            self.artifacts,
            probe,
            self.shelf,
            scratch=self.folders.scratch,
            codes=JAIL,
            bounds=Bounds(**{"max_file_bytes": 200 << 20, **bounds}),
        )

    def watcher(self, **bounds: int) -> Watcher:
        return Watcher(
            self.folders, self.desk, self.admission(**bounds), route, pace=self.pace
        )

    def drop(self, relative: str | bytes, data: bytes = b"%PDF-1.7 a") -> Path:
        path = self.folders.inbox / os.fsdecode(relative)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def inbox(self) -> list[str]:
        return files(self.folders.inbox)

    def archive(self) -> list[str]:
        return files(self.folders.archive)

    def quarantine(self) -> list[str]:
        return files(self.folders.quarantine)


def files(root: Path) -> list[str]:
    found = (path for path in root.rglob("*") if not path.is_dir())
    return sorted(str(path.relative_to(root)) for path in found)


async def route(place: Place) -> Route:
    if place.pipeline == "nowhere":
        raise NotFound("no pipeline of this name", hint="waybill pipelines ls")
    return Route(7, 3600.0)


async def scan(watcher: Watcher) -> list[Taken]:
    """Two scans with the rest between them: what is there now is taken."""
    taken = await watcher.scan_once()
    await anyio.sleep(QUICK.settle_s)
    return taken + await watcher.scan_once()


async def until(true: Callable[[], bool], what: str) -> None:
    with anyio.move_on_after(BOUND_S) as scope:
        while not true():  # noqa: ASYNC110 - files have no event to wait for
            await anyio.sleep(0.01)
    assert not scope.cancelled_caught, f"still not so after {BOUND_S} s: {what}"


def codes(watcher: Watcher) -> dict[str, str]:
    return {waiting.relative: waiting.code for waiting in watcher.waiting()}


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


# -- the running watcher ---------------------------------------------------------------


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
    assert house.desk.batches[-1] == "acme/monday"
    [submission] = house.desk.submitted.values()
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

    [submission] = house.desk.submitted.values()
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


# -- duplicates and refusals -----------------------------------------------------------


async def test_the_same_bytes_twice_are_one_item(house: House) -> None:
    """Same bytes in one scan, and again in a later one: an item, two duplicates."""
    watcher = house.watcher()
    house.drop("a.pdf")
    house.drop("b.pdf")
    await scan(watcher)
    house.drop("a.pdf")

    await scan(watcher)

    assert house.desk.disposals() == ["duplicate", "duplicate", "item"]
    assert len(house.desk.items) == 1
    again = [name for name in house.archive() if name.startswith("a~")]
    assert len(house.archive()) == 3  # namesakes are kept apart
    assert len(again) == 1


async def test_an_empty_file_is_quarantined_with_its_reason(house: House) -> None:
    """A refused file is kept, with code, reason and hint beside it."""
    house.drop("acme/letters/empty.pdf", b"")

    with structlog.testing.capture_logs() as logs:
        await scan(house.watcher())

    [submission] = house.desk.submitted.values()
    assert submission.refused_code == "EMPTY_FILE"
    kept = house.folders.quarantine / submission.kept_at
    assert kept.read_bytes() == b""
    assert kept.name == f"{submission.key[:12]}-empty.pdf"
    reason = json.loads(kept.with_name(f"{kept.name}.reason.json").read_bytes())
    assert (reason["code"], reason["hint"]) == ("EMPTY_FILE", "send it again")
    assert reason["path"].endswith("inbox/acme/letters/empty.pdf")
    assert [log["event"] for log in logs] == ["file_quarantined"]
    assert house.inbox() == []


async def test_the_same_refused_bytes_twice_are_both_kept(house: House) -> None:
    """Two refused files of one name and content do not overwrite each other."""
    house.drop("one/scan.pdf", b"bad")
    house.drop("two/scan.pdf", b"bad")

    await scan(house.watcher())

    assert house.desk.disposals() == ["quarantined", "quarantined"]
    kept = [name for name in house.quarantine() if not name.endswith(".json")]
    assert len(kept) == 2
    assert sorted(s.kept_at for s in house.desk.submitted.values()) == kept


async def test_a_file_over_the_cap_is_quarantined_unread(house: House) -> None:
    """A sparse terabyte costs a rename: FILE_TOO_LARGE, no bytes in the store."""
    path = house.drop("huge.pdf")
    os.truncate(path, 1 << 40)

    await scan(house.watcher(max_file_bytes=1000))

    [submission] = house.desk.submitted.values()
    assert submission.refused_code == "FILE_TOO_LARGE"
    assert submission.input["source"] == ""
    kept = house.folders.quarantine / submission.kept_at
    assert kept.stat().st_size == 1 << 40
    assert files(house.folders.store) == []


async def test_a_large_file_passes_through_scratch(house: House) -> None:
    """A file too large for memory is stored whole and leaves no copy behind."""
    data = os.urandom(1 << 20) * 6
    house.drop("large.pdf", data)

    await scan(house.watcher())

    [submission] = house.desk.submitted.values()
    assert submission.key == hashlib.sha256(data).hexdigest()
    assert files(house.folders.scratch) == []


async def test_a_poison_file_is_quarantined_after_three_probes(house: House) -> None:
    """A file that kills its probe is tried three times, then refused."""
    path = house.drop("a.pdf", b"poison")
    candidate = Candidate(house.folders.inbox, "a.pdf", "a.pdf")
    admission = house.admission()
    batch = await house.desk.open_batch("t", "b", deadline_s=1)

    answers = [await admission.take([candidate], batch, 7) for _ in range(3)]

    assert [one.code for [one] in answers] == ["JAIL_TIMEOUT", "JAIL_TIMEOUT", ""]
    assert house.desk.disposals() == ["quarantined"]
    assert not path.exists()


# -- odd entries -----------------------------------------------------------------------


async def test_odd_entries_are_reported_once_and_never_opened(house: House) -> None:
    """Links, pipes, sockets and folders named x.pdf stay; their neighbour is taken."""
    inbox = house.folders.inbox
    (inbox / "passwd.pdf").symlink_to("/etc/passwd")
    (inbox / "etc").symlink_to("/etc")
    os.mkfifo(inbox / "pipe.pdf")
    (inbox / "folder.pdf").mkdir()
    address = str(inbox / "s.pdf")
    house.drop("good.pdf")
    watcher = house.watcher()

    with socket.socket(socket.AF_UNIX) as listener:
        # The limit for socket paths is 107 bytes; tmp_path may be longer.
        here = os.open(inbox, os.O_RDONLY)
        listener.bind(address if len(address) < 100 else f"/proc/self/fd/{here}/s.pdf")
        os.close(here)
        with structlog.testing.capture_logs() as logs:
            await scan(watcher)
            await scan(watcher)

    odd = ["etc", "folder.pdf", "passwd.pdf", "pipe.pdf", "s.pdf"]
    ignored = [log for log in logs if log["event"] == "ingest_ignored"]
    assert sorted(log["name"] for log in ignored) == odd
    assert {log["code"] for log in ignored} == {"NOT_A_FILE"}
    assert sorted(codes(watcher)) == odd
    assert house.archive() == ["good.pdf"]
    assert [s.name for s in house.desk.submitted.values()] == ["good.pdf"]


@pytest.mark.parametrize("what", ["file", "folder"])
async def test_a_link_swapped_in_after_the_scan_is_not_followed(
    house: House, what: str
) -> None:
    """A file or folder that becomes a link before it is opened is left alone."""
    secret = house.folders.scratch / "secret"
    secret.mkdir()
    (secret / "a.pdf").write_bytes(b"secret")
    folder = house.folders.inbox / "acme"
    if what == "file":
        folder.mkdir()
        (folder / "a.pdf").symlink_to(secret / "a.pdf")
    else:
        folder.symlink_to(secret)
    candidate = Candidate(house.folders.inbox, "acme/a.pdf", "acme/a.pdf")
    batch = await house.desk.open_batch("t", "b", deadline_s=1)

    [taken] = await house.admission().take([candidate], batch, 7)

    assert taken.code == "NOT_A_FILE"
    assert house.desk.submitted == {}
    assert files(house.folders.store) == []


async def test_the_probe_is_told_whose_file_it_is(house: House) -> None:
    """A password that one tenant gave opens no file of another."""
    codes = {}
    for tenant in ("acme", "other"):
        (house.folders.inbox / "a.pdf").write_bytes(b"locked")
        candidate = Candidate(house.folders.inbox, "a.pdf", "a.pdf")
        batch = await house.desk.open_batch(tenant, "b", deadline_s=1)

        [taken] = await house.admission().take([candidate], batch, 7)

        assert taken.prepared is None
        assert taken.receipt is not None
        codes[tenant] = taken.receipt.disposal

    assert codes == {"acme": Disposal.ITEM, "other": Disposal.QUARANTINED}


async def test_a_hard_link_is_left_and_reported(house: House) -> None:
    """A file with a second name may be somebody else's: it is not taken."""
    outside = house.folders.scratch / "theirs"
    outside.write_bytes(b"%PDF")
    os.link(outside, house.folders.inbox / "a.pdf")
    watcher = house.watcher()

    await scan(watcher)

    assert codes(watcher) == {"a.pdf": "LINKED"}
    assert house.inbox() == ["a.pdf"]


async def test_an_unreadable_file_waits_and_others_are_taken(house: House) -> None:
    """A file without the right to read is left, and taken once it has it."""
    path = house.drop("a.pdf", b"%PDF secret")
    path.chmod(0)
    house.drop("b.pdf")
    watcher = house.watcher()
    with without_override():
        await scan(watcher)
        assert codes(watcher) == {"a.pdf": "UNREADABLE"}
        assert house.archive() == ["b.pdf"]
    path.chmod(0o600)

    # Its own retry comes after two seconds; a new process looks at once.
    await scan(house.watcher())

    assert house.archive() == ["a.pdf", "b.pdf"]


@contextmanager
def without_override() -> Iterator[None]:
    """
    For root, who may read everything: give that capability up for a while.

    Capabilities belong to a thread and are inherited by those it starts; the
    event loop of a test starts its own.
    """
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this thread
    full = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, full) == 0
    less = (ctypes.c_uint32 * 6)(*full)
    less[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, less) == 0
    try:
        yield
    finally:
        assert libc.capset(header, full) == 0


async def test_odd_names_are_taken_and_shown_safely(house: House) -> None:
    """Any bytes are a name: archived as they are, shown escaped."""
    raw = [
        b"n" * 251 + b".pdf",
        b"bad-\xff\xfe.pdf",
        b"two\nlines.pdf",
        b"\x1b[31mred.pdf",
        "cod\u202efdp.exe".encode(),
        "u\u0308ber.pdf".encode(),
        b"-rf *.pdf",
    ]
    for number, name in enumerate(raw):
        house.drop(b"acme/letters/" + name, b"%%PDF %d" % number)
    house.drop(b"acme/letters/again/" + b"n" * 251 + b".pdf", b"bad")

    await scan(house.watcher())

    assert house.inbox() == []
    archived = os.listdir(os.fsencode(house.folders.archive / "acme/letters"))
    assert sorted(archived) == sorted(raw)
    names = {submission.name for submission in house.desk.submitted.values()}
    for shown in names:
        assert shown.isprintable()
        assert len(shown.encode("utf-8").decode()) <= 200
    assert "bad-\\xff\\xfe.pdf" in names
    assert "cod\\u202efdp.exe" in names
    assert "\u00fcber.pdf" in names
    assert len(house.quarantine()) == 2  # the file and its reason


async def test_a_place_without_a_pipeline_waits(house: House) -> None:
    """Files for a pipeline that is not there wait; others are taken."""
    house.drop("acme/nowhere/a.pdf", b"%PDF a")
    house.drop("acme/letters/b.pdf", b"%PDF b")
    watcher = house.watcher()

    await scan(watcher)

    assert codes(watcher) == {"acme/nowhere/a.pdf": "NOT_FOUND"}
    assert house.archive() == ["acme/letters/b.pdf"]


async def test_a_row_that_the_database_refuses_does_not_hold_up_its_group(
    house: House,
) -> None:
    """One bad row in a group of many: the others are received, it waits."""
    for number in range(9):
        house.drop(f"{number}.pdf", b"%%PDF %d" % number)
    house.drop("refused.pdf", b"%PDF refused")
    watcher = house.watcher()

    await scan(watcher)

    assert len(house.archive()) == 9
    assert codes(watcher) == {"refused.pdf": "REFUSED"}


# -- our own trouble -------------------------------------------------------------------


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

    house.desk.fault = away
    watcher = house.watcher()
    [taken] = await scan(watcher)
    assert (taken.code, taken.paused) == ("DATABASE_UNAVAILABLE", True)
    assert house.inbox() == ["a.pdf"]
    house.desk.fault = lambda point: None

    await watcher.scan_once()

    assert house.desk.disposals() == ["item"]
    assert house.archive() == ["a.pdf"]


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
    assert house.desk.disposals() == ["item"]


async def test_a_file_replaced_before_the_move_is_not_archived_unread(
    house: House,
) -> None:
    """The new file of the same name is a delivery of its own, never swept away."""
    path = house.drop("a.pdf", b"%PDF old")

    def replaced(point: str) -> None:
        if point == "after admit":
            house.desk.fault = lambda point: None
            fresh = house.folders.scratch / "fresh"
            fresh.write_bytes(b"%PDF new")
            fresh.rename(path)

    house.desk.fault = replaced
    watcher = house.watcher()
    await scan(watcher)
    assert path.read_bytes() == b"%PDF new"

    await scan(watcher)

    assert house.inbox() == []
    assert house.desk.disposals() == ["item", "item"]


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


async def test_a_crash_in_the_middle_of_a_quarantine_move_is_mended(
    house: House,
) -> None:
    """The reason names its file by token: the next run uses the same place."""
    house.drop("a.pdf", b"bad")
    house.desk.fault = crash_when("after admit")
    with pytest.raises((Crash, BaseExceptionGroup)):
        await scan(house.watcher())
    house.desk.fault = lambda point: None
    [submission] = house.desk.submitted.values()
    (house.folders.quarantine / submission.kept_at).touch()

    await scan(house.watcher())

    assert house.inbox() == []
    assert (house.folders.quarantine / submission.kept_at).read_bytes() == b"bad"
    assert len(house.quarantine()) == 2


async def test_a_file_written_while_it_is_copied_is_left(house: House) -> None:
    """A file that is not the one judged complete is left for the next round."""
    house.drop("a.pdf")
    stale = Candidate(house.folders.inbox, "a.pdf", "a.pdf", Seen(10, 1, 1))
    batch = await house.desk.open_batch("t", "b", deadline_s=1)

    [taken] = await house.admission().take([stale], batch, 7)

    assert taken.code == "FILE_CHANGED"
    assert house.inbox() == ["a.pdf"]
    assert files(house.folders.store) == []


# -- crashes ---------------------------------------------------------------------------


def crash_after(calls: int) -> Callable[..., None]:
    """A fault that kills the process at its n-th call."""
    left = [calls]

    def fault(*_: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Crash

    return fault


def crash_when(when: str, calls: int = 1) -> Callable[[str], None]:
    die = crash_after(calls)
    return lambda point: die() if point == when else None


def plant_put(house: House) -> None:
    house.artifacts.fault = crash_after(2)


def plant_before_admit(house: House) -> None:
    house.desk.fault = crash_when("before admit")


def plant_after_admit(house: House) -> None:
    house.desk.fault = crash_when("after admit")


def plant_before_move(house: House) -> None:
    house.shelf.fault = crash_when("before move")


def plant_between_moves(house: House) -> None:
    house.shelf.fault = crash_when("after move", 2)


@pytest.mark.parametrize(
    "plant",
    [
        plant_put,
        plant_before_admit,
        plant_after_admit,
        plant_before_move,
        plant_between_moves,
    ],
)
async def test_a_crash_anywhere_loses_and_doubles_nothing(
    house: House, plant: Callable[[House], None]
) -> None:
    """Killed between any two steps, the next run ends as if nothing had been."""
    contents = {f"acme/letters/{n}.pdf": b"%%PDF %d" % (n // 2) for n in range(6)}
    contents["acme/letters/odd.bin"] = b"bad"
    for relative, data in contents.items():
        house.drop(relative, data)
    plant(house)
    with pytest.raises((Crash, BaseExceptionGroup)):
        await scan(house.watcher())
    house.artifacts.fault = lambda: None
    house.desk.fault = lambda point: None
    house.shelf.fault = lambda when: None

    await scan(house.watcher())  # a new process: nothing remembered

    assert house.inbox() == []
    assert house.desk.disposals() == [*["duplicate"] * 3, *["item"] * 3, "quarantined"]
    assert house.archive() == sorted(n for n in contents if n.endswith(".pdf"))
    for relative in house.archive():
        kept = house.folders.archive / relative
        assert kept.read_bytes() == contents[relative]
    kept_at = [s.kept_at for s in house.desk.submitted.values() if s.kept_at]
    assert house.quarantine() == sorted([*kept_at, f"{kept_at[0]}.reason.json"])


# -- named files -----------------------------------------------------------------------


async def test_named_files_stay_where_they_are(house: House, tmp_path: Path) -> None:
    """Files given by a person are copied; refused ones are kept as copies too."""
    mine = tmp_path / "mine"
    (mine / "sub").mkdir(parents=True)
    (mine / "a.pdf").write_bytes(b"%PDF a")
    (mine / "sub" / "b.pdf").write_bytes(b"bad")
    (mine / "sub" / "c.part").write_bytes(b"half")
    (mine / "link.pdf").symlink_to(mine / "a.pdf")
    batch = await house.desk.open_batch("default", "b", deadline_s=60)
    found = named([mine, mine / "link.pdf"], pipeline="letters")

    first = await house.admission().take(found, batch, 7, archive=False)
    again = await house.admission().take(found, batch, 7, archive=False)

    assert [one.code for one in first] == ["", "", ""]
    assert [one.receipt for one in again] == [one.receipt for one in first]
    # The link names a.pdf itself, so it is the same delivery.
    assert house.desk.disposals() == ["item", "quarantined"]
    assert files(mine) == ["a.pdf", "link.pdf", "sub/b.pdf", "sub/c.part"]
    assert len(house.quarantine()) == 2
    assert house.archive() == []


async def test_named_files_can_be_archived(house: House, tmp_path: Path) -> None:
    """With `archive`, named files go the way of the inbox."""
    mine = tmp_path / "mine"
    (mine / "sub").mkdir(parents=True)
    (mine / "sub" / "a.pdf").write_bytes(b"%PDF a")
    batch = await house.desk.open_batch("default", "b", deadline_s=60)

    await house.admission().take(named([mine], pipeline="p"), batch, 7, archive=True)

    assert house.archive() == ["sub/a.pdf"]
    assert files(mine) == []


async def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    """A mistyped path is told before anything is taken."""
    with pytest.raises(NotFound) as caught:
        named([tmp_path / "nothing.pdf"], pipeline="p")

    assert caught.value.code == "NO_SUCH_FILE"


# -- folders ---------------------------------------------------------------------------


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
