"""
A folder of folders: what is handed over to somebody who looks into it.

    TENANT/BATCH/0001/manifest.json, manifest.csv, and the files
    TENANT/BATCH/0002/…

A numbered folder appears whole and is never added to: whoever sees it may take it, and
take it away.  What it holds is noted in `.handed` before it appears, so that no key
comes a second time, also after a crash between the two and when the folder has gone.
"""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import anyio

from pipeline.artifacts.durable import sync_folder, write_atomically
from pipeline.calls import Moment
from pipeline.effects.declared import FolderSpec
from pipeline.effects.sink import Absent, Confirmed, NotSent, Outcome, Parcel
from pipeline.errors import Integrity, NotFound, WaybillError
from pipeline.stage import Artifacts
from pipeline.threads import in_thread
from pipeline.trouble import ours

HANDED = ".handed"
PART = ".part"
STALE_S = 3600.0
COLUMNS = ("place", "item", "document", "effect", "file", "sha256", "key")
Files = Mapping[str, bytes]


class Row(NamedTuple):
    """A file of a folder, as its manifest lists it; `sha256` is its artifact."""

    place: int
    item: int
    document: str
    effect: str
    file: str
    sha256: str
    key: str


Sheet = Callable[[Sequence[Row]], Awaitable[Files]]


class FolderSink:
    """
    Hands effects over in numbered folders: class A, by its own notes.

    Args:
        root: Where the folders of tenants are.
        sheet: Makes what lies beside the files: name -> bytes.
    """

    def __init__(
        self, spec: FolderSpec, root: Path, artifacts: Artifacts, sheet: Sheet | None
    ) -> None:
        self.name, self.facts = spec.name, spec.facts
        self.together, self.at_once = spec.together, spec.at_once
        self.timeout_s = spec.timeout_s
        self._root = root
        self._artifacts = artifacts
        self._sheet = sheet

    def __repr__(self) -> str:
        return f"<FolderSink {self._root}>"

    async def send(self, parcels: Sequence[Parcel], begin: Moment) -> list[Outcome]:
        """A folder for each batch that is among them."""
        await begin()
        found: dict[str, Outcome] = {}
        groups: dict[Path, list[Parcel]] = {}
        for parcel in parcels:
            at = self._root / parcel.effect.tenant / parcel.effect.batch
            groups.setdefault(at, []).append(parcel)
        for at, group in groups.items():
            found |= await self._hand_over(at, group)
        return [found[p.effect.key] for p in parcels]

    async def ask(self, parcel: Parcel) -> Outcome:
        """Whether its key was handed over."""
        at = self._root / parcel.effect.tenant / parcel.effect.batch
        known = await in_thread(_settled, at)
        return known.get(parcel.effect.key) or Absent()

    async def _hand_over(self, at: Path, group: list[Parcel]) -> dict[str, Outcome]:
        try:
            done: dict[str, Outcome] = dict(await in_thread(_settled, at))
            new = [p for p in group if p.effect.key not in done]
            if not new:
                return done
            part = at / f".{uuid4().hex}{PART}"
            try:
                rows, spoilt = await self._fill(part, new)
                done |= spoilt
                if not rows:
                    return done
                if self._sheet is not None:
                    beside = await self._sheet(rows)
                    for name, data in beside.items():
                        await in_thread(write_atomically, part / name, data)
                return done | await in_thread(_publish, at, part, rows)
            finally:
                # On a full disk a part for each try is what keeps it full.
                with anyio.CancelScope(shield=True):
                    await in_thread(_left, at, part)
        except WaybillError as error:
            # Whatever did appear is in the notes: nothing comes twice by trying again.
            again = NotSent(f"{error.code}: {error.message}")
            return {p.effect.key: again for p in group}

    async def _fill(
        self, part: Path, new: Sequence[Parcel]
    ) -> tuple[list[Row], dict[str, Outcome]]:
        """
        The files of the effects, in `part`; a row for each.

        And what became of those whose artifacts are not there: it is theirs alone.
        """
        rows: list[Row] = []
        spoilt: dict[str, Outcome] = {}
        with ours("the sink's folder", part.parent):
            await in_thread(part.mkdir, 0o750, True)
        for e, payload in new:
            try:
                files = [
                    (name, artifact, await self._artifacts.get(artifact))
                    for name, artifact in e.artifacts.items()
                ]
            except (NotFound, Integrity) as error:
                spoilt[e.key] = NotSent(f"{error.code}: {error.message}")
                continue
            place = len({row.key for row in rows}) + 1
            nothing = [("payload.json", "", json.dumps(payload).encode())]
            for name, artifact, data in files or nothing:
                file = f"{e.item_id:08d}-{e.key[:12]}-{name}"
                await in_thread(write_atomically, part / file, data)
                rows.append(
                    Row(place, e.item_id, e.item_name, e.name, file, artifact, e.key)
                )
        return rows, spoilt


class Reconciled(NamedTuple):
    """
    Their list against ours, by files.

    Attributes:
        done: How many are on both.
        missing: Ours that they do not list.
        twice: Ours that they list more than once.
        unknown: Lines of theirs that name nothing of ours.
    """

    done: int
    missing: list[str]
    twice: list[str]
    unknown: list[str]


def reconcile(at: Path, said: str) -> Reconciled:
    """
    Compare what was handed over of one batch with the receiver's list of it.

    Args:
        at: The batch's folder, below the sink's.
        said: CSV, or a line each; a cell that is a file or a key of ours counts.
    """
    rows = [row for note in _notes(at) for row in note["rows"]]
    mine = {row["file"]: row["file"] for row in rows}
    mine |= {row["key"]: row["file"] for row in rows}
    counted = dict.fromkeys((row["file"] for row in rows), 0)
    unknown = []
    for number, cells in enumerate(csv.reader(io.StringIO(said))):
        names = (Path(cell.strip()).name for cell in cells)
        found = {mine[name] for name in names if name in mine}
        for file in found:
            counted[file] += 1
        heading = number == 0 and not found
        if not found and not heading and any(cell.strip() for cell in cells):
            unknown.append(",".join(cells)[:200])
    return Reconciled(
        sum(1 for n in counted.values() if n),
        [file for file, n in counted.items() if n == 0],
        [file for file, n in counted.items() if n > 1],
        unknown,
    )


def _publish(at: Path, part: Path, rows: list[Row]) -> dict[str, Outcome]:
    """Number the folder, note it, and let it appear; another's keys win."""
    with ours("the sink's folder", at), _alone(at):
        known = _settled(at)
        twice = {row.key for row in rows if row.key in known}
        if twice:  # a courier that was taken for dead was quicker
            shutil.rmtree(part)
            later = NotSent("HANDED_OVER: others of its folder are there already")
            return {r.key: known.get(r.key) or later for r in rows}
        # Behind the last, not by their count: a number that was left out, for a folder
        # of somebody else's, would bring one up again, and its notes would be lost.
        number = max((int(note.stem) for note in _numbers(at)), default=0) + 1
        while (at / f"{number:04d}").exists():
            number += 1
        _write_manifest(part, number, at, rows)
        sync_folder(part)
        note = {"part": part.name, "rows": [row._asdict() for row in rows]}
        write_atomically(at / HANDED / f"{number:04d}.json", json.dumps(note).encode())
        os.rename(part, at / f"{number:04d}")
        sync_folder(at)
        _sweep(at)
        return dict(_settled(at))


def _write_manifest(part: Path, number: int, at: Path, rows: Sequence[Row]) -> None:
    listed = [row._asdict() for row in rows]
    head = {"tenant": at.parent.name, "batch": at.name, "number": number}
    text = json.dumps({**head, "files": listed}, indent=1, ensure_ascii=False)
    write_atomically(part / "manifest.json", text.encode())
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows({k: _cell(v) for k, v in row.items()} for row in listed)
    write_atomically(part / "manifest.csv", table.getvalue().encode("utf-8-sig"))


def _cell(value: Any) -> Any:
    """A name out of a stranger's document is no formula of a spreadsheet."""
    formula = isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r")
    return f"'{value}" if formula else value


def _settled(at: Path) -> dict[str, Confirmed]:
    """The keys that were handed over, and where; what a crash left is finished."""
    found: dict[str, Confirmed] = {}
    for path, note in zip(_numbers(at), _notes(at), strict=True):
        part = at / note["part"]
        folder = at / path.stem
        if part.exists() and not folder.exists():
            os.rename(part, folder)
            sync_folder(at)
        files: dict[str, list[str]] = {}
        for row in note["rows"]:
            files.setdefault(row["key"], []).append(row["file"])
        where = f"{at.parent.name}/{at.name}/{path.stem}"
        for key, names in files.items():
            found[key] = Confirmed({"folder": where, "files": names})
    return found


def _numbers(at: Path) -> list[Path]:
    return sorted((at / HANDED).glob("*.json"))


def _notes(at: Path) -> Iterator[dict[str, Any]]:
    for path in _numbers(at):
        yield json.loads(path.read_text(encoding="utf-8"))


def _left(at: Path, part: Path) -> None:
    """Take away what did not appear, unless it is noted: that is finished later."""
    if not part.exists():
        return
    with suppress(OSError, ValueError), _alone(at):
        if part.name not in {note["part"] for note in _notes(at)}:
            shutil.rmtree(part)


def _sweep(at: Path) -> None:
    """What killed couriers left; whoever still writes one has written lately."""
    for part in at.glob(f".*{PART}"):
        if part.is_dir() and time.time() - part.stat().st_mtime > STALE_S:
            shutil.rmtree(part, ignore_errors=True)


@contextmanager
def _alone(at: Path) -> Iterator[None]:
    """Nobody else numbers a folder of this batch meanwhile."""
    here = os.open(at, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(here, fcntl.LOCK_EX)
        yield
    finally:
        os.close(here)
