"""
Sampling: of what the rules let pass, a share that people read all the same.

The share is a chance of each document, never a count: every one has its odds, more of
them where rules see worst, and a lot decides that nobody outside can steer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from stages.document import Document

# How often such a document is drawn, against one of which nothing is so.  Arbitrary:
# what people find says in time where the misses are.
LONG = "long", 2.0
DOUBTFUL = "doubtfully read", 2.0
NEAR = "near a rule", 3.0
UNSEEN = "without a second opinion", 4.0

LONG_CHARS = 2_000  # several pages of a child's hand
DOUBTFUL_BELOW = 75.0  # of a page's confidence, 0-100
_SHARE = re.compile(r"(\d{1,3}(?:\.\d{1,4})?)\s*%")


def share(text: str) -> float:
    """
    `5%` as 0.05.

    Raises:
        ValueError: it is no share from 0 % to 100 %.
    """
    found = _SHARE.fullmatch(text.strip())
    if found is None or float(found[1]) > 100:
        raise ValueError(f"{text!r} is no share: write 5% or 0.5%")
    return float(found[1]) / 100


def odds(
    document: Document, rate: float, *, noted: bool, unseen: bool = False
) -> tuple[float, list[str]]:
    """
    The chance at which a document that passed is drawn, and why it is more than `rate`.

    Args:
        rate: Of a document of which nothing is so, 0 to 1.
        noted: A rule matched something in it that holds nothing.
        unseen: Somebody who was asked for a second opinion was away.
    """
    chance, why = rate, []
    for name, times in _heavier(document, noted, unseen):
        chance *= times
        why.append(name)
    return min(1.0, chance), why


def _heavier(
    document: Document, noted: bool, unseen: bool
) -> Iterator[tuple[str, float]]:
    if len(document.text) > LONG_CHARS:
        yield LONG
    if any(p.source == "ocr" and p.confidence < DOUBTFUL_BELOW for p in document.read):
        yield DOUBTFUL
    if noted:
        yield NEAR
    if unseen:
        yield UNSEEN
