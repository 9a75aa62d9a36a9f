"""The jail run: what is tried from inside comes to nothing."""

from __future__ import annotations

import sys

import pytest

from loadtest.scenarios import jail


@pytest.mark.skipif(sys.platform != "linux", reason="the jail is Linux's")
@pytest.mark.proof
def test_nobody_breaks_out_between_two_tenants() -> None:
    """One round of every attempt, with sizes just over what is allowed."""
    heard: list[str] = []

    result = jail.run(heard.append, rounds=1, gigabytes=2, files=20_000)

    assert heard[1:] == []
    assert result["attempts"] > 30
    assert (result["allowed"], result["seen_of_others"]) == (0, 0)
    assert result["left_behind"] == 0
    assert result["codes"]["fill"] == result["codes"]["scatter"] == "JAIL_SCRATCH"
