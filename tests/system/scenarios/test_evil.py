"""Stages that harm their worker, as `loadtest run evil` has them: a slice of it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.system.command import ROOT


@pytest.mark.proof
@pytest.mark.parametrize(
    "kinds",
    [
        ("computes",),
        ("sleeps-in-a-task", "crashes"),
        ("swallows", "outgrows", "leaves-threads", "leaks-descriptors"),
    ],
    ids=["computes", "blocks", "leaks"],
)
def test_each_kind_of_evil_is_named_and_its_neighbours_are_done(kinds: tuple[str, ...]):
    """With a single worker, which they share."""
    chosen = [word for kind in kinds for word in ("--kind", kind)]
    command = [sys.executable, "-m", "loadtest", "run", "evil", "--json"]
    sizes = ["--good", "30", "--processes", "1", "--every-s", "1"]

    ran = subprocess.run(
        [*command, *sizes, *chosen], cwd=ROOT, capture_output=True, check=False
    )

    found = json.loads(ran.stdout)
    assert found["good_done"] == 30
    assert found["evil_named"] == len(kinds)
    assert found["innocents_charged"] == found["crash_loops"] == 0
