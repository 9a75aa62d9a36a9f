"""`bench scale`, a slice: it measures what it says, and what it finds is told."""

from __future__ import annotations

import pytest

from loadtest.bench import scale


@pytest.mark.proof
def test_a_slice_of_scale_is_good() -> None:
    """A few thousand items are filled in, asked for and reconciled."""
    said: list[str] = []

    found = scale.measure(said.append, items=3000, holds=1000, tenants=200)

    assert found["reconcile"] == "ok"
    assert {*scale.BOUNDS, "commands_s", "good"} <= set(found)
    assert (found["items"], found["holds"], found["tenants"]) == (3000, 1000, 200)
    assert set(found["commands_s"]) == {
        *("status", "items ls", "batches ls", "review ls", "batches reconcile")
    }
    assert min(found[name] for name in scale.BOUNDS) > 0
    assert any("filled" in line for line in said)


@pytest.mark.proof
def test_what_is_over_its_bound_is_not_good(monkeypatch) -> None:
    """A bench that cannot fail measures nothing."""
    monkeypatch.setitem(scale.BOUNDS, "status_ms", 0)
    monkeypatch.setattr(scale, "commands", lambda *_: {})

    found = scale.measure(lambda _: None, items=1000, holds=1000, tenants=20)

    assert not found["good"]
