"""The machine in trouble, for real: nothing fails, nothing is charged, all goes on."""

from __future__ import annotations

import pytest

from loadtest.scenarios import trouble


# `make proof` meets them all; of a folder, of connections and of descriptors
# test_trouble.py of the commands, test_database_elsewhere.py and test_trouble.py of the
# engine tell the same.
@pytest.mark.proof
@pytest.mark.parametrize("name", ["no_descriptors", "keeper_killed"])
def test_trouble_passes_without_a_trace(name: str) -> None:
    """A slice of the run, of what takes no root."""
    said: list[str] = []

    result = trouble.run(said.append, items=60, for_s=6, only=[name])

    assert {word: result[word] for word in trouble.SUMS} == dict.fromkeys(
        trouble.SUMS, 0
    ), said
    assert result["resumed_within_s"] <= 10, said
    assert result["skipped"] == []
