"""A vendor that is down costs time, and nothing else."""

from __future__ import annotations

import pytest

from loadtest.scenarios import outage


def test_figures_are_those_of_the_book() -> None:
    """Ten a second, down from 10 to 20, served again from 25 on, once too quickly."""
    steady = [n / 10 for n in range(100)] + [25 + n / 10 for n in range(50)]
    asked = [(at, "accepted") for at in steady]
    asked += [(12.0, "outage"), (22.0, "accepted"), (25.05, "throttled")]

    found = outage.figures(sorted(asked), 150, 10.0, 20.0, 10)

    assert (found["calls"], found["calls_while_down"], found["throttled"]) == (
        153,
        1,
        1,
    )
    assert found["calls_a_budgeted"] == 1.02
    assert found["recovered_within_s"] == 5.0
    assert found["most_in_a_second"] == 11
    assert found["seconds_over"] == 1


@pytest.mark.proof
def test_a_vendor_that_was_down_is_served_again() -> None:
    """A slice of the run: all is done, no try is used up, hardly a call is wasted."""
    said: list[str] = []

    result = outage.run(said.append, items=150, down_s=3, per_s=50, how="error")

    assert result["bad"] == [], (result, said)
    assert result["done"] == 150
    assert 0 < result["calls_while_down"] < 30
