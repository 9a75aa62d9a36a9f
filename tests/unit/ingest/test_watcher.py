"""Whose turn it is."""

from __future__ import annotations

from ingest.watch.folders import Place
from ingest.watch.watcher import fair
from tests.unit.ingest.looks import look, paths


def test_places_take_turns() -> None:
    """Many files of one tenant do not hold up the one file of another."""
    many = [look(f"big/letters/{n}.pdf") for n in range(1000)]

    turns = fair([*many, look("small/letters/a.pdf")], 10)

    assert {place.tenant: len(files) for place, files in turns.items()} == {
        "big": 9,
        "small": 1,
    }
    assert paths(turns[Place("big", "letters", "")])[:2] == [
        "big/letters/0.pdf",
        "big/letters/1.pdf",
    ]
