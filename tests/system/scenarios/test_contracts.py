"""A slice of the run in which contracts are read by a hundred agents each."""

from __future__ import annotations

import pytest

from loadtest.scenarios import contracts, contracts_given
from loadtest.trial import SAMPLES


@pytest.mark.proof
@pytest.mark.skipif(
    not (SAMPLES / "contracts_cuad").is_dir(), reason="no samples of contracts"
)
def test_contracts_come_through_kills_once_each_and_every_field_is_explained() -> None:
    """Two contracts, one of 120 pages; workers die at page 61 and between contracts."""
    said: list[str] = []

    found = contracts.run(said.append, contracts=2, kills=1, seed=3)

    bad = ("lost", "asks_paid_twice", "records_twice", "finished_steps_rerun")
    assert [found[one] for one in bad] == [0, 0, 0, 0]
    assert found["conserved"]
    assert {"page", "contract"} <= found["kills"].keys()
    assert found["account"]["fields"] == 2 * contracts_given.TYPES
    assert found["account"]["unexplained"] == 0
    assert found["records"] == 2
