"""
Two readings of a page as one: the better reader's words, checked by the other's.

The words are the second reader's, which finds more of them and is nearly always right
where the two differ (docs/adr/0012-reading.md).  The first says where it read the
same, where it read another thing, and where it read nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import groupby
from typing import NamedTuple

from stages.layout import around
from stages.reading.words import Word

SLIP = 0.75  # similarity, 0-1: one character of five may differ, and both saw the word
HEARD = 60.0  # a word of the first reader below this contradicts nobody
OVERLAP = 0.4  # of the narrower one, where two words stand in the same place
# Figures and the letters they look like; in a word of letters the letter is meant.
ALIKE = str.maketrans("01|5", "olls")
WORD_MIN = 4  # letters; "A1" and "4x" are what they are
NUMBER = re.compile(r"\d\D*\d|\d[.,]")  # amounts, dates, numbers, codes; no lone digit


class Checked(NamedTuple):
    """
    A word of the better reading, and what the other reader says of it.

    Attributes:
        same: The other read it as well.
        other: What the other made of the place; "" where it is the same or nothing.
        contradicted: It is a number, and the other read another one.
    """

    word: Word
    same: bool
    other: str
    contradicted: bool


def checked(words: Sequence[Word], first: Sequence[Word]) -> list[Checked]:
    """`words`, by lines, each compared with what the first reader has in its place."""
    found: list[Checked] = []
    for _, group in groupby(words, key=lambda word: word.line):
        line = list(group)
        theirs = beside(line, first)
        found += compared([w for one in line for w in spaced(one, theirs)], theirs)
    return found


def beside(line: Sequence[Word], first: Sequence[Word]) -> list[Word]:
    """The first reader's words in the place of a line, from the left."""
    left, top, right, bottom = around([word.box for word in line])
    return sorted(
        (
            word
            for word in first
            if top < (word.box[1] + word.box[3]) / 2 < bottom
            and word.box[0] < right
            and word.box[2] > left
        ),
        key=lambda word: word.box[0],
    )


def spaced(word: Word, theirs: Sequence[Word]) -> list[Word]:
    """
    A word in the words that the first reader makes of it, letter for letter.

    The second reader loses spaces where letters are blurred; the first does not.
    """
    from rapidfuzz.distance import Levenshtein

    there = [w for w in theirs if shares(word, w) and plain(w.text)]
    lengths = [len(plain(w.text)) for w in there]
    same = Levenshtein.normalized_similarity(
        plain(word.text), "".join(plain(w.text) for w in there)
    )
    if (
        len(there) < 2
        or is_number(word.text)
        or sum(lengths) != len(plain(word.text))
        or same < SLIP
        or min(w.confidence for w in there) < HEARD
    ):
        return [word]
    texts = [""]
    for character in word.text:
        full = len(plain(texts[-1])) == lengths[len(texts) - 1]
        if full and character.isalnum() and len(texts) < len(there):
            texts.append("")
        texts[-1] += character
    return [
        word._replace(text=text, box=w.box)
        for text, w in zip(texts, there, strict=True)
    ]


def compared(line: Sequence[Word], first: Sequence[Word]) -> Iterator[Checked]:
    """The words of one line, each with its judgement."""
    ours, theirs = [plain(w.text) for w in line], [plain(w.text) for w in first]
    matcher = SequenceMatcher(None, ours, theirs, autojunk=False)
    for how, start, end, low, high in matcher.get_opcodes():
        joined = "".join(ours[start:end]) == "".join(theirs[low:high])
        for word in line[start:end]:
            if (how == "equal" or joined) and not is_number(word.text):
                yield Checked(word, True, "", False)
            else:
                yield against(word, [w for w in first[low:high] if shares(word, w)])


def against(word: Word, there: Sequence[Word]) -> Checked:
    """A word and what stands in its place of the other reading."""
    from rapidfuzz.distance import Levenshtein

    other = " ".join(w.text for w in there)
    if is_number(word.text):
        same = digits(word.text) == digits(other)
        heard = all(w.confidence >= HEARD for w in there)
        number = sum(c.isdigit() for c in other) * 2 >= len(plain(other)) > 0
        another = heard and (number if not same else signed(word.text) != signed(other))
        return Checked(word, same, "" if same else other, another)
    if is_word(other) and look_alike(word.text, other):
        return Checked(word._replace(text=other), True, "", False)
    like = Levenshtein.normalized_similarity(plain(word.text), plain(other))
    return Checked(word, like >= SLIP, "" if like == 1 else other, False)


def shares(one: Word, other: Word) -> bool:
    """Whether two words of a line stand in the same place."""
    wide = min(one.box[2], other.box[2]) - max(one.box[0], other.box[0])
    least = min(one.box[2] - one.box[0], other.box[2] - other.box[0])
    return wide > OVERLAP * max(1, least)


def is_number(text: str) -> bool:
    """Whether it looks like an amount, a date, a number or a code."""
    return NUMBER.search(text) is not None


def is_word(text: str) -> bool:
    """Whether it is of letters, and of more than a few."""
    return text.isalpha() and len(text) >= WORD_MIN


def look_alike(one: str, other: str) -> bool:
    """Whether two words differ in figures that are taken for letters, and no more."""
    first, second = one.lower(), other.lower()
    return first != second and first.translate(ALIKE) == second.translate(ALIKE)


DASHES = str.maketrans("\u2212\u2013\u2014", "---")


def signed(number: str) -> bool:
    """Whether it is negative: with a sign, or in brackets as accountants write it."""
    found = re.search(r"[-(\d]", number.translate(DASHES))
    return found is not None and not found.group().isdigit()


def same_written(one: str, other: str) -> bool:
    """Whether two numbers of the same digits are the same; a unit may stand alone."""
    said = [
        "".join(c for c in text.lower() if c.isalnum() or c in "-,.%(").strip(".,")
        for text in (one.translate(DASHES), other.translate(DASHES))
    ]
    if not all(any(c.isalpha() for c in text) for text in said):
        said = ["".join(c for c in text if not c.isalpha()) for text in said]
    return said[0] == said[1]


def digits(text: str) -> str:
    """Its digits alone."""
    return "".join(c for c in text if c.isdigit())


def plain(text: str) -> str:
    """Letters and digits in lower case."""
    return "".join(c for c in text.casefold() if c.isalnum())
