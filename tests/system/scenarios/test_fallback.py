"""A slice of the run in which the first vendor is down."""

from __future__ import annotations

import pytest

from loadtest.scenarios import fallback


@pytest.mark.proof
def test_the_second_vendor_does_it_all_and_is_paid_once() -> None:
    said: list[str] = []

    found = fallback.run(said.append, items=30, kills=1, seed=1)

    assert (found["done"], found["by_fallback"], found["paid_twice"]) == (30, 30, 0)
    assert found["first_asked"] >= 1
    assert found["conserved"]
