"""
JSON that a model or a person wrote, read in one way only.

Of a key that stands twice in one object every reader takes another: what was checked
would not be what runs.  So such an object is read by nobody, and neither is one with
what is no number in JSON, or nested deeper than anybody reads.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel

KEY_CHARS_MAX = 100  # a key that a model invents is as long as it likes
NESTED = "it is nested too deep"
M = TypeVar("M", bound=BaseModel)


class Ambiguous(ValueError):
    """It is JSON by its signs, and not to be read in one way."""


class Twice(dict[str, Any]):
    """An object of which a key stands twice: the last ones, and all `pairs`."""

    def __init__(self, pairs: Sequence[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


def read_json(written: str | bytes) -> Any:
    """
    What was written.

    Raises:
        Ambiguous: a key stands twice, a number is none, it is nested too deep.
        ValueError: it is not JSON.
    """
    try:
        return json.loads(
            written,
            object_pairs_hook=_once,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
    except RecursionError:
        raise Ambiguous(NESTED) from None


def said_as(schema: type[M], written: str, *, strict: bool = False) -> M:
    """
    What was written, as this model; `strict`: nothing is converted, nothing is extra.

    Raises:
        Ambiguous: see `read_json`.
        ValidationError: it is not JSON, or does not fit.
    """
    try:
        read_json(written)
    except Ambiguous:
        raise
    except ValueError:
        pass  # whose place in the text the next one tells
    try:
        if strict:
            return schema.model_validate_json(written, strict=True, extra="forbid")
        return schema.model_validate_json(written)
    except RecursionError:
        raise Ambiguous(NESTED) from None


def once_or_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For who reads what a vendor wrapped around it: the object, or a `Twice`."""
    found = dict(pairs)
    return found if len(found) == len(pairs) else Twice(pairs)


def has_twice(value: Any) -> bool:
    """Whether in such a value some object has a key twice."""
    match value:
        case Twice():
            return True
        case dict():
            return any(map(has_twice, value.values()))
        case list():
            return any(map(has_twice, value))
        case _:
            return False


def as_written(value: Any) -> str:
    """Such a value as JSON again, each key as often as it stood there."""
    match value:
        case dict():
            pairs = value.pairs if isinstance(value, Twice) else value.items()
            inner = (f"{json.dumps(key)}: {as_written(one)}" for key, one in pairs)
            return f"{{{', '.join(inner)}}}"
        case list():
            return f"[{', '.join(map(as_written, value))}]"
        case _:
            return json.dumps(value)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise Ambiguous(
                f"the key {key[:KEY_CHARS_MAX]!r} stands twice in an object"
            )
        found[key] = value
    return found


def _no_constant(name: str) -> Any:
    raise Ambiguous(f"{name} is no number in JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise Ambiguous(f"{digits[:40]} is no number that can be kept")
    return number
