"""
The exact interval of a rate, for few hits of many.
"""

from __future__ import annotations

import math
from collections.abc import Callable

CONFIDENCE = 0.95
_STEPS = 60  # of halving: further than a float goes
_TERMS = 300
_TINY = 1e-300


def clopper_pearson(
    hits: float, of: float, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """
    The interval in which a rate lies of which `hits` were seen in `of` trials.

    It covers the rate at least as often as it says, also when next to nothing was
    seen, where Wilson's does not (Clopper & Pearson, "The use of confidence or
    fiducial limits illustrated in the case of the binomial", Biometrika 26, 1934).
    Neither need be whole: a weighted sample counts as so many as it is worth.  Of no
    trials it is (0, 1).
    """
    if of <= 0:
        return 0.0, 1.0
    hits = min(max(hits, 0.0), of)
    tail, misses = (1 - confidence) / 2, of - hits
    low = high = 0.0
    if hits > 0:
        low = _solved(lambda p: _beta(p, hits, misses + 1), tail)
    if misses > 0:
        high = _solved(lambda p: _beta(p, hits + 1, misses), 1 - tail)
    return low, high if misses > 0 else 1.0


def _solved(rises: Callable[[float], float], to: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if rises(middle) < to else (low, middle)
    return (low + high) / 2


def _beta(x: float, a: float, b: float) -> float:
    """
    The regularised incomplete beta function, by its continued fraction (Abramowitz &
    Stegun 26.5.8, as Lentz evaluates it).
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    front = math.exp(
        math.lgamma(a + b)
        - math.lgamma(a)
        - math.lgamma(b)
        + a * math.log(x)
        + b * math.log1p(-x)
    )
    if x >= (a + 1) / (a + b + 2):  # there the other end converges
        return 1 - front * _fraction(1 - x, b, a) / b
    return front * _fraction(x, a, b) / a


def _fraction(x: float, a: float, b: float) -> float:
    c, d = 1.0, 1.0 / _far(1 - (a + b) * x / (a + 1))
    h = d
    for m in range(1, _TERMS):
        up = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        down = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (up, down):
            d = 1 / _far(1 + term * d)
            c = _far(1 + term / c)
            h *= d * c
        if abs(d * c - 1) < 1e-14:
            break
    return h


def _far(value: float) -> float:
    """From zero: it is divided by."""
    return value if abs(value) > _TINY else _TINY
