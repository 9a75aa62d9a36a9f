"""
Comparing: a result against an earlier one or another pipeline's, rate by rate.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import Usage

UP = ("precision", "recall", "f1", "exact_quote", "values_right", "agreement")
DOWN = ("wrong", "fabricated", "wrongly_absent", "unclear", "held", "failed")
# In shares of what the base took.  Seconds have a margin of their own: they are those
# of a machine that may have been busy with something else.
COST, SECONDS = "cost_per_item", "seconds_per_item"
SLOWER = 2.0  # three times as long; measured: a loaded machine took twice as long
RESULT_BYTES_MAX = 64 << 20


class Difference(NamedTuple):
    """
    A rate of a type (or of `all`) now, and in the base.

    `worse` says that it is so by more than the margin; `within_interval` that the base
    might have come out so too, by the interval of 95 % of its own cases.
    """

    type: str
    rate: str
    now: float
    base: float
    worse: bool
    within_interval: bool | None = None


def read_result(path: Path) -> dict[str, Any]:
    """
    A result that `waybill eval --json` printed, or that lies in the home.  Blocking.

    Raises:
        Usage: BAD_BASE.
    """
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(RESULT_BYTES_MAX))
        if all(isinstance(found[name], dict) for name in ("all", "types")):
            return dict(found)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    raise Usage(
        f"{path} is no result to compare with",
        code="BAD_BASE",
        hint="name a pipeline, or what `waybill eval … --json` has printed",
    )


def compared(
    now: Mapping[str, Any],
    base: Mapping[str, Any],
    margin: float,
    slower: float = SLOWER,
) -> list[Difference]:
    """Every rate that both have; `slower` is the margin of seconds."""
    found = [*_rates("all", now["all"], base["all"], margin)]
    found += _efforts(now["all"], base["all"], margin, slower)
    for type_, rates in now["types"].items():
        if type_ in base["types"]:
            found += _rates(type_, rates, base["types"][type_], margin)
    return found


def _rates(
    type_: str, now: Mapping[str, Any], base: Mapping[str, Any], margin: float
) -> Iterator[Difference]:
    intervals = base.get("intervals", {})
    for name in (*UP, *DOWN):
        a, b = now.get(name), base.get(name)
        if a is None or b is None:
            continue
        lost = b - a if name in UP else a - b
        ends = intervals.get(name)
        within = ends[0] <= a <= ends[1] if ends else None
        # As printed, to four places: a margin of 0.02 allows 0.98 where 1 was.
        yield Difference(type_, name, a, b, round(lost, 4) > margin, within)


def _efforts(
    now: Mapping[str, Any], base: Mapping[str, Any], margin: float, slower: float
) -> Iterator[Difference]:
    was = base.get(COST, {})
    for currency in sorted({*now.get(COST, {}), *was}):
        a, b = now.get(COST, {}).get(currency, 0.0), was.get(currency, 0.0)
        worse = a > b * (1 + margin)
        yield Difference("all", f"{COST} ({currency})", a, b, worse)
    a, b = now.get(SECONDS), base.get(SECONDS)
    if a is not None and b is not None:
        worse = a > b * (1 + slower)
        yield Difference("all", SECONDS, a, b, worse)
