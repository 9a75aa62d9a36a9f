"""The manifests: written when something has ended, once, and after a crash."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.errors import Trouble
from pipeline.model import Disposal
from pipeline.store.rows import ReceivedRow, StandsRow
from waybill.manifest import ManifestKeeper, out_folder, write_manifest


class Store:
    """Batches of refused files: how many each has."""

    def __init__(self, **batches: int) -> None:
        self.refused = batches
        self.read: list[str] = []

    async def stands(self, batches: Sequence[int] = ()) -> list[StandsRow]:
        return [
            StandsRow(number, "t", name, f"quarantined {refused}")
            for number, (name, refused) in enumerate(self.refused.items(), 1)
            if not batches or number in batches
        ]

    async def batch(self, batch_id: int) -> Any:
        return SimpleNamespace(tenant="t", name=list(self.refused)[batch_id - 1])

    async def pipelines_of(self, batch_id: int) -> list[int]:
        return []

    async def received(
        self, batch_id: int, *, after: int, limit: int
    ) -> list[ReceivedRow]:
        name, count = list(self.refused.items())[batch_id - 1]
        if not after:
            self.read.append(name)
        return [
            ReceivedRow(n, f"{n}.pdf", Disposal.QUARANTINED, "BAD", None, None)
            for n in range(after + 1, count + 1)
        ]


def app_of(store: Store, out: Path) -> Any:
    return SimpleNamespace(store=store, settings=SimpleNamespace(out_dir=out))


def codes(out: Path, batch: str) -> list[str]:
    text = (out / "t" / batch / "manifest.csv").read_text(encoding="utf-8")
    return [row["code"] for row in csv.DictReader(text.splitlines())]


async def test_a_manifest_follows_its_batch(tmp_path: Path) -> None:
    """Written anew when something ended; others are left alone."""
    store = Store(may=1, june=1)
    keeper = ManifestKeeper(app_of(store, tmp_path))
    await keeper.look()
    store.refused |= {"june": 3, "july": 2}

    assert await keeper.look() == [2, 3]
    assert await keeper.look() == []

    assert codes(tmp_path, "june") == ["BAD"] * 3
    assert codes(tmp_path, "july") == ["BAD"] * 2


async def test_what_a_crash_left_unwritten_is_written(tmp_path: Path) -> None:
    """By the next process; what stands as it says is not, nor what was taken away."""
    store = Store(written=1, left=1, taken=1)
    app = app_of(store, tmp_path)
    await write_manifest(app, 1)
    await write_manifest(app, 2)
    store.refused["left"] = 2
    store.read.clear()

    assert await ManifestKeeper(app).look() == [2]

    assert store.read == ["left"]
    assert codes(tmp_path, "left") == ["BAD"] * 2
    assert not out_folder(app, "t", "taken").exists()


async def test_a_folder_that_cannot_be_written_keeps_no_other(tmp_path: Path) -> None:
    """It is tried again at each look, and written when it can be."""
    store = Store()
    keeper = ManifestKeeper(app_of(store, tmp_path))
    await keeper.look()
    store.refused |= {"stuck": 1, "free": 1}
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "stuck").write_text("a file, where a folder should be")

    assert await keeper.look() == [2]
    assert await keeper.look() == []
    (tmp_path / "t" / "stuck").unlink()
    assert await keeper.look() == [1]


async def test_a_command_says_what_keeps_it(tmp_path: Path) -> None:
    """In the foreground trouble is told, not waited out."""
    (tmp_path / "t").write_text("a file")

    with pytest.raises(Trouble):
        await write_manifest(app_of(Store(may=1), tmp_path), 1)
