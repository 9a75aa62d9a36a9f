"""
Places of a text with some of it around, for the reviewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stages.document import Span

MAX_EXCERPTS = 12
EXCERPT_CHARS = 60  # on either side


def excerpts(text: str, spans: Sequence[Span]) -> list[dict[str, Any]]:
    """
    The places of `spans` with some text around, for review and nothing else.

    `marked` is [start, end) of the span within `text` of the excerpt.
    """
    shown: list[dict[str, Any]] = []
    for span in spans[:MAX_EXCERPTS]:
        start = max(0, span.start - EXCERPT_CHARS)
        end = min(len(text), span.end + EXCERPT_CHARS)
        shown.append(
            {
                "category": span.category,
                "rule": span.rule,
                "text": text[start:end],
                "marked": [span.start - start, span.end - start],
            }
        )
    return shown
