"""Slices of the runs in which an agent's model misbehaves, or never stops."""

from __future__ import annotations

import pytest

from loadtest.scenarios import zero_trust


@pytest.mark.proof
def test_what_misbehaves_gets_nothing_done() -> None:
    """Everything is refused by its name, and every document ends."""
    said: list[str] = []

    found = zero_trust.run(said.append, items=80, seed=2, faults=zero_trust.WRONG)

    assert found["forbidden_calls_run"] == found["injected_orders_obeyed"] == 0
    assert found["invented_quotes_passed"] == found["bricked"] == 0
    assert set(found["refused"]) == {
        *("TOOL_UNKNOWN", "TOOL_NOT_GRANTED", "TOOL_NOT_OURS", "TOOL_ARGUMENTS"),
        "TOOL_REPEATED",
    }
    assert found["paid_twice"] == 0
    assert {"answer", "call", "invented_quote"} <= found["said"].keys()
    assert found["conserved"]


@pytest.mark.proof
def test_who_never_stops_is_held_inside_its_budget() -> None:
    said: list[str] = []

    found = zero_trust.run(
        said.append, items=40, seed=2, faults={"loops": 1}, loops=True
    )

    assert (found["ended"], found["over_budget"], found["without_work"]) == (40, 0, 0)
    assert found["conserved"]
