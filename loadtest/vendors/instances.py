"""
JSON that fits a JSON Schema, as a model with structured output gives it.

Only what such schemas use: objects, arrays, strings, numbers, enums, constants,
alternatives and references.  The same schema gives the same instance.
"""

from __future__ import annotations

from typing import Any

DEPTH_MAX = 20  # a schema that refers to itself


def instance(schema: Any, root: Any = None, depth: int = 0) -> Any:
    """Something that fits."""
    root = schema if root is None else root
    if not isinstance(schema, dict) or depth > DEPTH_MAX:
        return None
    match schema:
        case {"$ref": str(ref)}:
            return instance(_found(ref, root), root, depth + 1)
        case {"const": value}:
            return value
        case {"enum": [first, *_]}:
            return first
        case {"anyOf": [first, *_]} | {"oneOf": [first, *_]} | {"allOf": [first, *_]}:
            return instance(first, root, depth + 1)
        case _:
            pass  # by its type
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = kind[0]
    match kind:
        case "object":
            inside = schema.get("properties", {})
            wanted = schema.get("required", list(inside))
            return {
                name: instance(inside.get(name, {}), root, depth + 1) for name in wanted
            }
        case "array":
            least = max(1, schema.get("minItems", 1))
            least = min(least, schema.get("maxItems", least))
            inner = schema.get("items", {})
            return [instance(inner, root, depth + 1) for _ in range(least)]
        case "integer" | "number":
            above = schema.get("exclusiveMinimum")
            return schema.get("minimum", 0) if above is None else above + 1
        case "boolean":
            return False
        case "null":
            return None
        case _:
            return _text(schema)


def misfit(schema: Any) -> Any:
    """The same, without its first field; a list where no object is asked for."""
    right = instance(schema)
    if isinstance(right, dict) and right:
        return dict([*right.items()][1:])
    return [right]


def _text(schema: dict[str, Any]) -> str:
    examples = {"date": "2026-12-24", "date-time": "2026-12-24T18:00:00Z"}
    examples |= {"email": "mia@example.com", "uri": "https://example.com/"}
    text = examples.get(schema.get("format", ""), "simulated")
    text = text.ljust(schema.get("minLength", 0), ".")
    return text[: schema.get("maxLength", len(text))]


def _found(ref: str, root: Any) -> Any:
    here = root
    for part in ref.removeprefix("#").strip("/").split("/"):
        here = here.get(part, {}) if part and isinstance(here, dict) else here
    return here
