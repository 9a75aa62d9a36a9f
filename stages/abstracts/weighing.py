"""
What readers, checks and a person come to together, each time the supervisor looks.

Pure: the same findings and the same answers give the same result, so a supervisor
that runs again, after a crash or after a lawyer's answer, comes where it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from stages.abstracts.answers import accepted, answered, fault, read
from stages.abstracts.checks import checks
from stages.abstracts.doubts import Doubt, doubts_of
from stages.abstracts.forms import Check, Clause, Structure


class Weighed(NamedTuple):
    """
    A contract as it stands now.

    Attributes:
        doubts: What a person must rule on.
        refused: Answers that cannot be taken, by type or check, and why.
    """

    clauses: dict[str, Clause]
    checks: list[Check]
    doubts: list[Doubt]
    refused: dict[str, str]


def weighed(
    structure: Structure,
    found: Mapping[str, Clause],
    rulings: Mapping[str, Any],
    text: str,
    below: float,
) -> Weighed:
    """
    Take a person's answers, and hold the clauses against each other.

    Args:
        found: By type, what readers found; a type that nobody could read is missing.
        rulings: What a person said, by type or check; anything may stand there.
        below: Confidence under which a verdict is doubtful.
    """
    clauses = dict(found)
    names = [check.name for check in checks(clauses, text, structure.sections)]
    given, refused = read(rulings)
    for name, answer in given.items():
        kind = structure.kinds.get(name, "none")
        if why := fault(name, answer, clauses, names, kind, text):
            refused[name] = why
        elif name in clauses:
            clauses[name] = answered(clauses[name], answer, kind, text)
    taken = {name: one for name, one in given.items() if name not in refused}
    made = accepted(checks(clauses, text, structure.sections), taken)
    doubts = doubts_of(clauses, structure.types, made, taken, below)
    # A refused answer of a type that nobody doubts is asked for again, not forgotten.
    asked = {doubt.name for doubt in doubts}
    doubts += [
        Doubt(name, f"the answer was refused: {why}")
        for name, why in refused.items()
        if name in clauses and name not in asked
    ]
    return Weighed(clauses, made, doubts, refused)
