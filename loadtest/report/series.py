"""
Sampled series as they are drawn: rates of what is counted up, on a common time.

A chart is some hundred points wide: more would be a larger page and the same picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from loadtest.report.reading import Fault, Series

POINTS = 160
RATE_S_MIN = 2.0  # a rate over less is noise of the sampling

Numbers = NDArray[np.float64]


def grid(seconds: float) -> Numbers:
    """The moments at which everything of a run is drawn."""
    return np.linspace(0.0, seconds, POINTS)


def level(series: Series, at: Numbers) -> Numbers:
    """What stood there at these moments; nan before the first sample."""
    t, v = _sorted(series)
    place = np.searchsorted(t, at, side="right") - 1
    values = np.where(place >= 0, v[np.clip(place, 0, None)], np.nan)
    return np.asarray(values, dtype=np.float64)


def rate(series: Series, at: Numbers) -> Numbers:
    """How much was counted a second, about these moments."""
    t, v = _sorted(series)
    width = max(RATE_S_MIN, float(at[-1]) / 60)
    begin, end = np.maximum(at - width / 2, 0.0), np.minimum(at + width / 2, at[-1])
    counted = np.interp(end, t, v, left=0.0) - np.interp(begin, t, v, left=0.0)
    found = np.maximum(counted, 0.0) / np.maximum(end - begin, 1e-9)
    return np.asarray(found, dtype=np.float64)


def _sorted(series: Series) -> tuple[Numbers, Numbers]:
    t, v = np.asarray(series[0], dtype=float), np.asarray(series[1], dtype=float)
    order = np.argsort(t, kind="stable")
    return t[order], v[order]


def largest(
    of: Mapping[str, Series], most: int, *, first: Sequence[str] = ()
) -> list[str]:
    """The labels worth a colour: those named first, then by their highest value."""
    named = [label for label in first if label in of]
    rest = sorted(set(of) - set(named), key=lambda k: (-max(of[k][1], default=0), k))
    return [*named, *rest][:most]


def median(values: Iterable[float]) -> float:
    """The middle one; 0 without any."""
    found = sorted(values)
    return float(np.median(found)) if found else 0.0


def by_kind(faults: Iterable[Fault]) -> dict[str, list[Fault]]:
    """Faults by what was done, in the order of their first time."""
    kinds: dict[str, list[Fault]] = {}
    for fault in sorted(faults):
        kinds.setdefault(fault.kind, []).append(fault)
    return kinds
