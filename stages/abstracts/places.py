"""
Where a quote stands: in the document's text, on which page, and in which box.

A quote is the document's own words or it is none.  Breaks of lines and the shapes of
quotation marks and dashes are forgiven, for whoever copies from a page on a screen has
others; what is kept is always the text as the document has it.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from stages.abstracts.forms import Cited, Spot
from stages.clauses.sections import page_breaks, page_of
from stages.layout import Box, Layout, around

QUOTE_CHARS_MAX = 20_000
PLACES_MAX = 1_000  # of one quote, such as a word, that are looked at
CUT_MAX = 2_000  # places of one quote that cut a word, and are passed over
BLANKS_FROM = 0x0E00  # from here on come scripts that set no blanks between words
# Characters that look alike, each as one character: no place moves.
ALIKE = str.maketrans("“”„‟‘’‚‛‐‑‒–—\u00a0", "\"\"\"\"''''-----\u0020")


def place_of(
    text: str, quote: str, near: int = 0, *, whole: bool = True
) -> tuple[int, int] | None:
    """
    `[start, end)` of `quote` in `text`, the occurrence nearest to `near`.

    None where it stands nowhere, is empty, or longer than `QUOTE_CHARS_MAX`.

    Args:
        whole: Whether it must begin and end at words: `unlawful` has no `lawful`.
    """
    words = " ".join(quote.translate(ALIKE).split())
    if not words or len(quote) > QUOTE_CHARS_MAX:
        return None
    flat = _flat(text)
    best: tuple[int, int] | None = None
    at = _next(flat.text, words, 0, whole)
    for _ in range(PLACES_MAX):
        if at < 0:
            break
        start, end = flat.place(at), flat.place(at + len(words) - 1) + 1
        if best is None or abs(start - near) < abs(best[0] - near):
            best = start, end
        at = _next(flat.text, words, at + len(words), whole)
    return best


def _next(text: str, words: str, at: int, whole: bool) -> int:
    """The next place of `words` from `at` on, where no word is cut; -1: none."""
    at = text.find(words, at)
    for _ in range(CUT_MAX):
        if at < 0 or not whole or not (_cut(text, at) or _cut(text, at + len(words))):
            return at
        at += 1
        while _cut(text, at):  # no place within the same word is a better one
            at += 1
        at = text.find(words, at)
    return -1


def _cut(text: str, at: int) -> bool:
    """Whether `at` is within a word, or a number."""
    if not 0 < at < len(text):
        return False
    left, right = text[at - 1], text[at]
    if left.isdigit() or right.isdigit():
        return left.isdigit() and right.isdigit()
    if left.islower() and right.isupper():
        return False  # two words that a scan has run together
    letters = left.isalpha() and right.isalpha()
    return letters and max(left, right) < chr(BLANKS_FROM)


class _Flat(NamedTuple):
    """A text with one blank between words, and where each word begins: here, there."""

    text: str
    here: array[int]
    there: array[int]

    def place(self, at: int) -> int:
        """Where a letter stands in the text as it was."""
        word = bisect_right(self.here, at) - 1
        return self.there[word] + at - self.here[word]


@lru_cache(maxsize=2)  # the same text is searched for every quote
def _flat(text: str) -> _Flat:
    """Found in it by `str.find`, a quote takes time in proportion, whatever it says."""
    words: list[str] = []
    here, there = array("l"), array("l")
    at = 0
    for match in _WORD.finditer(text.translate(ALIKE)):
        words.append(match[0])
        here.append(at)
        there.append(match.start())
        at += len(match[0]) + 1
    return _Flat(" ".join(words), here, there)


_WORD = re.compile(r"\S+")


def cited(text: str, start: int, end: int, readers: Sequence[str]) -> Cited:
    """The quote that is `text[start:end]`."""
    page = page_of(start, page_breaks(text))
    return Cited(
        start=start, end=end, text=text[start:end], page=page, readers=tuple(readers)
    )


def parts(quote: Cited) -> dict[int, str]:
    """What of a quote stands on which page."""
    pieces = quote.text.split("\f")
    return {quote.page + n: piece for n, piece in enumerate(pieces) if piece.strip()}


def with_spots(quote: Cited, layouts: Mapping[int, Layout], text: str = "") -> Cited:
    """
    The quote with its boxes, on those pages whose words are known.

    Args:
        layouts: By page, 1-based; of a page without one there is no box.
        text: The document's, so that of words that a page has twice those are boxed
            that the quote is of; without it the first ones.
    """
    # Characters of a page's text come to about as many of its words' in a row.
    near = quote.start - (text.rfind("\f", 0, quote.start) + 1) if text else 0
    spots = [
        spot
        for page, piece in parts(quote).items()
        if page in layouts
        and (spot := _spot(page, piece, layouts[page], near * (page == quote.page)))
        is not None
    ]
    return quote.model_copy(update={"spots": tuple(spots)})


def _spot(page: int, piece: str, layout: Layout, near: int) -> Spot | None:
    """Where the words of `piece` stand nearest to `near`, a box for each line."""
    begins: list[tuple[int, int, int]] = []  # line, start and end of each word
    boxes: list[Box] = []
    text: list[str] = []
    at = 0
    for number, line in enumerate(layout.lines):
        for word in line.words:
            begins.append((number, at, at + len(word.text)))
            boxes.append(word.box)
            text.append(word.text)
            at += len(word.text) + 1
    found = place_of(" ".join(text), piece, near, whole=False)
    if found is None:
        return None
    start, end = found
    lines: dict[int, list[Box]] = {}
    for (number, first, last), box in zip(begins, boxes, strict=True):
        if first < end and start < last:
            lines.setdefault(number, []).append(box)
    rows = tuple(around(row) for row in lines.values())
    if not rows:
        return None
    size = (layout.width, layout.height)
    return Spot(page=page, box=around(rows), lines=rows, size=size)
