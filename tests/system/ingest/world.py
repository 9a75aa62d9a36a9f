"""An inbox with everything behind it, and faults and crashes where they are wanted."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio

from ingest.admission import Admission, Bounds, Found
from ingest.answers import Taken
from ingest.candidates import Candidate, Seen
from ingest.shelf import Shelf
from ingest.watch.folders import Folders, Place
from ingest.watch.watcher import Pace, Route, Watcher
from pipeline.artifacts.files import FileArtifacts
from pipeline.errors import NotFound, Refused, Transient, Unacceptable
from pipeline.jail.codes import JAIL
from pipeline.model import Batch, Disposal, Receipt, Submission

BOUND_S = 10.0  # for anything that is waited for; all of it takes well under 1 s
QUICK = Pace(rescan_s=0.1, settle_s=0.1, settle_empty_s=0.1)


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
        self.store = FakeStore()
        self.artifacts = FaultyArtifacts(self.folders.store)
        self.shelf = FaultyShelf(self.folders.archive, self.folders.quarantine)
        self.pace = QUICK

    def admission(self, **bounds: int) -> Admission:
        return Admission(
            self.store,
            self.artifacts,
            probe,
            self.shelf,
            scratch=self.folders.scratch,
            codes=JAIL,
            bounds=Bounds(**{"max_file_bytes": 200 << 20, **bounds}),
        )

    def watcher(self, **bounds: int) -> Watcher:
        return Watcher(
            self.folders, self.store, self.admission(**bounds), route, pace=self.pace
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


class FakeStore:
    """A store that survives crashes; `fault(when)` is called around a commit."""

    def __init__(self) -> None:
        self.submitted: dict[str, Submission] = {}  # token -> submission
        self.receipts: dict[str, Receipt] = {}
        self.items: dict[tuple[str, int, str], int] = {}
        self.batches: list[str] = []
        self.cancelled: list[int] = []
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

    async def cancel(self, items: Sequence[int], author: str) -> dict[int, str]:
        self.cancelled += items
        return dict.fromkeys(items, "cancelled")

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
        raise Transient("the jailed process was killed", code="JAIL_TIMEOUT")
    if data.startswith(b"locked") and tenant != "acme":
        raise Unacceptable(
            "it needs a password", code="PDF_ENCRYPTED", hint="remove it"
        )
    assert pipeline_id == 7
    return Found("application/pdf", {"pages": 1})


async def route(place: Place) -> Route:
    if place.pipeline == "nowhere":
        raise NotFound("no pipeline of this name", hint="waybill pipelines ls")
    return Route(7, 3600.0)


class Crash(BaseException):
    """The process dies here: nothing catches it, no clean-up of ours follows."""


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


def files(root: Path) -> list[str]:
    found = (path for path in root.rglob("*") if not path.is_dir())
    return sorted(str(path.relative_to(root)) for path in found)


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
