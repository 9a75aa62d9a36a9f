"""What a sample says of what was missed, on populations whose truth is known."""

from __future__ import annotations

import random
from datetime import date

import pytest

from pipeline.store.moderated import ModeratedRow
from waybill.evals.exact import clopper_pearson
from waybill.evals.missed import Drawn, by_week, estimate

WEEK = date(2026, 11, 23)
RUNS = 400


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [
        # R: binom.test(hits, of)$conf.int
        (0, 10, 0.0, 0.3084971),
        (1, 10, 0.002528579, 0.4450161),
        (5, 100, 0.01643188, 0.1128349),
        (10, 10, 0.6915029, 1.0),
    ],
)
def test_the_interval_is_as_published(hits: int, of: int, low: float, high: float):
    """Clopper and Pearson's, to what R prints; of nothing everything may be."""
    assert clopper_pearson(hits, of) == pytest.approx((low, high), abs=1e-6)
    assert clopper_pearson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("share_read", [1.0, 0.6])
@pytest.mark.parametrize("missed", [0, 6, 60])
def test_the_truth_lies_in_the_interval_as_often_as_is_said(
    missed: int, share_read: float
):
    """
    3,000 letters that passed, those near a rule drawn three times as often and holding
    half of what was missed; sampled again and again, the truth is outside of the 95 %
    interval in no more than 5 % of the runs, but for chance, and the mean is the truth.
    """
    rng = random.Random(f"{missed}:{share_read}")
    letters = [(0.15 if n < 600 else 0.05) for n in range(3_000)]
    lost = {*range(missed // 2), *range(1_000, 1_000 + missed - missed // 2)}
    inside, numbers = 0, []
    for _ in range(RUNS):
        drawn = [
            Drawn(WEEK, odds, n in lost if rng.random() < share_read else None)
            for n, odds in enumerate(letters)
            if rng.random() < odds
        ]
        found = estimate(3_000, drawn)
        assert found is not None
        inside += found.low <= missed <= found.high
        numbers.append(found.number)

    assert inside >= RUNS * 0.95 - 3 * (RUNS * 0.95 * 0.05) ** 0.5
    assert sum(numbers) / RUNS == pytest.approx(missed, rel=0.25, abs=0.5)


def test_each_found_letter_stands_for_as_many_as_its_odds_say():
    """One of two weights, by hand: 20 of 20 x 3 + 4 x 5 weighed letters."""
    drawn = [Drawn(WEEK, 0.05, False)] * 2 + [Drawn(WEEK, 0.05, True)]
    drawn += [Drawn(WEEK, 0.25, False)] * 5

    found = estimate(80, drawn)

    assert found is not None
    assert found.number == pytest.approx(80 * 20 / 80)


def test_of_what_nobody_read_nothing_is_said():
    """Not that nothing was missed: no number, and no recall."""
    drawn = [Drawn(WEEK, 0.05, None)]

    said = by_week([ModeratedRow(WEEK, passed=40, held=3, right=2)], drawn)

    assert said["all"]["missed"] is said["all"]["recall"] is None
    assert (said["all"]["sampled"], said["all"]["read"]) == (1, 0)


def test_weeks_stand_beside_the_whole():
    """By week and in all: counts, what was missed, and what went out unseen."""
    later = date(2026, 11, 30)
    moderated = [
        ModeratedRow(WEEK, passed=100, held=6, right=4, undecided=1),
        ModeratedRow(later, passed=100, blocked=1, held=2, right=1),
    ]
    drawn = [Drawn(WEEK, 0.5, n == 0) for n in range(50)]
    drawn += [Drawn(later, 0.5, False) for _ in range(50)]

    said = by_week(moderated, drawn)

    first, second = said["weeks"]
    assert (first["week"], second["week"]) == ("2026-11-23", "2026-11-30")
    assert (first["found"], first["missed"]) == (1, 2.0)
    assert first["recall"] == pytest.approx(4 / 6, abs=1e-3)
    low, high = first["missed_interval"]
    assert low == 1
    assert first["unseen"] == [0, high - 1]
    assert said["all"]["passed"] == 200
    assert said["all"]["recall"] == pytest.approx(6 / 8, abs=1e-3)
    assert second["recall_interval"][0] < second["recall"] == 1.0
