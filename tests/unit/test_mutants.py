"""The list of seeded bugs: that it is alive.  Whether they are caught: `make proof`."""

from __future__ import annotations

import ast
from collections import Counter

import pytest

from loadtest.mutants.listed import ROOT, Mutant, listed

LIST = listed()


def test_there_are_enough() -> None:
    """Forty at least, of many parts of the engine, and no two that are the same."""
    assert len(LIST) >= 40
    assert len({m.file for m in LIST}) >= 15
    assert Counter((m.file, m.old, m.new) for m in LIST).most_common(1)[0][1] == 1


@pytest.mark.parametrize("mutant", LIST, ids=[m.name for m in LIST])
def test_a_seeded_bug_still_fits(mutant: Mutant) -> None:
    """Its text occurs once, what it makes of it is Python, and its test is there."""
    before = (ROOT / mutant.file).read_text(encoding="utf-8")
    after = mutant.applied(before)
    assert after != before
    if mutant.file.endswith(".py"):
        compile(after, mutant.file, "exec")

    path, name = mutant.test.split("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    assert name in [n.name for n in ast.walk(tree) if isinstance(n, functions)]
