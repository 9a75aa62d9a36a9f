"""
JSON schemas as models' vendors take them.

A vendor refuses the whole request for a word that it does not know, so such words are
left out, and said in the description.  Answers are validated here by the whole schema
all the same, and what does not fit is asked for again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Literal

Strictness = Literal["openai", "anthropic"]

# What strict structured output knows, of the vendors' guides.
_BOTH = frozenset({"type", "properties", "items", "enum", "anyOf", "description"})
_BOUNDS = frozenset(
    {"minItems", "maxItems", "multipleOf", "minimum", "maximum"}
    | {"exclusiveMinimum", "exclusiveMaximum"}
)
KNOWN: Mapping[Strictness, frozenset[str]] = {
    "openai": _BOTH | _BOUNDS | {"pattern", "format"},
    "anthropic": _BOTH | {"format"},
}
FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6"}
    | {"uuid"}
)
_SAID = _BOUNDS | {"minLength", "maxLength", "pattern", "format"}
# Looking around, behind and back: what no grammar of theirs can follow.
_WILD = re.compile(r"\(\?(?!:)|\\[1-9bB]")
_REF = "#/$defs/"


def strict(
    schema: Mapping[str, Any], vendor: Strictness
) -> tuple[dict[str, Any], bool]:
    """
    The schema for structured output, and True: the vendor may be held to it.

    Every object is closed and all of its fields are required: an optional field is one
    that may be null.  What cannot be said so, as free keys, tuples, and with Anthropic
    what contains itself, is as it was given, and False.
    """
    return _strict_of(json.dumps(schema), vendor)


@lru_cache(maxsize=1000)  # the same few schemas are sent with every ask
def _strict_of(text: str, vendor: Strictness) -> tuple[dict[str, Any], bool]:
    schema = json.loads(text)
    defs = schema.get("$defs", {})
    root = str(schema.get("$ref", "")).removeprefix(_REF)
    whole = {**schema, **defs.get(root, {})}
    if root:
        whole.pop("$ref")
    try:
        made = _closed(whole, vendor)
        if made.get("type") != "object" or (vendor == "anthropic" and _circles(defs)):
            raise _CannotBeHeld
        if defs:
            made["$defs"] = {name: _closed(one, vendor) for name, one in defs.items()}
    except _CannotBeHeld:
        return plain(schema), False
    return made, True


def plain(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema as it is, but for patterns that a vendor refuses also in a tool's."""

    def tamed(value: Any) -> Any:
        match value:
            case Mapping():
                return plain(value)
            case list():
                return [tamed(one) for one in value]
            case _:
                return value

    return {
        key: tamed(value)
        for key, value in schema.items()
        if not (key == "pattern" and _is_wild(value))
    }


class _CannotBeHeld(Exception):  # no error: it is told to whoever closes the schema
    """Strict output has no words for this schema."""


def _closed(schema: Mapping[str, Any], vendor: Strictness) -> dict[str, Any]:
    given = dict(schema)
    match given.pop("allOf", None):
        case None:
            pass
        case [Mapping() as only]:
            given = {**only, **given}
        case _:
            raise _CannotBeHeld
    if "$ref" in given:
        return {"$ref": given["$ref"]}  # neither takes anything beside it
    if "oneOf" in given:
        given["anyOf"] = given.pop("oneOf")
    if "const" in given:
        given["enum"] = [given.pop("const")]
    made: dict[str, Any] = {}
    for key, value in given.items():
        match key, value:
            case _ if not _is_known(key, value, vendor):
                continue
            case "properties", Mapping():
                made[key] = {name: _closed(one, vendor) for name, one in value.items()}
            case "anyOf", list():
                made[key] = [_closed(one, vendor) for one in value]
            case "items", Mapping():
                made[key] = _closed(value, vendor)
            case _:
                made[key] = value
    kind = made.get("type")
    if kind == "object" or "properties" in made:
        if "properties" not in made or given.get("additionalProperties", False):
            raise _CannotBeHeld  # keys of the model's own
        made |= {"additionalProperties": False, "required": list(made["properties"])}
    if not made.keys() & {"type", "enum", "anyOf"} or (
        kind == "array" and "items" not in made
    ):
        raise _CannotBeHeld  # anything at all, or a tuple
    return _described(made, given)


def _is_known(key: str, value: Any, vendor: Strictness) -> bool:
    if key == "format" and value not in FORMATS:
        return False
    return key in KNOWN[vendor] and not (key == "pattern" and _is_wild(value))


def _is_wild(pattern: Any) -> bool:
    return isinstance(pattern, str) and _WILD.search(pattern) is not None


def _described(made: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """With what was left out in words, so that the model knows it."""
    lost = {
        key: value
        for key, value in given.items()
        if key in _SAID and key not in made and not _is_wild(value)
    }
    if not lost:
        return made
    said = ", ".join(f"{key} {json.dumps(value)}" for key, value in lost.items())
    return made | {"description": f"{made.get('description', '')} ({said})".strip()}


def _circles(defs: Mapping[str, Any]) -> bool:
    """Whether a definition contains itself, by whatever way."""
    uses = {name: set(_references(one)) for name, one in defs.items()}
    while ends := [name for name, used in uses.items() if not used & uses.keys()]:
        for name in ends:
            del uses[name]
    return bool(uses)


def _references(value: Any) -> Iterator[str]:
    match value:
        case {"$ref": str(target)}:
            yield target.removeprefix(_REF)
        case Mapping():
            for one in value.values():
                yield from _references(one)
        case list():
            for one in value:
                yield from _references(one)
        case _:
            return
