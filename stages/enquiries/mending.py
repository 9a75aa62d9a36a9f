"""
Typing mistakes: words that are one slip away from a word that a request is read by.

A word is mended only where one word is meant and no other is as near; its place in the
text stays known, so that whatever is read there keeps the words that were written.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from rapidfuzz.distance import OSA

from stages.enquiries.forms import Words

WORD = re.compile(r"[^\W\d_]{5,20}")
TEXT_CHARS_MAX = 20_000  # of a request; a longer one is read by nobody at once
LONG_CHARS = 8  # from here on a word may have two slips


@dataclass(frozen=True)
class Mended:
    """
    A text in small letters with its slips mended.

    Attributes:
        written: The text as it came.
        text: What is read.
        origin: For each character of `text` its place in `written`, and one at the end.
        slips: Places in `text` of the words that were mended.
    """

    written: str
    text: str
    origin: tuple[int, ...]
    slips: tuple[tuple[int, int], ...]

    def words(self, start: int, end: int) -> Words:
        """What was written at a place of `text`."""
        first, last = self.origin[start], self.origin[end - 1] + 1
        for begun, ended in self.slips:
            if begun < end <= ended:
                last = self.origin[ended]
        return self.place(first, last)

    def place(self, first: int, last: int) -> Words:
        """A place of `written`."""
        line = self.written.count("\n", 0, first) + 1
        return Words(self.written[first:last], first, last, line)

    def slip(self, start: int, end: int) -> str:
        """The text at a place, where a slip was mended in it; else ""."""
        touched = any(a < end and start < b for a, b in self.slips)
        return self.text[start:end] if touched else ""


def mended(written: str, vocabulary: Collection[str]) -> Mended:
    """Mend the words of a text, of which `TEXT_CHARS_MAX` characters are read."""
    written = written[:TEXT_CHARS_MAX]
    known = sorted(vocabulary)
    text: list[str] = []
    origin: list[int] = []
    slips: list[tuple[int, int]] = []
    at = 0
    for found in WORD.finditer(written):
        meant = _meant(found[0].lower(), known)
        if meant is None:
            continue
        _keep(written, at, found.start(), text, origin)
        begun = len(text)
        text += meant
        # A longer word has its last characters at the end of what was written.
        places = range(found.start(), found.end())
        origin += [places[min(n, len(places) - 1)] for n in range(len(meant))]
        slips.append((begun, len(text)))
        at = found.end()
    _keep(written, at, len(written), text, origin)
    return Mended(written, "".join(text), (*origin, len(written)), tuple(slips))


def _keep(
    written: str, start: int, end: int, text: list[str], origin: list[int]
) -> None:
    for place in range(start, end):
        small = written[place].lower()
        text.append(small if len(small) == 1 else written[place])
        origin.append(place)


def _meant(word: str, known: list[str]) -> str | None:
    """The one known word that is near; None where it is known, or nothing is."""
    if word in known:
        return None
    most = 2 if len(word) >= LONG_CHARS else 1
    near = [
        (OSA.distance(word, other, score_cutoff=most), other)
        for other in known
        if other[0] == word[0] and len(other) >= WORD_CHARS_MIN
    ]
    near = sorted((slips, other) for slips, other in near if slips <= most)
    if not near or (len(near) > 1 and near[0][0] == near[1][0]):
        return None
    return near[0][1]


WORD_CHARS_MIN = 5  # a shorter one is too near to others
