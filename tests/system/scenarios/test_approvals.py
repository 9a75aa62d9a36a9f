"""A slice of the run in which calls of agents need a person."""

from __future__ import annotations

import pytest

from loadtest.scenarios import approvals


@pytest.mark.proof
def test_nothing_is_written_without_its_own_approval() -> None:
    said: list[str] = []

    found = approvals.run(said.append, items=30, kills=2, seed=3)

    assert found["ran_without_approval"] == found["ran_twice"] == 0
    assert found["answered_by_another"] == found["lost"] == 0
    assert found["writes"] == found["approved"] > 0
    assert found["ended"] == {"done": 30}
