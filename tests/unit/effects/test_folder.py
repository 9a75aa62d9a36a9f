"""The folder sink: folders that appear whole, once, and the list that comes back."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.doubles import MemoryArtifacts
from pipeline.effects import folder as module
from pipeline.effects.declared import FolderSpec
from pipeline.effects.folder import FolderSink, Row, reconcile
from pipeline.effects.sink import Absent, Confirmed, NotSent
from pipeline.errors import Trouble
from tests.unit.effects.receivers import begun, parcel

SPEC = FolderSpec(kind="folder", name="press")


class Bench:
    """A sink over a folder, and effects with a file each."""

    def __init__(self, root: Path, sheet: Any = None) -> None:
        self.artifacts = MemoryArtifacts(root / "objects")
        self.root = root / "press"
        self.sink = FolderSink(SPEC, self.root, self.artifacts, sheet)
        self.at = self.root / "acme" / "may"

    async def parcels(self, *numbers: int, **more: Any) -> list[Any]:
        made = []
        for number in numbers:
            sha = await self.artifacts.put(f"file {number}".encode())
            made.append(parcel(number, artifacts={"reply.pdf": sha}, **more))
        return made

    def folders(self) -> list[str]:
        return sorted(p.name for p in self.at.iterdir() if not p.name.startswith("."))

    def hidden(self) -> list[str]:
        return sorted(p.name for p in self.at.iterdir() if p.name.endswith(".part"))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_what_comes_together_appears_as_one_folder(bench: Bench) -> None:
    """Whole, numbered, with its manifest; the next is another."""
    first = await bench.sink.send(await bench.parcels(1, 2), begun)
    await bench.sink.send(await bench.parcels(3), begun)

    assert bench.folders() == ["0001", "0002"]
    found = json.loads((bench.at / "0001" / "manifest.json").read_text())
    assert (found["tenant"], found["batch"], found["number"]) == ("acme", "may", 1)
    files = [f["file"] for f in found["files"]]
    assert [(bench.at / "0001" / f).read_text() for f in files] == ["file 1", "file 2"]
    assert first == [
        Confirmed({"folder": "acme/may/0001", "files": [f]}) for f in files
    ]
    assert bench.hidden() == []


async def test_a_key_is_handed_over_once(bench: Bench) -> None:
    """Sent again, also among new ones, and when its folder has been taken away."""
    [said] = await bench.sink.send(await bench.parcels(1), begun)
    (bench.at / "0001").rename(bench.root / "taken away")

    again = await bench.sink.send(await bench.parcels(1, 2), begun)

    assert again[0] == said
    assert bench.folders() == ["0002"]
    assert len(list((bench.at / "0002").glob("*.pdf"))) == 1


async def test_a_folder_of_somebody_elses_brings_no_number_up_again(
    bench: Bench,
) -> None:
    """What the notes of a number hold is kept, though its folder is taken away."""
    await bench.sink.send(await bench.parcels(1), begun)
    (bench.at / "0002").mkdir()
    await bench.sink.send(await bench.parcels(2), begun)
    (bench.at / "0003").rename(bench.root / "taken away")
    await bench.sink.send(await bench.parcels(3), begun)

    await bench.sink.send(await bench.parcels(2), begun)

    assert bench.folders() == ["0001", "0002", "0004"]
    assert len(list((bench.at / "0004").glob("*.pdf"))) == 1


async def test_a_crash_before_it_appears_is_finished(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noted, and not there yet: the next who looks lets it appear, as it was."""

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    filled = await part_of(bench)
    monkeypatch.setattr(os, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        module._publish(*filled)
    monkeypatch.undo()
    before = bench.folders()

    [said] = await bench.sink.send(await bench.parcels(1), begun)

    assert before == []
    assert bench.folders() == ["0001"]
    assert said.answer["folder"] == "acme/may/0001"


async def part_of(bench: Bench) -> tuple[Path, Path, list[Any]]:
    """A folder that is filled, and not noted yet."""
    part = bench.at / ".1.part"
    rows, _ = await bench.sink._fill(part, await bench.parcels(1))
    return bench.at, part, rows


async def test_who_was_taken_for_dead_adds_nothing(bench: Bench) -> None:
    """Its effects are another's now, who was quicker."""
    at, part, rows = await part_of(bench)
    await bench.sink.send(await bench.parcels(1), begun)

    late = module._publish(at, part, rows)

    assert bench.folders() == ["0001"]
    assert isinstance(late[rows[0].key], Confirmed)
    assert bench.hidden() == []


async def test_it_can_be_asked_for(bench: Bench) -> None:
    """By its key."""
    [one, two] = await bench.parcels(1, 2)
    await bench.sink.send([one], begun)

    assert isinstance(await bench.sink.ask(one), Confirmed)
    assert await bench.sink.ask(two) == Absent()


async def test_a_missing_file_keeps_its_own_effect_back_alone(bench: Bench) -> None:
    """What it has of others is not printed either; it is tried again."""
    good = await bench.parcels(1, 2)
    there = await bench.artifacts.put(b"there")
    bad = parcel(9, artifacts={"a.pdf": there, "reply.pdf": "0" * 64})

    said = await bench.sink.send([good[0], bad, good[1]], begun)
    again = await bench.sink.send([bad], begun)

    assert [type(s) for s in said] == [Confirmed, NotSent, Confirmed]
    assert [type(s) for s in again] == [NotSent]
    assert (bench.folders(), bench.hidden()) == (["0001"], [])
    note = json.loads((bench.at / "0001" / "manifest.json").read_text())
    assert [row["place"] for row in note["files"]] == [1, 2]
    assert await bench.sink.ask(bad) == Absent()


async def test_what_does_not_appear_takes_no_room(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk each try would leave a part of it, and keep it full."""
    write, wrote = module.write_atomically, []  # type: ignore[attr-defined]

    def full(path: Path, data: bytes) -> None:
        if path.name == wall:
            raise Trouble("the disk is full", code="DISK_FULL")
        wrote.append(path.name)
        write(path, data)

    monkeypatch.setattr(module, "write_atomically", full)
    parcels = await bench.parcels(1, 2)
    for name in ("manifest.json", f"00000002-{2:040x}"[:21] + "-reply.pdf"):
        wall = name
        said = await bench.sink.send(parcels, begun)
        assert all(isinstance(s, NotSent) for s in said)
        assert bench.hidden() == bench.folders() == []
    wall = ""

    assert isinstance((await bench.sink.send(parcels, begun))[1], Confirmed)
    assert wrote.count("manifest.json") == 1


async def test_batches_do_not_share_a_folder(bench: Bench) -> None:
    """Nor do tenants; what has no file is its payload."""
    parcels = [parcel(1, {"a": 1}), parcel(2, {"a": 2}, batch="june")]

    await bench.sink.send(parcels, begun)

    [file] = (bench.root / "acme" / "june" / "0001").glob("*-payload.json")
    assert json.loads(file.read_text()) == {"a": 2}


async def test_a_sheet_lies_beside_the_files(tmp_path: Path) -> None:
    """Made of the files that are in the folder."""
    seen: list[str] = []

    async def sheet(rows: Sequence[Row]) -> dict[str, bytes]:
        seen.extend(row.document for row in rows)
        return {"proof.pdf": b"all of them"}

    bench = Bench(tmp_path, sheet)
    await bench.sink.send(await bench.parcels(1, 2), begun)

    assert seen == ["doc-1.png", "doc-2.png"]
    assert (bench.at / "0001" / "proof.pdf").read_bytes() == b"all of them"


async def test_a_documents_name_is_no_formula(bench: Bench) -> None:
    """In the table that a spreadsheet opens."""
    await bench.sink.send(await bench.parcels(1, item_name='=HYPERLINK("x")'), begun)

    table = (bench.at / "0001" / "manifest.csv").read_text(encoding="utf-8-sig")
    assert "'=HYPERLINK" in table
    assert table.startswith("place,item,document,")


async def test_their_list_is_compared_with_ours(bench: Bench) -> None:
    """What is missing, what was done twice, what is not ours."""
    await bench.sink.send(await bench.parcels(1, 2), begun)
    await bench.sink.send(await bench.parcels(3), begun)
    one, two, three = sorted(p.name for p in bench.at.glob("0*/*.pdf"))
    key = f"{3:040x}"

    found = reconcile(
        bench.at, f"file,sheets\n/spool/{one},1\n{key},1\n{three},1\nodd.pdf,1\n\n"
    )

    assert found.done == 2
    assert found.missing == [two]
    assert found.twice == [three]
    assert found.unknown == ["odd.pdf,1"]
    assert reconcile(bench.at, f"{one}\n{two}\n{three}\n").missing == []
