"""What an engine found on a page: words with their places, and the text they make."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from stages.layout import Box


class Word(NamedTuple):
    """One word as an engine found it; `line` and `block` number what it is in."""

    text: str
    box: Box
    confidence: float  # 0-100, on the engine's own scale
    block: int
    line: int


def text_of(words: Sequence[Word]) -> str:
    """Words as text: a line break between lines, an empty line between blocks."""
    parts: list[str] = []
    last: Word | None = None
    for word in words:
        if last is not None:
            same = " " if word.line == last.line else "\n"
            parts.append(same if word.block == last.block else "\n\n")
        parts.append(word.text)
        last = word
    return "".join(parts)
