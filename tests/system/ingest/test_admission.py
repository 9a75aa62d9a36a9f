"""Admission: received once, or refused with the reason, and never half."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import structlog

from ingest.candidates import Candidate, Seen, named
from pipeline.model import Disposal
from tests.system.ingest.world import House, codes, files, scan


async def test_the_same_bytes_twice_are_one_item(house: House) -> None:
    """Same bytes in one scan, and again in a later one: an item, two duplicates."""
    watcher = house.watcher()
    house.drop("a.pdf")
    house.drop("b.pdf")
    await scan(watcher)
    house.drop("a.pdf")

    await scan(watcher)

    assert house.store.disposals() == ["duplicate", "duplicate", "item"]
    assert len(house.store.items) == 1
    again = [name for name in house.archive() if name.startswith("a~")]
    assert len(house.archive()) == 3  # namesakes are kept apart
    assert len(again) == 1


async def test_an_empty_file_is_quarantined_with_its_reason(house: House) -> None:
    """A refused file is kept, with code, reason and hint beside it."""
    house.drop("acme/letters/empty.pdf", b"")

    with structlog.testing.capture_logs() as logs:
        await scan(house.watcher())

    [submission] = house.store.submitted.values()
    assert submission.refused_code == "EMPTY_FILE"
    kept = house.folders.quarantine / submission.kept_at
    assert kept.read_bytes() == b""
    assert kept.name == f"{submission.key[:12]}-empty.pdf"
    reason = json.loads(kept.with_name(f"{kept.name}.reason.json").read_bytes())
    assert (reason["code"], reason["hint"]) == ("EMPTY_FILE", "send it again")
    assert reason["path"].endswith("inbox/acme/letters/empty.pdf")
    assert [log["event"] for log in logs] == ["file_quarantined"]
    assert house.inbox() == []


async def test_a_file_over_the_cap_is_quarantined_unread(house: House) -> None:
    """A sparse terabyte costs a rename: FILE_TOO_LARGE, no bytes in the store."""
    path = house.drop("huge.pdf")
    os.truncate(path, 1 << 40)

    await scan(house.watcher(max_file_bytes=1000))

    [submission] = house.store.submitted.values()
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

    [submission] = house.store.submitted.values()
    assert submission.key == hashlib.sha256(data).hexdigest()
    assert files(house.folders.scratch) == []


async def test_a_poison_file_is_quarantined_after_three_probes(house: House) -> None:
    """A file that kills its probe is tried three times, then refused."""
    path = house.drop("a.pdf", b"poison")
    candidate = Candidate(house.folders.inbox, "a.pdf", "a.pdf")
    admission = house.admission()
    batch = await house.store.open_batch("t", "b", deadline_s=1)

    answers = [await admission.take([candidate], batch, 7) for _ in range(3)]

    assert [one.code for [one] in answers] == ["JAIL_TIMEOUT", "JAIL_TIMEOUT", ""]
    assert house.store.disposals() == ["quarantined"]
    assert not path.exists()


async def test_the_probe_is_told_whose_file_it_is(house: House) -> None:
    """A password that one tenant gave opens no file of another."""
    codes = {}
    for tenant in ("acme", "other"):
        (house.folders.inbox / "a.pdf").write_bytes(b"locked")
        candidate = Candidate(house.folders.inbox, "a.pdf", "a.pdf")
        batch = await house.store.open_batch(tenant, "b", deadline_s=1)

        [taken] = await house.admission().take([candidate], batch, 7)

        assert taken.prepared is None
        assert taken.receipt is not None
        codes[tenant] = taken.receipt.disposal

    assert codes == {"acme": Disposal.ITEM, "other": Disposal.QUARANTINED}


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


async def test_a_file_written_while_it_is_copied_is_left(house: House) -> None:
    """A file that is not the one weighed complete is left for the next round."""
    house.drop("a.pdf")
    stale = Candidate(house.folders.inbox, "a.pdf", "a.pdf", Seen(10, 1, 1))
    batch = await house.store.open_batch("t", "b", deadline_s=1)

    [taken] = await house.admission().take([stale], batch, 7)

    assert taken.code == "FILE_CHANGED"
    assert house.inbox() == ["a.pdf"]
    assert files(house.folders.store) == []


async def test_named_files_stay_where_they_are(house: House, tmp_path: Path) -> None:
    """Files given by a person are copied; refused ones are kept as copies too."""
    mine = tmp_path / "mine"
    (mine / "sub").mkdir(parents=True)
    (mine / "a.pdf").write_bytes(b"%PDF a")
    (mine / "sub" / "b.pdf").write_bytes(b"bad")
    (mine / "sub" / "c.part").write_bytes(b"half")
    (mine / "link.pdf").symlink_to(mine / "a.pdf")
    batch = await house.store.open_batch("default", "b", deadline_s=60)
    found = named([mine, mine / "link.pdf"], pipeline="letters")

    first = await house.admission().take(found, batch, 7, archive=False)
    again = await house.admission().take(found, batch, 7, archive=False)

    assert [one.code for one in first] == ["", "", ""]
    assert [one.receipt for one in again] == [one.receipt for one in first]
    # The link names a.pdf itself, so it is the same delivery.
    assert house.store.disposals() == ["item", "quarantined"]
    assert files(mine) == ["a.pdf", "link.pdf", "sub/b.pdf", "sub/c.part"]
    assert len(house.quarantine()) == 2
    assert house.archive() == []


async def test_named_files_can_be_archived(house: House, tmp_path: Path) -> None:
    """With `archive`, named files go the way of the inbox."""
    mine = tmp_path / "mine"
    (mine / "sub").mkdir(parents=True)
    (mine / "sub" / "a.pdf").write_bytes(b"%PDF a")
    batch = await house.store.open_batch("default", "b", deadline_s=60)

    await house.admission().take(named([mine], pipeline="p"), batch, 7, archive=True)

    assert house.archive() == ["sub/a.pdf"]
    assert files(mine) == []
