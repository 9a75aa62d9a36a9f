"""
Exports: a batch's results as a folder, a ZIP archive, CSV or JSON Lines.

What is made stands beside its target, under another name, until it is whole.  Rows
and files come in slices: however large the batch, what is in memory is a slice, the
largest file and, of an archive, its list of names.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from glob import escape
from pathlib import Path
from tempfile import mkdtemp
from typing import NamedTuple, Protocol, assert_never
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from pipeline.artifacts.durable import OURS, publish, sync_folder
from pipeline.errors import Conflict, Integrity, NotFound, Trouble, Usage
from pipeline.store.rows import BatchRow
from pipeline.threads import in_thread
from stages.formats.kinds import ending_of
from waybill import terminal
from waybill.compose import App
from waybill.manifest import out_folder
from waybill.results import (
    Result,
    columns,
    csv_lines,
    csv_values,
    record,
    results,
    writable,
)

MANIFEST = "manifest.csv"  # beside the files
MADE, SHEET = "made", "sheet"  # in the folder beside the target
ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,4}")  # of a file rather than of a folder
PACKED = {".pdf", ".png", ".jpg", ".jpeg", ".webp", ".zip", ".docx"}
INCOMPLETE_MAX = 100  # rows that are named; the manifest has them all
FOLDER_MODE = 0o750
SCRATCH = ".export"  # ends the name of what is being made


class Kind(StrEnum):
    """What an export is; each but a folder is known by its name's ending."""

    FOLDER = "a folder"
    ZIP = ".zip"
    CSV = ".csv"
    JSONL = ".jsonl"


class Exported(NamedTuple):
    """What was written: `states` by number of rows, `incomplete` by item and code."""

    to: Path
    rows: int
    files: int
    states: dict[str, int]
    incomplete: dict[str, str]


def kind_of(to: str) -> Kind:
    """
    What to make at `to`.

    Raises:
        Usage: it is called like a file of another kind.
    """
    path = Path(to)
    for kind in (Kind.ZIP, Kind.CSV, Kind.JSONL):
        if path.suffix.lower() == kind and not to.endswith("/"):
            return kind
    if to.endswith("/") or path.is_dir() or not ENDING.fullmatch(path.suffix):
        return Kind.FOLDER
    raise Usage(
        f"an export is no {path.suffix} file",
        hint="name a .zip, .csv or .jsonl file, or a folder (with / at its end)",
    )


async def export(
    app: App,
    batch: BatchRow,
    to: Path,
    kind: Kind,
    *,
    overwrite: bool = False,
    note: Callable[[int], None] = lambda rows: None,
) -> Exported:
    """
    Write what became of everything that the batch has received.

    Args:
        overwrite: Whether what is there is replaced; of a folder file by file, and
            what else lies in it stays.
        note: Told how many rows are written, after each slice.

    Raises:
        Conflict: EXPORT_EXISTS.
        Trouble: EXPORT_FAILED, it cannot be written; nothing is left there.
    """
    to = to.resolve()  # where a link leads
    _check(to, kind, overwrite)
    names = await columns(app, batch.id)
    states: Counter[str] = Counter()
    incomplete: dict[str, str] = {}
    files = 0
    with _failing(to), _beside(to) as scratch, _pack(kind, scratch) as pack:
        with (scratch / SHEET).open("x", encoding="utf-8", newline="") as sheet:
            await in_thread(sheet.write, _head(kind, names))
            async for rows in results(app, batch.id):
                shown = [
                    await _packed(app, pack, row) if pack else _placed(app, batch, row)
                    for row in rows
                ]
                await in_thread(sheet.write, _lines(kind, names, shown))
                files += sum(len(row.files) for row in shown) if pack else 0
                states.update(row.state for row in shown)
                for row in shown:
                    if row.incomplete and len(incomplete) < INCOMPLETE_MAX:
                        incomplete[str(row.item)] = row.incomplete
                note(states.total())
        await in_thread(_finish, scratch, kind, pack)
        await in_thread(_publish, scratch, to, kind, overwrite)
    return Exported(to, states.total(), files, dict(states), incomplete)


def _check(to: Path, kind: Kind, overwrite: bool) -> None:
    if not os.path.lexists(to):
        return
    folder = kind is Kind.FOLDER
    if folder != to.is_dir():
        raise Usage(f"{to} is {'no' if folder else 'a'} folder")
    if overwrite or (folder and not _lies_in(to)):
        return
    raise Conflict(
        f"{to} is there already",
        code="EXPORT_EXISTS",
        hint="name another one, or say --overwrite",
    )


def _lies_in(folder: Path) -> bool:
    """Whether anything lies there that is not ours."""
    return any(not path.name.endswith(SCRATCH) for path in folder.iterdir())


@contextmanager
def _failing(to: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Trouble(
            f"{to} cannot be written: {error.strerror or type(error).__name__}",
            code="EXPORT_FAILED",
            hint="make room, or name another place",
        ) from None


# -- what is made beside its target ----------------------------------------------------


@contextmanager
def _beside(to: Path) -> Iterator[Path]:
    """
    A folder of ours beside `to`, or in it where another disk begins there; what a
    killed export left there is removed.
    """
    parent = to if os.path.ismount(to) else to.parent
    if os.path.lexists(parent) and not parent.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob(f".{escape(to.name)}.*{SCRATCH}"):
        with suppress(OSError), _held(left):
            shutil.rmtree(left)
    scratch = Path(mkdtemp(dir=parent, prefix=f".{to.name}.", suffix=SCRATCH))
    try:
        with _held(scratch):
            yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """While somebody writes in it; raises OSError when another one does."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _finish(scratch: Path, kind: Kind, pack: _Pack | None) -> None:
    """The rows take their place, after the files that they name."""
    sheet = scratch / SHEET
    if pack is not None:
        pack.close(sheet)
    else:
        sheet.rename(scratch / MADE)


def _publish(scratch: Path, to: Path, kind: Kind, overwrite: bool) -> None:
    """Give what was made the name that was asked for."""
    made = scratch / MADE
    _check(to, kind, overwrite)
    if kind is not Kind.FOLDER:
        with made.open("rb") as file:
            publish(file, to, mode=OURS)
        return
    os.sync()  # once, for what may be many thousand files
    if os.path.ismount(to) or (to.is_dir() and _lies_in(to)):
        _merge(made, to)
    else:
        made.chmod(FOLDER_MODE)
        os.replace(made, to)  # also in the place of an empty one
    sync_folder(to.parent)


def _merge(made: Path, to: Path) -> None:
    """File by file; the manifest last, for it names the others."""
    manifest = made / MANIFEST
    for path in sorted(made.rglob("*")):
        there = to / path.relative_to(made)
        if path.is_dir():
            there.mkdir(exist_ok=True)
        elif path != manifest:
            os.replace(path, there)
    os.replace(manifest, to / MANIFEST)


# -- files -----------------------------------------------------------------------------


class _Pack(Protocol):
    """Where files are put, and at last the rows that name them."""

    def put(self, name: str, data: bytes) -> bool:
        """Whether it could have that name: one name is one file."""
        ...

    def close(self, sheet: Path) -> None: ...


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir()

    def put(self, name: str, data: bytes) -> bool:
        path = self._root / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                file.write(data)
        except (FileExistsError, NotADirectoryError):
            return False
        return True

    def close(self, sheet: Path) -> None:
        sheet.rename(self._root / MANIFEST)


class _Archive:
    def __init__(self, zipped: ZipFile) -> None:
        self._zip = zipped
        self._folders: set[str] = set()

    def put(self, name: str, data: bytes) -> bool:
        above = [str(folder) for folder in Path(name).parents][:-1]
        taken = self._zip.NameToInfo
        if name in self._folders or any(one in taken for one in (name, *above)):
            return False
        self._folders.update(above)
        info = ZipInfo(name, time.localtime()[:6])
        info.external_attr = OURS << 16
        packed = Path(name).suffix.lower() in PACKED
        self._zip.writestr(info, data, ZIP_STORED if packed else ZIP_DEFLATED)
        return True

    def close(self, sheet: Path) -> None:
        self._zip.write(sheet, MANIFEST, ZIP_DEFLATED)
        self._zip.close()


@contextmanager
def _pack(kind: Kind, scratch: Path) -> Iterator[_Pack | None]:
    """Where this kind of export puts files; None: nowhere, it names their places."""
    match kind:
        case Kind.FOLDER:
            yield _Folder(scratch / MADE)
        case Kind.ZIP:
            with ZipFile(scratch / MADE, "w") as zipped:
                yield _Archive(zipped)
        case Kind.CSV | Kind.JSONL:
            yield None
        case _:
            assert_never(kind)


async def _packed(app: App, pack: _Pack, row: Result) -> Result:
    """The row's files, put where they belong; what cannot be had is left out."""
    files = []
    for file in row.files:
        try:
            data = await app.artifacts.get(file.artifact)
        except (Integrity, NotFound) as error:
            row = row._replace(incomplete=row.incomplete or error.code)
            continue
        called = file.file or writable(file.product) + ending_of(data)
        own = f"{row.item:08d}-{called.replace('/', '-')}"
        for name in (file.file, own):
            if name not in ("", MANIFEST) and await in_thread(pack.put, name, data):
                files.append(file._replace(file=name))
                break
        else:
            row = row._replace(incomplete=row.incomplete or "NAME_TAKEN")
    return row._replace(files=files)


def _placed(app: App, batch: BatchRow, row: Result) -> Result:
    """The row's files, by where they lie."""
    out = out_folder(app, batch.tenant, batch.name)
    files = []
    for file in row.files:
        path = out / file.file
        if not path.is_file():
            path = app.artifacts.path(file.artifact)
        files.append(file._replace(file=terminal.visible(str(path))))
    return row._replace(files=files)


# -- rows ------------------------------------------------------------------------------


def _head(kind: Kind, names: Sequence[str]) -> str:
    return "" if kind is Kind.JSONL else csv_lines([names])


def _lines(kind: Kind, names: Sequence[str], rows: Sequence[Result]) -> str:
    if kind is Kind.JSONL:
        # In ASCII: what steers a terminal is an escape.
        return "".join(json.dumps(record(row, names)) + "\n" for row in rows)
    return csv_lines(csv_values(row, names) for row in rows)
