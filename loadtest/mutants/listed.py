"""
The list: `*.toml` beside this file, a table a seeded bug.

    [NAME]            # dashes between words: it is a name for --only
    file = '…'        # of the service
    old = '…'         # occurs there once
    new = '…'
    breaks = '…'      # the promise, by its number where it has one
    test = '…'        # file::function, which must fail
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


class Mutant(NamedTuple):
    """One seeded bug."""

    name: str
    file: str
    old: str
    new: str
    breaks: str
    test: str

    def applied(self, text: str) -> str:
        """`text` of its file with the bug in it; ValueError when it does not fit."""
        times = text.count(self.old)
        if times != 1:
            raise ValueError(
                f"{self.name}: its text occurs {times} times in {self.file}"
            )
        return text.replace(self.old, self.new)


def listed() -> list[Mutant]:
    """Every seeded bug, in the order of the files and of their tables."""
    found = []
    for path in sorted(HERE.glob("*.toml")):
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        found += [Mutant(name, **table) for name, table in tables.items()]
    return found
