"""
What a reply may be, whoever writes it: the shape, and what never goes onto paper.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)
from pydantic_core import PydanticCustomError

_LINK = re.compile(
    r"https?:|www\.|[^\s@]@[^\s@]+\.\w|\b[\w-]{2,63}\.(?:com|org|net|io|info|shop|uk|de)\b",
    re.IGNORECASE,
)
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def _printable(text: str) -> str:
    # A reply goes onto paper to a child: nothing in it may lead anywhere.
    if _LINK.search(text):
        raise PydanticCustomError("has_link", "no links or addresses")
    if _CONTROL.search(text):
        raise PydanticCustomError("has_control", "no control characters")
    return text


def _text(chars_max: int) -> Any:
    return StringConstraints(strip_whitespace=True, min_length=1, max_length=chars_max)


Line = Annotated[str, _text(160), AfterValidator(_printable)]
Paragraph = Annotated[str, _text(900), AfterValidator(_printable)]


class Written(BaseModel):
    """What a writer must deliver.  Anything else that it sends is left out."""

    model_config = ConfigDict(strict=True, defer_build=True)

    greeting: Line
    paragraphs: Annotated[list[Paragraph], Field(min_length=1, max_length=6)]
    closing: Line


def faults(error: ValidationError) -> str:
    """Where an answer broke the schema, without a word of the answer."""
    rows = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(
        f"{'.'.join(str(part) for part in row['loc']) or 'answer'}: {row['type']}"
        for row in rows[:10]
    )
