"""Comparing of results: what is worse by more than the margin, and what is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import Usage
from waybill.evals.comparing import compared, read_result


def result(
    cost: float = 0.0, seconds: float = 1.0, held: float = 0.0, **law: float | None
) -> dict[str, Any]:
    rates = {"precision": 0.9, "fabricated": 0.02, **law}
    intervals = {"precision": [0.8, 0.97]}
    effort = {"cost_per_item": {"USD": cost} if cost else {}, "held": held}
    return {
        "all": {"precision": 0.9, "seconds_per_item": seconds, **effort},
        "types": {"law": {**rates, "intervals": intervals}},
    }


def worse(now: dict[str, Any], base: dict[str, Any], margin: float = 0.02) -> Any:
    return [(d.type, d.rate) for d in compared(now, base, margin) if d.worse]


def test_the_same_is_no_regression() -> None:
    """And what has become better is none; what only one has is not compared."""
    assert worse(result(), result()) == []
    assert worse(result(precision=1.0, fabricated=0.0), result()) == []
    assert worse(result(precision=None), result()) == []
    other = result()
    other["types"]["parties"] = {"precision": 1.0}
    assert worse(result(), other) == []


def test_a_rate_is_worse_by_more_than_the_margin() -> None:
    """Down where more is better, up where less is."""
    assert worse(result(precision=0.88), result()) == []
    assert worse(result(precision=0.879), result()) == [("law", "precision")]
    assert worse(result(precision=0.85), result(), margin=0.1) == []
    assert worse(result(fabricated=0.05), result()) == [("law", "fabricated")]
    assert worse(result(held=0.5), result()) == [("all", "held")]


def test_cost_and_seconds_are_compared_by_share() -> None:
    """Seconds with a margin of their own: a machine may be busy with others."""
    assert worse(result(cost=1.02), result(cost=1.0)) == []
    assert worse(result(cost=1.03), result(cost=1.0)) == [
        ("all", "cost_per_item (USD)")
    ]
    assert worse(result(cost=0.1), result()) == [("all", "cost_per_item (USD)")]
    assert worse(result(), result(cost=1.0)) == []
    assert worse(result(seconds=3.0), result()) == []
    assert worse(result(seconds=3.1), result()) == [("all", "seconds_per_item")]
    tight = [d for d in compared(result(seconds=1.2), result(), 0.02, 0.1) if d.worse]
    assert [d.rate for d in tight] == ["seconds_per_item"]


def test_what_the_base_might_have_been_is_said() -> None:
    """By the interval of its own cases."""
    [one] = [d for d in compared(result(precision=0.85), result(), 0.0) if d.worse]
    [two] = [d for d in compared(result(precision=0.7), result(), 0.0) if d.worse]

    assert (one.within_interval, two.within_interval) == (True, False)


def test_only_a_result_is_compared_with(tmp_path: Path) -> None:
    """Whatever else lies there is refused."""
    file = tmp_path / "base.json"
    file.write_text(json.dumps(result()))
    assert read_result(file) == result()
    for text in ("", "[]", '{"all": {}}', '{"all": 1, "types": 2}', "\xff"):
        file.write_text(text, encoding="latin-1")
        with pytest.raises(Usage, match="no result"):
            read_result(file)
    with pytest.raises(Usage, match="no result"):
        read_result(tmp_path / "none.json")
