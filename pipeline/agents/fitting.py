"""
What is surely wrong with arguments, by the schema that their tool has shown.

For a person who changes them, who is told at once.  What a schema does not say, such as
whether a text is a date that there is, is looked at when the call is vetted.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterator, Mapping
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
_BOUNDS = (
    ("minimum", operator.ge, "it is less than"),
    ("maximum", operator.le, "it is more than"),
    ("exclusiveMinimum", operator.gt, "it is not more than"),
    ("exclusiveMaximum", operator.lt, "it is not less than"),
)


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
        each = [_wrong(one, value, root, at, depth + 1) for one in others]
        return "" if "" in each else each[0]
    for one in schema.get("allOf", ()):
        if said := _wrong(one, value, root, at, depth + 1):
            return said
    if "enum" in schema and value not in schema["enum"]:
        return f"{at}: it is none of {len(schema['enum'])} that it may be"
    if "const" in schema and value != schema["const"]:
        return f"{at}: it is not the one that it may be"
    kind = schema.get("type")
    if isinstance(kind, str) and kind in _KINDS and not _is(value, kind):
        return f"{at}: it is not {_CALLED[kind]}"
    if said := next(filter(None, _bounds(schema, value)), ""):
        return f"{at}: {said}"
    if isinstance(value, dict):
        return _of_object(schema, value, root, at, depth)
    if isinstance(value, list):
        first, rest = schema.get("prefixItems", []), schema.get("items")
        wanted = [*first, *[rest] * (len(value) - len(first))]
        pairs = zip(value, wanted, strict=False)
        found = (_wrong(one, v, root, at, depth + 1) for v, one in pairs)
        return next(filter(None, found), "")
    return ""


def _bounds(schema: Mapping[str, Any], value: Any) -> Iterator[str]:
    """What is out of its bounds; "" for what is within."""
    if isinstance(value, str):
        yield _count(len(value), schema, "Length", "characters")
        yield _pattern(schema.get("pattern"), value)
    if isinstance(value, list):
        yield _count(len(value), schema, "Items", "items")
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return
    for key, lies, said in _BOUNDS:
        if (bound := schema.get(key)) is not None and not lies(value, bound):
            yield f"{said} {bound}"
    step = schema.get("multipleOf")
    if step and not _is_multiple(value, step):
        yield f"it is no multiple of {step}"


def _is_multiple(value: float, step: float) -> bool:
    if isinstance(value, int) and isinstance(step, int):
        return value % step == 0
    try:
        times = value / step
    except OverflowError:
        return True
    return not math.isfinite(times) or math.isclose(times, round(times), rel_tol=1e-9)


def _count(count: int, schema: Mapping[str, Any], of: str, what: str) -> str:
    least, most = schema.get(f"min{of}"), schema.get(f"max{of}")
    if least is not None and count < least:
        return f"it has {count} {what}, and at least {least} are wanted"
    if most is not None and count > most:
        return f"it has {count} {what}, and {most} at the most are taken"
    return ""


def _pattern(pattern: Any, value: str) -> str:
    try:
        fits = not isinstance(pattern, str) or re.search(pattern, value) is not None
    except re.error:  # of another engine: looked at when the call is vetted
        return ""
    return "" if fits else "it is not of the form that is wanted"


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
        wanted = fields.get(name, schema.get("additionalProperties"))
        if said := _wrong(wanted, one, root, place, depth + 1):
            return said
    return ""


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _KINDS[kind])
