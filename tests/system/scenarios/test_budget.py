"""A budget under many callers in two worker processes, in small."""

from __future__ import annotations

from decimal import Decimal

import pytest

from loadtest.scenarios import budget


@pytest.mark.proof
def test_a_budget_is_never_passed_and_whoever_waited_goes_on() -> None:
    """By the vendor's own bill and by ours; no finished step is paid again."""
    told: list[str] = []

    found = budget.run(
        told.append,
        parallel=16,
        items=16,
        kills=0,
        limit=Decimal("1.00"),
        processes=2,
    )

    assert Decimal("0.90") < Decimal(found["spent"]) <= 1
    assert Decimal(found["billed"]) <= Decimal(found["spent"])
    assert found["overspent"] == found["unpaid"] == 0
    assert found["resumed"] == found["waited"] > 0
    assert found["finished_steps_called_again"] == 0
    assert (found["done"], found["failed"], found["conserved"]) == (16, 0, True)
