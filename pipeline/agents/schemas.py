"""
JSON schemas as models' vendors take them.

What a vendor does not know is left out; answers are validated here by the whole schema
all the same, and what does not fit is asked for again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

# What strict structured output knows, of OpenAI's guide; the rest makes it a refusal.
KNOWN = frozenset(
    {"type", "properties", "required", "items", "enum", "anyOf", "$ref", "$defs"}
    | {"description", "pattern", "format", "minItems", "maxItems", "multipleOf"}
    | {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
    | {"additionalProperties"}
)


def strict(schema: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """
    The schema for structured output, and whether the vendor may be held to it.

    Every object is closed and all of its fields are required: an optional field is one
    that may be null.  A mapping with free keys cannot be said so.
    """
    return _strict_of(json.dumps(schema))


@lru_cache(maxsize=1000)
def _strict_of(text: str) -> tuple[dict[str, Any], bool]:
    held = [True]
    return _strict(json.loads(text), held), held[0]


def _strict(schema: Mapping[str, Any], held: list[bool]) -> dict[str, Any]:
    given = dict(schema)
    if "$ref" in given:
        return {"$ref": given["$ref"]} | _definitions(given, held)
    if "oneOf" in given:
        given["anyOf"] = given.pop("oneOf")
    if "allOf" in given and len(given["allOf"]) == 1:
        given = {**given.pop("allOf")[0], **given}
    if "const" in given:
        given["enum"] = [given.pop("const")]
    made: dict[str, Any] = {}
    for key, value in given.items():
        if key not in KNOWN or key in ("$defs", "additionalProperties", "required"):
            continue
        match key, value:
            case "properties", Mapping():
                made[key] = {name: _strict(one, held) for name, one in value.items()}
            case "anyOf", list():
                made[key] = [_strict(one, held) for one in value]
            case "items", Mapping():
                made[key] = _strict(value, held)
            case _:
                made[key] = value
    if made.get("type") == "object" or "properties" in made:
        free = given.get("additionalProperties")
        if "properties" not in made or isinstance(free, Mapping) or free is True:
            held[0] = False
        if free is None or free is False:
            made["additionalProperties"] = False
            made["required"] = list(made.get("properties", ()))
        else:
            made["additionalProperties"] = (
                _strict(free, held) if isinstance(free, Mapping) else free
            )
            made["required"] = list(given.get("required", ()))
    if not made or made.keys() == {"description"}:
        held[0] = False  # anything at all
    return made | _definitions(given, held)


def _definitions(schema: Mapping[str, Any], held: list[bool]) -> dict[str, Any]:
    found = schema.get("$defs")
    if not isinstance(found, Mapping):
        return {}
    return {"$defs": {name: _strict(one, held) for name, one in found.items()}}
