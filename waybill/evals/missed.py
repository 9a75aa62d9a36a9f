"""
What moderation missed, as far as people who read a sample of what passed can tell.

A letter that passed and should have been held is *missed*.  Of the letters that were
drawn by lot and read, each stands for as many as its odds say: one drawn at 5 % for
twenty.  Letters that were drawn and that nobody read are stood for by those that were
read of the same odds.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any, NamedTuple

from pipeline.store.moderated import ModeratedRow
from waybill.evals.exact import clopper_pearson
from waybill.evals.scoring import rounded


class Drawn(NamedTuple):
    """
    A letter that passed and was drawn.

    Attributes:
        odds: The chance at which it was, above 0.
        missed: Whether it should have been held; None: nobody has read it.
    """

    week: date
    odds: float
    missed: bool | None


class Missed(NamedTuple):
    """An estimate: of the letters that passed, how many should have been held."""

    number: float
    low: float
    high: float


def estimate(passed: int, drawn: Sequence[Drawn]) -> Missed | None:
    """
    How many of `passed` letters should have been held, with its 95 % interval; None
    when nobody has read one.

    The rate is that of the letters read, each weighed by the inverse of its odds
    (Hájek 1971).  Its interval is Clopper and Pearson's of the effective number of
    letters read, (sum w)² / sum w² (Kish, "Survey Sampling", 1965), as Korn and
    Graubard propose for rates near nothing ("Confidence intervals for proportions with
    small expected number of positive counts estimated from survey data", Survey
    Methodology 24, 1998).  It is never below what was found.
    """
    all_of, read_of = Counter[float](), Counter[float]()
    for one in drawn:
        all_of[one.odds] += 1
        read_of[one.odds] += one.missed is not None
    read = [(one.missed, one.odds) for one in drawn if one.missed is not None]
    if not read:
        return None
    weights = [all_of[odds] / read_of[odds] / odds for _, odds in read]
    total = math.fsum(weights)
    hit = math.fsum(w for w, (missed, _) in zip(weights, read, strict=True) if missed)
    worth = total**2 / math.fsum(w * w for w in weights)
    found = sum(missed for missed, _ in read)
    rate = hit / total
    low, high = clopper_pearson(rate * worth, worth)
    return Missed(
        max(rate * passed, found), max(low * passed, found), max(high * passed, found)
    )


def by_week(
    moderated: Iterable[ModeratedRow], drawn: Sequence[Drawn]
) -> dict[str, Any]:
    """
    The figures of each week and of all, as data.

    `recall` is the share that was held, of what should have been: of the held, what a
    rule ended and what a person did not simply let go on.  `unseen` is how many of the
    missed went out with nobody having found them, at least and at most.
    """
    weeks: dict[date, ModeratedRow] = {row.week: row for row in moderated}
    of: dict[date, list[Drawn]] = defaultdict(list)
    for one in drawn:
        of[one.week].append(one)
        weeks.setdefault(one.week, ModeratedRow(one.week))
    rows = [weeks[week] for week in sorted(weeks)]
    whole = [sum(column) for column in zip(*(row[1:] for row in rows), strict=True)]
    everything = ModeratedRow(
        date.min, *(whole or [0] * (len(ModeratedRow._fields) - 1))
    )
    return {
        "weeks": [
            {"week": row.week.isoformat(), **_figures(row, of[row.week])}
            for row in rows
        ],
        "all": _figures(everything, drawn),
    }


def _figures(row: ModeratedRow, drawn: Sequence[Drawn]) -> dict[str, Any]:
    read = [one.missed for one in drawn if one.missed is not None]
    counts = {name: n for name, n in row._asdict().items() if name != "week"}
    found, caught = sum(read), row.right + row.blocked
    missed = estimate(row.passed, drawn)
    if missed is None and row.passed == 0:
        missed = Missed(0.0, 0.0, 0.0)
    return {
        **counts,
        "sampled": len(drawn),
        "read": len(read),
        "found": found,
        "missed": None if missed is None else round(missed.number, 1),
        "missed_interval": None if missed is None else _whole(missed),
        "unseen": None if missed is None else [n - found for n in _whole(missed)],
        **_recall(caught, missed),
    }


def _whole(missed: Missed) -> list[int]:
    """Whole letters, outward."""
    return [math.floor(missed.low + 1e-9), math.ceil(missed.high - 1e-9)]


def _recall(caught: int, missed: Missed | None) -> dict[str, Any]:
    """None where nothing is known; of nothing to be held there is none."""
    if missed is None:
        return {"recall": None, "recall_interval": None}
    ends = [_share(caught, missed.high), _share(caught, missed.low)]
    known = None not in ends
    return {
        "recall": rounded(_share(caught, missed.number)),
        "recall_interval": [rounded(end) for end in ends] if known else None,
    }


def _share(caught: int, missed: float) -> float | None:
    return caught / (caught + missed) if caught + missed else None
