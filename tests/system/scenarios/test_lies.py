"""Bad answers to items of a real worker, as `loadtest run lies` has them: a slice."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.system.command import ROOT

KINDS = {
    "cut-gzip": "VENDOR_GARBAGE",
    "second-at-once": "done",
    "second-late": "done",
    "error-429": "THROTTLED",
    "quota-in-403": "QUOTA",
    "model-wrong-schema": "LLM_SCHEMA",
}


@pytest.mark.proof
def test_no_bad_answer_is_passed_on_and_no_worker_dies_of_one():
    """Each ends by its name; the true answer before a stranger's is taken."""
    chosen = [word for kind in KINDS for word in ("--only", kind)]
    command = [sys.executable, "-m", "loadtest", "run", "lies", "--json"]

    ran = subprocess.run(
        [*command, *chosen], cwd=ROOT, capture_output=True, check=False
    )

    found = json.loads(ran.stdout)
    assert found["outcomes"] == KINDS
    assert (found["passed_on"], found["worker_deaths"], found["items"]) == (0, 0, 12)
    assert ran.returncode == 0
