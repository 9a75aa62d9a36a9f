"""A person's word on calls stands where their hold asks for it."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.errors import Usage
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


ACCEPTS = {
    "type": "object",
    "additionalProperties": False,
    "required": ["to"],
    "properties": {
        "to": {"enum": ["s1", "s2"], "type": "string"},
        "amount": {"type": "integer"},
        "lines": {"items": {"$ref": "#/$defs/Line"}, "type": "array"},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    },
    "$defs": {"Line": {"properties": {"n": {"type": "integer"}}, "type": "object"}},
}


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ('{"amount": 1}', "to: it is missing"),
        ('{"to": "s1", "amount": "1"}', "amount: it is not a whole number"),
        ('{"to": "s1", "amount": true}', "amount: it is not a whole number"),
        ('{"to": "s9"}', "to: it is none of 2 that it may be"),
        ('{"to": "s1", "sum": 1}', "sum: there is no such argument"),
        ('{"to": "s1", "lines": [{"n": "x"}]}', "lines.n: it is not a whole number"),
        ('{"to": "s1", "note": 1}', "note: it is not a text"),
        ('{"to": "s1", "amount": 2, "lines": [{"n": 1}], "note": null}', ""),
    ],
)
def test_arguments_off_the_schema_are_refused_at_once(given: str, wrong: str) -> None:
    """By the argument that is wrong; what the hold does not tell is not refused."""
    call = {"call": "c1_1", "tool": "send", "digest": "d1"}
    told, silent = (
        SimpleNamespace(
            id=7, needs=["rulings"], shown={"evidence": {"calls": [call | more]}}
        )
        for more in ({"accepts": ACCEPTS}, {})
    )
    change = [f"c1_1={given}"]
    right = {"rulings": {"d1": {"verdict": "approve", "arguments": json.loads(given)}}}

    assert edits_of(silent, [], [], change) == right
    if not wrong:
        assert edits_of(told, [], [], change) == right
        return
    with pytest.raises(Usage, match=f"c1_1 do not fit send: {wrong}"):
        edits_of(told, [], [], change)
