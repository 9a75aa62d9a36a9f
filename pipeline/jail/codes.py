"""
Codes: every word that a jailed call can end with, classified once.

Whoever must act on such a word asks this table and holds no list of its own: the
program in the jail (may it have been memory?), admission (is the file to blame?), a
stage that reads on after a bad page.

The engine knows the jail's own rows.  Whoever has functions that run jailed adds
theirs (`stages/reading/codes.py`), and the composition root hands the whole to all
who ask.  A code that no row names, a custom stage's, is believed and blamed on nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Cause(StrEnum):
    """Who must change something so that it does not happen again."""

    DOCUMENT = "document"  # what was read; another one will do well
    MACHINE = "machine"  # what is installed, free or starting here
    CALLER = "caller"  # who wrote the call, the function or its settings


class End(StrEnum):
    """How a call ended that has no result."""

    UNBEGUN = "unbegun"  # the function never ran
    REFUSED = "refused"  # it looked, and said no
    OVERRAN = "overran"  # it took more than its time
    STARVED = "starved"  # it took more than its memory
    BROKE = "broke"  # it, or a program it started, crashed or made no sense


@dataclass(frozen=True, slots=True)
class Code:
    """
    One row.

    Attributes:
        memory: Of a program that a function started and that died: it may have been
            for want of memory, which it could not tell.
    """

    name: str
    cause: Cause
    end: End
    memory: bool = False


Codes = Mapping[str, Code]


def table(*rows: Code) -> Codes:
    """The rows by their names, each of which stands once."""
    codes = {row.name: row for row in rows}
    assert len(codes) == len(rows), "a code is classified twice"
    return MappingProxyType(codes)


JAIL = table(
    Code("JAIL_NOT_ALLOWED", Cause.CALLER, End.UNBEGUN),
    Code("NO_SUCH_POOL", Cause.CALLER, End.UNBEGUN),
    Code("JAIL_START", Cause.MACHINE, End.UNBEGUN),
    Code("JAIL_CLOSED", Cause.MACHINE, End.UNBEGUN),
    Code("JAIL_TIMEOUT", Cause.DOCUMENT, End.OVERRAN),
    Code("MEMORY_LIMIT", Cause.DOCUMENT, End.STARVED),
    Code("JAIL_CRASHED", Cause.DOCUMENT, End.BROKE),
    Code("JAIL_SCRATCH", Cause.DOCUMENT, End.BROKE),
    Code("JAIL_OUTPUT", Cause.DOCUMENT, End.BROKE),
    Code("JAIL_ANSWER", Cause.DOCUMENT, End.BROKE),
    Code("JAIL_ERROR", Cause.CALLER, End.BROKE),
)
