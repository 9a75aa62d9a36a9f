"""
A contract's text, prepared once for all readers: its sentences and their words.

A sentence keeps its place in the text, so that what is found in it can be quoted as it
stands there.  Rules read its plain form: lower case, straight quotes, single blanks.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from stages.clauses.sections import Section, page_breaks, spaced

SENTENCE_CHARS = 2_400  # a longer one is cut: an expression reads no more at a time
OPENING_CHARS = 12  # of a sentence, in which a number opens it
MAX_SENTENCES = (
    20_000  # of some 800 pages; of what comes after nobody says that it is absent
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """`[start, end)` of the text, its plain form, and the section it stands in."""

    start: int
    end: int
    plain: str
    section: int


@dataclass(frozen=True)
class Prepared:
    """
    A text and its sentences.

    Attributes:
        having: Word to the numbers of the sentences that have it, ascending.
        vocabulary: Every word, sorted, so that those with a beginning are found.
        breaks: The places of form feeds.
        written: The text as it stands, for quotes; `text` has spaces for its blanks.
        whole: Whether all of the text was split: what is found nowhere in a part of it
            may stand in the rest.
    """

    text: str = field(repr=False)
    sections: Sequence[Section] = field(repr=False)
    sentences: Sequence[Sentence] = field(repr=False)
    having: dict[str, list[int]] = field(repr=False)
    vocabulary: Sequence[str] = field(repr=False)
    breaks: Sequence[int] = field(repr=False)
    written: str = field(repr=False)
    whole: bool = True

    def beginning(self, stem: str) -> Iterator[str]:
        """The words of the text that begin with `stem`."""
        place = bisect_left(self.vocabulary, stem)
        while place < len(self.vocabulary) and self.vocabulary[place].startswith(stem):
            yield self.vocabulary[place]
            place += 1

    def within(self, section: int) -> range:
        """The numbers of the sentences of a section."""
        first = bisect_left(self.sentences, section, key=lambda one: one.section)
        last = bisect_right(self.sentences, section, key=lambda one: one.section)
        return range(first, last)


@lru_cache(maxsize=2)
def prepared(text: str, sections: tuple[Section, ...]) -> Prepared:
    """Split `text` into sentences and words, once for every type of clause."""
    written, text = text, spaced(text)
    starts = [section.start for section in sections]
    sentences: list[Sentence] = []
    having: dict[str, list[int]] = defaultdict(list)
    whole = True
    for start, end in split(text):
        if len(sentences) >= MAX_SENTENCES:
            whole = False
            break
        line = plain(text[start:end])
        for word in set(_WORD.findall(line)):
            having[word].append(len(sentences))
        section = max(0, bisect_right(starts, start) - 1)
        sentences.append(Sentence(start, end, line, section))
    return Prepared(
        text,
        sections,
        sentences,
        dict(having),
        sorted(having),
        page_breaks(text),
        written,
        whole,
    )


_WORD = re.compile(r"[a-z0-9$%€£]+")
_BLANKS = re.compile(r"\s+")
_STRAIGHT = str.maketrans("‘’‚‛“”„‟–—\u00a0\u00ad", "''''\"\"\"\"-- -")


def plain(text: str) -> str:
    """Lower case, straight quotes, one blank between words."""
    return _BLANKS.sub(" ", text.translate(_STRAIGHT)).strip().lower()


# The end of a sentence: a stop, perhaps a bracket, a blank, then what may begin one; or
# an empty line.
_END = re.compile(
    r"(?P<stop>[.?!])[\"”’)\]]{0,2}(?=\s{1,40}[\"“‘(\[]{0,2}[A-Z0-9\[•*(])"
    r"|\n[ \t]{0,60}\n|\f"
)
_SHORT = re.compile(
    r"(?i)(?:\b(?:inc|ltd|co|corp|no|nos|sec|art|mr|mrs|ms|dr|vs|v|st|e\.g|i\.e|u\.s"
    r"|l\.p|n\.a|p\.o|approx|attn|cf|etc|ext|tel|fig|vol|pty|bros|jr|sr|dept|assn|est"
    r"|[a-z]))\Z"
)
# Abbreviations that a number follows: `No. 8. The goods` is one sentence.
_COUNTED = re.compile(r"(?i)\b(?:nos?|sec|art|fig|vol|ext|tel|v|vs)\Z")
# The number of a section, and its heading: `8. Insurance`, `8.1 Insurance`.
_SECTION = re.compile(
    r"\s{1,40}(?:\d{1,3}(?:\.\d{1,3}){1,3}[.)]?|\d{1,3}[.)])\s{1,40}[\"“]?[A-Z]"
)
# A number at the beginning of a line, after a gap, or after `as follows:`.
_ON_ITS_LINE = re.compile(
    r"(?:\n[ \t]{0,60}|[ \t]{3,60}|:[ \t]{1,60})(?P<number>\d{1,3}(?:\.\d{1,3}){0,3})\Z"
)
_REFERS = re.compile(
    r"(?i)(?:\b(?:sections?|articles?|clauses?|paragraphs?|parts?|items?|nos?\.?|number"
    r"|exhibits?|schedules?|of|in|to|and|or|than|is|by|at|for)|[§,(])\s{0,60}\Z"
)
_ORDINAL = re.compile(r"(?:^|[\s(])\d{1,3}(?:\.\d{1,3}){0,3}\Z")


def split(text: str) -> Iterator[tuple[int, int]]:
    """`[start, end)` of the sentences of `text`, blanks at their ends left out."""
    start = 0
    for match in _END.finditer(text):
        stop = match["stop"]
        if stop == ".":
            if (at := _opens_below(text, start, match)) is not None:
                yield from _pieces(text, start, at)
                start = at
                continue
            if _abbreviated(text, start, match):
                continue
        elif not stop and not _ends_paragraph(text, start, match):
            continue
        yield from _pieces(text, start, match.end())
        start = match.end()
    yield from _pieces(text, start, len(text))


def _opens_below(text: str, start: int, match: re.Match[str]) -> int | None:
    """Where the number begins that opens the next section, on a line of its own."""
    if match.start() - start < OPENING_CHARS:
        return None
    number = _ON_ITS_LINE.search(text, max(start, match.start() - 80), match.start())
    if number is None or _REFERS.search(text[start : number.start()][-30:]):
        return None
    return number.start("number")


def _abbreviated(text: str, start: int, match: re.Match[str]) -> bool:
    """A full stop that ends a word and no sentence."""
    before = text[max(start, match.start() - 12) : match.start()]
    if _ORDINAL.search(before):
        # A number ends a sentence too; one that opens it does not.
        return match.start() - start < OPENING_CHARS
    if not _SHORT.search(before):
        return False
    if _SECTION.match(text, match.end()) and not _COUNTED.search(before):
        return False
    after = text[match.end() : match.end() + 40].lstrip()
    return not re.match(r"(?:This|The|Each|Neither|Either|Any|If|In|No)\b", after)


def _ends_paragraph(text: str, start: int, match: re.Match[str]) -> bool:
    """An empty line that does not stand in the midst of a sentence."""
    before = text[max(start, match.start() - 40) : match.start()].rstrip()[-1:]
    after = text[match.end() : match.end() + 200].lstrip()[:1]
    if not before or not after:
        return True
    if before in ".?!":
        return True
    if after.islower() or (before in ",;" and after in "("):
        return False
    return not _GOES_ON.search(text, max(start, match.start() - 40), match.start())


# A paragraph that a page's end has cut in two.
_GOES_ON = re.compile(
    r"(?:\b(?:and|or|of|the|to|by|with|in|for|an|any|such|its|their|from|this|that|as|on"
    r"|under|shall|will|may|be|is|are|not|which),?|[a-z],)\s{0,20}\Z"
)


def _pieces(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """
    Without the blanks around it, and cut at a blank where it is too long.

    A page's number above it or below it is a piece of its own.
    """
    start, end = _trimmed(text, start, end)
    if (above := _NUMBER_ABOVE.match(text, start, end)) and _begins_line(text, start):
        yield above.span("number")
        start = above.end()
    below = _NUMBER_BELOW.search(text, max(start, end - NUMBER_CHARS), end)
    start, end = _trimmed(text, start, below.start() if below else end)
    while end - start > SENTENCE_CHARS:
        cut = _cut(text, start)
        yield start, cut
        start = cut
        while start < end and text[start].isspace():
            start += 1
    if start < end:
        yield start, end
    if below:
        yield below.span("number")


# The number of a page, alone on its line: `3`, `- 3 -`, `Page 3`.
_PAGE = r"(?P<number>-[ \t]?\d{1,3}[ \t]?-|(?:[Pp]age[ \t])?\d{1,3})"
_NUMBER_ABOVE = re.compile(rf"{_PAGE}[ \t]{{0,60}}\n\s{{0,60}}(?=\S)")
_NUMBER_BELOW = re.compile(rf"(?<=[.;:])\s{{0,60}}\n[ \t]{{0,60}}{_PAGE}\Z")
NUMBER_CHARS = 200  # before the end of a sentence, where the page's number stands


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Without the blanks around it."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _begins_line(text: str, at: int) -> bool:
    """Whether nothing but blanks stands before it on its line."""
    before = text[max(0, at - NUMBER_CHARS) : at].rstrip(" \t")
    return not before or before[-1] in "\n\f"


def _cut(text: str, start: int) -> int:
    """Where to cut: after a semicolon, at a blank, or wherever it is."""
    until = start + SENTENCE_CHARS
    for sign in (";", " ", "\n"):
        place = text.rfind(sign, start + SENTENCE_CHARS // 2, until)
        if place > 0:
            return place + (sign == ";")
    return until
