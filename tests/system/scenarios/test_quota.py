"""Worker processes that share a vendor's rate, as `loadtest bench quota` has them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.system.command import ROOT


@pytest.mark.proof
def test_processes_share_a_rate_and_are_hardly_ever_refused() -> None:
    """A slice: too short for the figures that the whole one is held to."""
    command = [sys.executable, "-m", "loadtest", "bench", "quota", "--json"]
    sizes = ["--seconds", "10", "--processes", "2"]

    ran = subprocess.run([*command, *sizes], cwd=ROOT, capture_output=True, check=False)

    found = json.loads(ran.stdout)
    for name in ("minute", "second"):
        assert found[name]["utilisation"] >= 0.8
        assert found[name]["throttled_share"] <= 0.02
