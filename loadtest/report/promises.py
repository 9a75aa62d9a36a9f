"""
The verdict as a page tells it: promises by their number, kept, broken or not tried.

The numbers are those of docs/loadtest.md; each has a name of a few words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from loadtest.report.reading import Line

NAMES = {
    "I1": "Nothing is lost",
    "I2": "What was acknowledged stays",
    "I3": "Only legal moves",
    "I4": "One owner",
    "I5": "A replaced worker changes nothing",
    "I7": "An effect happens once",
    "I8": "No effect is lost",
    "I9": "What is written is written once",
    "I11": "Deadlines hold",
    "I12": "One decision",
    "I13": "Waiting costs nothing",
    "I14": "Everything is on record",
    "I16": "The wall between tenants",
    "I20": "Poison is contained",
    "I21": "The dead leave nothing behind",
    "I22": "Everything finishes",
    "I24": "The same file is one item",
    "I26": "One clock",
}


class Promise(NamedTuple):
    """One invariant, and the checks that speak of it."""

    number: str
    name: str
    lines: tuple[Line, ...]

    @property
    def broken(self) -> int:
        """Violations of all its checks."""
        return sum(line.violations for line in self.lines)

    @property
    def tried(self) -> bool:
        """Whether any of its checks had a row to look at."""
        return any(line.checked or line.violations for line in self.lines)


def promises(verdict: Sequence[Line]) -> list[Promise]:
    """By number; those that are broken first."""
    by_number: dict[str, list[Line]] = {}
    for line in verdict:
        by_number.setdefault(line.invariant, []).append(line)
    found = [Promise(n, NAMES.get(n, n), tuple(ls)) for n, ls in by_number.items()]
    return sorted(found, key=lambda p: (not p.broken, _place(p.number), p.number))


def _place(number: str) -> int:
    digits = "".join(c for c in number if c.isdigit())
    return int(digits) if digits else 0
