"""What was read, against what stands on the page: words, in any order."""

from __future__ import annotations

import re
from collections import Counter


def recall(text: str, truth: str) -> float:
    """The share of the truth's words that the text has, as often."""
    said, there = words(text), words(truth)
    return (said & there).total() / max(there.total(), 1)


def precision(text: str, truth: str) -> float:
    """The share of the words of `text` that are in `truth`, as often."""
    said, there = words(text), words(truth)
    return (said & there).total() / max(said.total(), 1)


def right(text: str, truth: str) -> float:
    """The share of words that are right: of those said, and of those there (F1)."""
    said, there = words(text), words(truth)
    return 2 * (said & there).total() / max(said.total() + there.total(), 1)


def words(text: str) -> Counter[str]:
    """Words by how often, without case and punctuation."""
    return Counter(re.findall(r"\w+", text.lower()))
