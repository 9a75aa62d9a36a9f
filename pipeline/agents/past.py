"""
What a model is shown of its own past, mended so that its vendor takes it.
"""

from __future__ import annotations

import json
import re
from typing import Any

from pipeline.errors import Permanent
from pipeline.messages import CallEnd, ToolResult
from pipeline.state import encode

NOTHING = "(nothing)"  # neither vendor takes an empty text
NAME_CHARS_MAX = 64  # of a tool; what both vendors take
_NAME = re.compile(r"[^a-zA-Z0-9_-]")


def read_as(result: ToolResult) -> str:
    """What the model reads of a call."""
    if result.end is CallEnd.RESULT:
        return result.text or NOTHING
    return f"{result.end.value} ({result.code}): {result.text}"


def sendable_name(name: str) -> str:
    """A tool's name that its vendor takes, also one that a model has invented."""
    return _NAME.sub("_", name)[:NAME_CHARS_MAX] or "_"


def as_object(written: str) -> dict[str, Any]:
    """
    Arguments as an object, also such as are none.

    What could not be sent is none either: NaN, `1e999`, what is too deep; halves of
    characters are left out.
    """
    try:
        found = json.loads(encode(json.loads(written)))
    except (ValueError, RecursionError, Permanent):
        found = None
    return found if isinstance(found, dict) else {}
