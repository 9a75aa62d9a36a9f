"""What a route to a clause comes to: places in the text."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple


class Hit(NamedTuple):
    """
    `[start, end)` of the text.

    `key` is what stands there, in one form, where two routes may find it at two places:
    a name, a date; "" where the place itself is what counts.
    """

    start: int
    end: int
    key: str = ""


class Among:
    """Hits, to see whether another is about the same as one of them."""

    def __init__(self, hits: Sequence[Hit]) -> None:
        self._keys = {hit.key for hit in hits if hit.key}
        ordered = sorted(hits)
        self._starts = [hit.start for hit in ordered]
        self._reach = list(accumulate((hit.end for hit in ordered), max))

    def meets(self, hit: Hit) -> bool:
        """One place, or the same words at two."""
        before = bisect_left(self._starts, hit.end)
        overlaps = before > 0 and self._reach[before - 1] > hit.start
        return overlaps or hit.key in self._keys


# The hits of the route by headings, and those of the route by words, best first.
Routes = tuple[Sequence[Hit], Sequence[Hit]]


def same(words: str) -> str:
    """Words without case, signs and blanks, to see whether two say the same."""
    return re.sub(r"[\W_]+", " ", words).strip().lower()


# What `(?i)` takes for a letter of ours, and `lower` leaves as it is: out of Fraktur
# and Turkish letters.
_LIKE = str.maketrans("\u017f\u0131\u0130\u212a", "siik")


def lowered(word: str) -> str:
    """A word that was found in whatever case, as tables have it."""
    return word.translate(_LIKE).lower()
