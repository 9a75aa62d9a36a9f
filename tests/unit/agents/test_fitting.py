"""Arguments that a person puts in, by the schema of their tool: as pydantic says."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.agents.fitting import unfit


class Line(BaseModel):
    count: Annotated[int, Field(ge=1, le=99)] = 1


class Order(BaseModel):
    """Every bound that a schema of ours may have."""

    model_config = ConfigDict(extra="forbid", strict=True)

    room: Annotated[str, Field(min_length=2, max_length=20)] = "hall"
    code: Annotated[str, Field(pattern=r"^[A-Z]{2}-[0-9]+$")] = "AB-1"
    amount: Annotated[int, Field(ge=0, le=1000)] = 0
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    dozens: Annotated[int, Field(multiple_of=12)] = 12
    lines: Annotated[list[Line], Field(min_length=1, max_length=2)] = [Line()]
    kind: Literal["one"] = "one"
    prices: dict[str, Annotated[int, Field(le=5)]] = {}
    pair: tuple[int, Annotated[str, Field(max_length=1)]] = (1, "a")
    note: Annotated[str, Field(max_length=3)] | None = None


SCHEMA = Order.model_json_schema()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, ""),
        ({"room": "a" * 20, "amount": 1000, "share": 0.999}, ""),
        ({"room": "a" * 21}, "room: it has 21 characters"),
        ({"room": "a"}, "room: it has 1 characters, and at least 2"),
        ({"code": "AB-12"}, ""),
        ({"code": "ab-12"}, "code: it is not of the form"),
        ({"amount": -1}, "amount: it is less than 0"),
        ({"amount": 1001}, "amount: it is more than 1000"),
        ({"amount": 10**400}, "amount: it is more than 1000"),
        ({"share": 0.0}, "share: it is not more than 0"),
        ({"share": 1.0}, "share: it is not less than 1"),
        ({"dozens": 24}, ""),
        ({"dozens": 25}, "dozens: it is no multiple of 12"),
        ({"lines": []}, "lines: it has 0 items"),
        ({"lines": [{}, {}, {}]}, "lines: it has 3 items"),
        ({"lines": [{"count": 100}]}, "lines.count: it is more than 99"),
        ({"kind": "two"}, "kind: it is not the one"),
        ({"prices": {"a": 5}}, ""),
        ({"prices": {"a": 6}}, "prices.a: it is more than 5"),
        ({"pair": [1, "ab"]}, "pair: it has 2 characters, and 1 at the most"),
        ({"pair": [1]}, "pair: it has 1 items, and at least 2"),
        ({"note": None}, ""),
        ({"note": "abcd"}, "note: it has 4 characters"),
        ({"share": 0.1 * 3}, ""),
        ({"nothing": 1}, "nothing: there is no such argument"),
    ],
)
def test_what_is_off_its_bounds_is_told(given: dict[str, Any], says: str) -> None:
    """And nothing else: what pydantic takes is taken."""
    said = unfit(SCHEMA, given)

    assert said.startswith(says) if says else said == ""
    assert (said == "") == fits(given)


def fits(given: dict[str, Any]) -> bool:
    try:
        Order.model_validate_json(json.dumps(given))
    except (ValidationError, ValueError):
        return False
    return True


@pytest.mark.parametrize(
    ("bounds", "value", "wrong"),
    [
        ({"multipleOf": 0.1}, 0.1 * 3, False),
        ({"multipleOf": 0.1}, 0.25, True),
        ({"maximum": 2**53 + 1}, 2**53 + 1, False),
        ({"maximum": 10**400}, 1.5, False),
        ({"minimum": 10**400}, 1.5, True),
        ({"multipleOf": 0.5}, 10**400, False),
    ],
)
def test_numbers_beyond_a_float_are_held_against_bounds(
    bounds: dict[str, Any], value: float, wrong: bool
) -> None:
    assert bool(unfit({"properties": {"a": bounds}}, {"a": value})) is wrong


def test_a_form_that_python_cannot_read_is_left_to_the_vetting() -> None:
    schema = {"properties": {"a": {"type": "string", "pattern": r"\p{Lu}("}}}

    assert unfit(schema, {"a": "x"}) == ""
