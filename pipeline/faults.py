"""
Faults: everything that is wrong with a configuration, told at once.

Whoever reads one goes on after a fault, as far as what comes next can be read without
what was wrong, and raises at the end: the first fault, with the others beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pipeline.errors import Usage, WaybillError


class Faults:
    """What was found so far, in the order in which it was."""

    def __init__(self) -> None:
        self.found: list[Usage] = []

    def __repr__(self) -> str:
        return f"<Faults: {len(self.found)}>"

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """A fault in here is noted, with those beside it; what follows here is not."""
        try:
            yield
        except Usage as error:
            self.found += faults_of(error)

    def end(self) -> None:
        """
        That there was none.

        Raises:
            Usage: the first one; `faults_of` it are all.
        """
        if self.found:
            raise together(self.found)


def together(faults: Sequence[Usage]) -> Usage:
    """The first of `faults`, with the others beside it; there is one at least."""
    first, *others = faults
    first.beside = tuple(others)
    return first


def faults_of(error: WaybillError) -> list[Usage]:
    """What is wrong, one after another: of an error that is one of several, all."""
    if not isinstance(error, Usage):
        return [Usage(error.message, code=error.code, hint=error.hint)]
    return [error, *error.beside]
