"""Figures of order, fairness and overload, from rows that are made up."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.driver import scenario
from loadtest.driver.figures import (
    Went,
    broken,
    fairness,
    growth,
    jain,
    order,
    overload,
)

OVER = """
pipeline = "letters"
items = 100
[[phase]]
kind = "burst"
share = 1
[[phase]]
kind = "burst"
count = 300
overloads = true
"""


def went(tenant: str, batch: str, begun: float, ended: float, key: str = "") -> Went:
    return Went(tenant, batch, key, 0.0, begun, ended, "done")


def test_jains_index() -> None:
    assert jain([5, 5, 5, 5]) == 1.0
    assert jain([8, 0, 0, 0]) == 0.25
    assert jain([0, 0]) == 0.0


def test_fairness_is_of_the_time_in_which_everybody_stands_in_line() -> None:
    """In the end everybody has everything: that says nothing."""
    tenants = [f"t{n}" for n in range(5)]
    alike = [went(t, "all", n, n + 1) for n in range(10) for t in tenants]
    one_first = [
        went(t, "all", 0, 10 * place + n)
        for place, t in enumerate(tenants)
        for n in range(10)
    ]

    assert fairness(alike) == {"jain": 1.0, "tenants": 5}
    assert fairness(one_first)["jain"] < 0.3
    assert fairness(alike[:2]) == {}


def test_who_comes_alone_waits_for_what_begins_before_it() -> None:
    flood = [went("flood", "many", at, at + 1) for at in (-1.0, 0.5, 1.0, 2.0)]

    found = order([*flood, went("lone", "one", 1.5, 2.5)], 4)

    assert found["begun_before"] == 2
    assert found["rounds"] == 0.5
    assert found["started_within_s"] == 1.5


def test_what_is_done_in_time_under_three_times_the_load(tmp_path: Path) -> None:
    """Ten a second can be done, thirty come, and of those ten a second are done."""
    path = tmp_path / "over.toml"
    path.write_text(OVER)
    it, _ = scenario.read(str(path))
    first = [
        Went("big", "01-burst", f"f{n}", 0.0, None, n / 10, "done") for n in range(100)
    ]
    over = [
        Went("big", "02-burst", f"o{n}", 20 + n / 30, None, 20 + n / 10, "done")
        for n in range(100)
    ]
    over += [
        Went("big", "02-burst", f"o{n}", 20 + n / 30, None, 31.0, "failed")
        for n in range(100, 300)
    ]
    calm = Went("small", "01-burst", "s", 0.0, None, 1.0, "done")

    found = overload([*first, calm, *over], it, [])

    assert found["peak_per_s"] == pytest.approx(10, abs=0.3)
    assert found["offered_share"] == pytest.approx(3, abs=0.1)
    assert found["goodput_share"] == pytest.approx(1, abs=0.05)
    assert (found["others_missed"], found["overloaded_missed"]) == (0, 200)


def test_memory_grows_or_does_not() -> None:
    flat = [(float(t), 100.0) for t in range(9)]

    assert growth(flat) == 1.0
    assert growth([*flat[:6], *((t, 150.0) for t, _ in flat[6:])]) == 1.5
    assert growth([]) == 1.0


@pytest.mark.parametrize(
    ("bound", "kept"), [(">= 0.9", True), ("> 0.95", False), ("== 0.95", True)]
)
def test_bounds_of_a_scenario(bound: str, kept: bool) -> None:
    assert (broken({"jain": bound}, {"jain": 0.95}) == []) is kept
    assert broken({"jain": bound}, {}) == [f"jain None, must be {bound}"]
