"""A person's word on calls stands where their hold asks for it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from waybill.commands.rulings import edits_of


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("rulings", {"rulings": {"d1": {"verdict": "approve"}}}),
        ("rulings.term", {"rulings": {"term": {"d1": {"verdict": "approve"}}}}),
    ],
)
def test_a_ruling_stands_in_the_channel_or_under_the_key_in_it(
    asked: str, given: Any
) -> None:
    """Of two conversations of one stage each has a key of its own."""
    shown = {"evidence": {"calls": [{"call": "c1_1", "digest": "d1"}]}}
    hold: Any = SimpleNamespace(id=7, needs=[asked], shown=shown)

    assert edits_of(hold, ["all"], [], []) == given
