"""
What a check is, and what one finds.

A check belongs to an invariant of the promise sheet, by its number there (`I5`).  It
says what it looks at, how many rows that were, and which of them break it: ids only,
for what stands in documents and names is nobody's business here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

EXAMPLES_MAX = 10


@dataclass(frozen=True)
class Check:
    """
    One line of the verdict.

    `name` is its own; `during` says that it holds at every moment, also in the midst
    of faults.  The others are true once everything has ended.
    """

    name: str
    invariant: str
    says: str
    during: bool


class Found(NamedTuple):
    """What one look found: rows looked at, rows that break it, some of these."""

    checked: int
    violations: int
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Query:
    """
    A check that is one statement.

    `of` counts the rows looked at; `bad` selects a text `example` for each that breaks
    it.
    """

    check: Check
    of: str
    bad: str

    @property
    def sql(self) -> str:
        """One row: checked, violations, examples."""
        return f"""
            with bad as materialized ({self.bad})
            select (select count(*) from ({self.of}) counted) as checked,
                   (select count(*) from bad) as violations,
                   array(select example::text from bad limit {EXAMPLES_MAX}) as examples
        """


def found(checked: int, bad: Iterable[str]) -> Found:
    """Of so many rows, those that break it."""
    broken = list(bad)
    return Found(checked, len(broken), tuple(broken[:EXAMPLES_MAX]))
