"""
What is surely wrong with arguments, by the schema that their tool has shown.

For a person who changes them, who is told at once.  What a schema does not say, such as
whether a text is a date that there is, is looked at when the call is vetted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEPTH_MAX = 20  # a schema that refers to itself
_KINDS: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int, float),  # 3.0 is perhaps a whole number
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_CALLED = {"object": "an object", "array": "a list", "string": "a text"} | {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}


def unfit(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> str:
    """
    Which argument cannot be, and why: `amount: it is no whole number`; "" where none.

    No value is repeated.
    """
    return _wrong(dict(schema), dict(arguments), dict(schema), "", 0)


def _wrong(
    schema: Any, value: Any, root: Mapping[str, Any], at: str, depth: int
) -> str:
    if not isinstance(schema, dict) or depth > DEPTH_MAX:
        return ""
    if isinstance(ref := schema.get("$ref"), str):
        found = root.get("$defs", {}).get(ref.rpartition("/")[2])
        return _wrong(found, value, root, at, depth + 1)
    if others := schema.get("anyOf"):
        said = [_wrong(one, value, root, at, depth + 1) for one in others]
        return "" if "" in said else said[0]
    if "enum" in schema and value not in schema["enum"]:
        return f"{at}: it is none of {len(schema['enum'])} that it may be"
    kind = schema.get("type")
    if isinstance(kind, str) and kind in _KINDS and not _is(value, kind):
        return f"{at}: it is not {_CALLED[kind]}"
    if isinstance(value, dict):
        return _of_object(schema, value, root, at, depth)
    if isinstance(value, list):
        each = (_wrong(schema.get("items"), v, root, at, depth + 1) for v in value)
        return next(filter(None, each), "")
    return ""


def _of_object(
    schema: Mapping[str, Any],
    value: Mapping[str, Any],
    root: Mapping[str, Any],
    at: str,
    depth: int,
) -> str:
    fields = schema.get("properties", {})
    within = f"{at}." if at else ""
    for name in schema.get("required", ()):
        if name not in value:
            return f"{within}{name}: it is missing"
    for name, one in value.items():
        if name not in fields and schema.get("additionalProperties") is False:
            return f"{within}{name}: there is no such argument"
        place = f"{within}{name}"
        if said := _wrong(fields.get(name), one, root, place, depth + 1):
            return said
    return ""


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _KINDS[kind])
