"""An export is there whole or not at all, and takes nobody's file away."""

from __future__ import annotations

import csv
import json
import tracemalloc
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from pipeline.errors import Conflict, Trouble, Usage
from pipeline.model import Disposal
from pipeline.store.rows import ProductRow, ReceivedRow, Standing
from tests.unit.received import BATCH, ROW, Artifacts, Catalogue, Desk, Store, became
from waybill.exporting import Kind, _beside, export, kind_of


async def desk_of(*files: tuple[str, bytes], more: tuple[ReceivedRow, ...] = ()) -> Any:
    """An app with one item a file, which is its product."""
    artifacts = Artifacts()
    rows = []
    for number, (name, data) in enumerate(files, start=1):
        made = ProductRow("text", await artifacts.put(data), {"file": name}, "ocr")
        row = ROW._replace(id=number, name=f"{number}.pdf")
        rows.append(became(Standing(row, '{"source": "s"}', [], [made]), number))
    return Desk(Store(*rows, *more), Catalogue("text"), artifacts)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("to", "kind"),
    [
        *(("out", Kind.FOLDER), ("a.zip", Kind.ZIP), ("a.CSV", Kind.CSV)),
        *(("a.jsonl", Kind.JSONL), ("a.zip/", Kind.FOLDER), ("2026.11", Kind.FOLDER)),
        *(("a.xlsx/", Kind.FOLDER), ("acme.invoices", Kind.FOLDER)),
    ],
)
def test_a_name_says_what_is_made(to: str, kind: Kind) -> None:
    """By its ending; a slash at its end makes it a folder."""
    assert kind_of(to) is kind


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    """Nobody wants a folder called `a.xlsx`, unless there is one."""
    with pytest.raises(Usage, match=r"no \.xlsx file"):
        kind_of(str(tmp_path / "a.xlsx"))

    (tmp_path / "a.xlsx").mkdir()
    assert kind_of(str(tmp_path / "a.xlsx")) is Kind.FOLDER


async def test_a_folder_has_the_files_and_rows_that_name_them(tmp_path: Path) -> None:
    """In the tree that their stages made; in the place of an empty folder, too."""
    refused = {"disposal": Disposal.QUARANTINED, "item": None, "code": "BAD"}
    desk = await desk_of(
        ("a/x.txt", b"one"), ("b.txt", b"two"), more=(became(None, 9, **refused),)
    )
    to = tmp_path / "out"
    to.mkdir()

    made = await export(desk, BATCH, to, Kind.FOLDER)

    rows = read(to / "manifest.csv")
    assert [row["files"] for row in rows] == ["a/x.txt", "b.txt", ""]
    assert [row["state"] for row in rows] == ["held", "held", "quarantined"]
    assert (to / "a/x.txt").read_bytes() == b"one"
    assert (to / "b.txt").read_bytes() == b"two"
    assert made == (to, 3, 2, {"held": 2, "quarantined": 1}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


async def test_an_archive_is_a_folder_that_is_packed(tmp_path: Path) -> None:
    """Its manifest comes last, for it names the others."""
    desk = await desk_of(("a/x.txt", b"one"), ("b.pdf", b"two"))

    await export(desk, BATCH, tmp_path / "b.zip", Kind.ZIP)

    with ZipFile(tmp_path / "b.zip") as packed:
        assert packed.testzip() is None
        assert packed.namelist() == ["a/x.txt", "b.pdf", "manifest.csv"]
        assert packed.read("a/x.txt") == b"one"
        assert b"a/x.txt" in packed.read("manifest.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["b.zip"]


async def test_lists_say_where_the_files_lie(tmp_path: Path) -> None:
    """In the output folder; where somebody took them away, in the artifact store."""
    desk = await desk_of(("a.txt", b"one"), ("b.txt", b"two"))
    desk.settings.out_dir = tmp_path / "out"
    desk.artifacts.path = lambda name: tmp_path / name[:2]
    there = tmp_path / "out" / "acme" / "may" / "a.txt"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"one")

    await export(desk, BATCH, tmp_path / "b.jsonl", Kind.JSONL)
    await export(desk, BATCH, tmp_path / "b.csv", Kind.CSV)

    lines = (tmp_path / "b.jsonl").read_text("ascii").splitlines()
    files = [json.loads(line)["files"][0] for line in lines]
    kept = str(tmp_path / files[1]["artifact"][:2])
    assert [file["file"] for file in files] == [str(there), kept]
    assert [row["files"] for row in read(tmp_path / "b.csv")] == [str(there), kept]


async def test_two_files_of_one_name_are_both_there(tmp_path: Path) -> None:
    """And a file where another one has a folder; nobody is the manifest."""
    names = ("a.txt", "a.txt", "a.txt/b", "c/d", "c", "manifest.csv")
    desk = await desk_of(*((name, str(n).encode()) for n, name in enumerate(names, 1)))
    own = [None, "00000002-a.txt", "00000003-a.txt-b", None, "00000005-c"]
    own.append("00000006-manifest.csv")

    await export(desk, BATCH, tmp_path / "out", Kind.FOLDER)
    await export(desk, BATCH, tmp_path / "b.zip", Kind.ZIP)

    expected = [mine or name for mine, name in zip(own, names, strict=True)]
    said = [row["files"] for row in read(tmp_path / "out" / "manifest.csv")]
    assert said == expected
    with ZipFile(tmp_path / "b.zip") as packed:
        found = [packed.read(name) for name in expected]
    assert found == [(tmp_path / "out" / name).read_bytes() for name in expected]
    assert found == [str(n).encode() for n in range(1, 7)]


@pytest.mark.parametrize(
    ("data", "called"),
    [
        *((b"%PDF-1.7", "00000001-text.pdf"), (b"two words", "00000001-text.txt")),
        *((b"x" * 63 + "ü".encode(), "00000001-text.txt"), (b"\xff", "00000001-text")),
    ],
)
async def test_a_product_without_a_name_gets_one_here(
    tmp_path: Path, data: bytes, called: str
) -> None:
    """Which ends as its bytes say; a list names where it lies."""
    desk = await desk_of(("", data))
    kept = desk.store.rows[0].standing.products[0].artifact

    await export(desk, BATCH, tmp_path / "out", Kind.FOLDER)
    await export(desk, BATCH, tmp_path / "b.csv", Kind.CSV)

    assert [row["files"] for row in read(tmp_path / "out" / "manifest.csv")] == [called]
    assert (tmp_path / "out" / called).read_bytes() == data
    assert [row["files"] for row in read(tmp_path / "b.csv")] == [f"/nowhere/{kept}"]


async def test_what_is_there_is_replaced_when_that_is_said(tmp_path: Path) -> None:
    """A file whole; a folder file by file: what else lies in it is not ours."""
    desk = await desk_of(("a/x.txt", b"one"))
    target, folder = tmp_path / "b.csv", tmp_path / "out"
    target.write_text("mine")
    (folder / "a").mkdir(parents=True)
    (folder / "mine.txt").write_text("mine")
    (folder / "a" / "x.txt").write_text("old")

    for to, kind in ((target, Kind.CSV), (folder, Kind.FOLDER)):
        with pytest.raises(Conflict, match="is there already"):
            await export(desk, BATCH, to, kind)
    assert target.read_text() == "mine"
    for to, kind in ((target, Kind.CSV), (folder, Kind.FOLDER)):
        await export(desk, BATCH, to, kind, overwrite=True)

    assert target.read_text().startswith("item,")
    assert (folder / "mine.txt").read_text() == "mine"
    assert (folder / "a" / "x.txt").read_text() == "one"
    assert (folder / "manifest.csv").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"b.csv", "out"}


async def test_a_link_leads_to_what_is_replaced(tmp_path: Path) -> None:
    """To a folder and to a file: the link stays one."""
    desk = await desk_of(("a.txt", b"one"))
    (tmp_path / "there").mkdir()
    (tmp_path / "out").symlink_to("there")
    (tmp_path / "b.csv").symlink_to("there.csv")

    await export(desk, BATCH, tmp_path / "out", Kind.FOLDER)
    await export(desk, BATCH, tmp_path / "b.csv", Kind.CSV)

    assert (tmp_path / "there" / "a.txt").read_bytes() == b"one"
    assert (tmp_path / "there.csv").read_text().startswith("item,")
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "b.csv").is_symlink()


async def test_a_folder_is_no_file_and_a_file_no_folder(tmp_path: Path) -> None:
    """Not even when it is said that what is there may go."""
    desk = await desk_of()
    (tmp_path / "b.csv").mkdir()
    (tmp_path / "out").write_text("mine")

    for to, kind in (("b.csv", Kind.CSV), ("out", Kind.FOLDER)):
        with pytest.raises(Usage, match="folder"):
            await export(desk, BATCH, tmp_path / to, kind, overwrite=True)


@pytest.mark.parametrize("kind", Kind)
async def test_an_export_that_breaks_off_leaves_nothing(
    tmp_path: Path, kind: Kind
) -> None:
    """Neither half a file, nor what was made beside it."""
    desk = await desk_of(("a.txt", b"one"))
    desk.store.received = broken(desk.store.received)

    with pytest.raises(Trouble, match="the disk is full"):
        await export(desk, BATCH, tmp_path / "x", kind)

    assert list(tmp_path.iterdir()) == []


def broken(received: Any) -> Any:
    """The second slice meets our own trouble."""

    async def ask(batch_id: int, *, after: int, limit: int) -> Any:
        if after:
            raise Trouble("the disk is full")
        return await received(batch_id, after=after, limit=limit)

    return ask


async def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    """As trouble with a sentence, whatever the system calls it."""
    (tmp_path / "file").write_text("")
    desk = await desk_of()

    with pytest.raises(Trouble, match="cannot be written: Not a directory") as refused:
        await export(desk, BATCH, tmp_path / "file" / "b.csv", Kind.CSV)

    assert (refused.value.code, refused.value.exit_code) == ("EXPORT_FAILED", 3)


async def test_what_a_killed_export_left_is_removed(tmp_path: Path) -> None:
    """By the next one to the same place; one that is at work is left alone."""
    left = tmp_path / ".b.csv.killed.export"
    left.mkdir()
    (left / "sheet").write_text("half")
    (tmp_path / ".other.csv.killed.export").mkdir()

    with _beside(tmp_path / "b.csv") as at_work:
        assert not left.exists()
        await export(await desk_of(), BATCH, tmp_path / "b.csv", Kind.CSV)
        assert at_work.exists()

    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"b.csv", ".other.csv.killed.export"}


async def test_a_lost_file_costs_its_own_row_alone(tmp_path: Path) -> None:
    """It is named, and the others are there."""
    desk = await desk_of(("a.txt", b"one"), ("b.txt", b"two"))
    first = desk.store.rows[0].standing.products[0].artifact
    del desk.artifacts.kept[first]

    made = await export(desk, BATCH, tmp_path / "out", Kind.FOLDER)

    assert made.incomplete == {"1": "NOT_FOUND"}
    assert [row["files"] for row in read(tmp_path / "out/manifest.csv")] == [
        "",
        "b.txt",
    ]
    assert made.files == 1


# On one of the two: trio takes ten times as long when its memory is traced.
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_memory_does_not_grow_with_the_batch(tmp_path: Path) -> None:
    """Ten times the rows need no more than a slice of them."""
    peaks = []
    for rows in (300, 3000):
        desk = Desk(Endless(rows), Catalogue("text"), Artifacts())
        tracemalloc.start()
        made = await export(desk, BATCH, tmp_path / f"{rows}.jsonl", Kind.JSONL)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert made.rows == rows

    assert peaks[1] < 1.5 * peaks[0]


class Endless(Store):
    """So many items, made when they are asked for."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.most = rows

    async def received(self, batch_id: int, *, after: int, limit: int) -> Any:
        text = json.dumps({"source": "s", "text": "x" * 1000})
        standing = Standing(ROW, text, [], [])
        numbers = range(after + 1, min(self.most, after + limit) + 1)
        return [became(standing, number) for number in numbers]
