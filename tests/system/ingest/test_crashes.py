"""A process that dies anywhere on the way in: the next one mends what it left."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.system.ingest.world import Crash, House, crash_after, crash_when, scan


def plant_put(house: House) -> None:
    house.artifacts.fault = crash_after(2)


def plant_before_admit(house: House) -> None:
    house.store.fault = crash_when("before admit")


def plant_after_admit(house: House) -> None:
    house.store.fault = crash_when("after admit")


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
    house.store.fault = lambda point: None
    house.shelf.fault = lambda when: None

    await scan(house.watcher())  # a new process: nothing remembered

    assert house.inbox() == []
    assert house.store.disposals() == [*["duplicate"] * 3, *["item"] * 3, "quarantined"]
    assert house.archive() == sorted(n for n in contents if n.endswith(".pdf"))
    for relative in house.archive():
        kept = house.folders.archive / relative
        assert kept.read_bytes() == contents[relative]
    kept_at = [s.kept_at for s in house.store.submitted.values() if s.kept_at]
    assert house.quarantine() == sorted([*kept_at, f"{kept_at[0]}.reason.json"])


async def test_a_crash_in_the_middle_of_a_quarantine_move_is_mended(
    house: House,
) -> None:
    """The reason names its file by token: the next run uses the same place."""
    house.drop("a.pdf", b"bad")
    house.store.fault = crash_when("after admit")
    with pytest.raises((Crash, BaseExceptionGroup)):
        await scan(house.watcher())
    house.store.fault = lambda point: None
    [submission] = house.store.submitted.values()
    (house.folders.quarantine / submission.kept_at).touch()

    await scan(house.watcher())

    assert house.inbox() == []
    assert (house.folders.quarantine / submission.kept_at).read_bytes() == b"bad"
    assert len(house.quarantine()) == 2
