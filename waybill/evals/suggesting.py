"""
Phrases that no rule holds, from letters of which a person decided that they were grave.

A phrase is worth a rule that several such letters have and those that were let go on
have not.  One letter's own words are not shown: what two have is nobody's letter.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from stages.moderation import action_of, assess
from stages.rules.normaliser import normalise
from stages.rules.phrases import WORD
from stages.rules.rulebook import Rulebook

WORDS_MIN, WORDS_MAX = 2, 5  # of a phrase
LETTER_CHARS_MAX = 20_000  # that are looked at; a letter is shorter
RARER = 5.0  # so much rarer in letters that went on; arbitrary
_ENDS = re.compile(r"[.!?;]")
# A phrase of these alone says nothing, and none begins or ends well with a joint.
COMMON = frozenset(
    WORD.findall("""
    a about after all also am an and are as at be been but by can could dad day dear did
    do for from get go had has have he her him his how i if in is it its just like love
    me mom mum my no not now of on or our out please she so some thank that the their
    them then there they this to too up us very want was we were what when will with
    would you your
    """)
)
JOINTS = frozenset(("a", "and", "but", "i", "or", "so", "that", "the", "then", "to"))


class Ruled(NamedTuple):
    """
    A letter that a person ruled on.

    Attributes:
        of: What it is called.
        care: It was not simply let go on.
        kinds: What for.
    """

    of: str
    care: bool
    kinds: Collection[str]
    text: str


class Suggestion(NamedTuple):
    """
    A phrase, as a rule file would have it.

    Attributes:
        letters: Grave ones that have it; `innocent`: of those that went on.
        kinds: Of the grave ones, the most frequent first.
        of: Which they are.
    """

    phrase: str
    letters: int
    innocent: int
    kinds: list[str]
    of: list[str]


def suggested(
    ruled: Sequence[Ruled], rules: Rulebook, *, least: int, most: int
) -> list[Suggestion]:
    """
    At most `most` phrases that `least` grave letters have; the most frequent first.
    """
    where: Mapping[str, list[Ruled]] = defaultdict(list)
    innocent: Counter[str] = Counter()
    many = Counter(one.care for one in ruled)
    for one in ruled:
        for phrase in set(phrases_of(one.text, rules)):
            if one.care:
                where[phrase].append(one)
            else:
                innocent[phrase] += 1
    found = [
        (phrase, letters)
        for phrase, letters in where.items()
        if len(letters) >= least
        and RARER * innocent[phrase] * many[True] <= len(letters) * many[False]
    ]
    # Of phrases that overlap the first one stands for all: it is the most frequent, or
    # says most.
    found.sort(key=lambda f: (-len(f[1]), innocent[f[0]], *_telling(f[0]), f[0]))
    chosen: list[Suggestion] = []
    for phrase, letters in found:
        if len(chosen) == most:
            break
        if any(_overlap(phrase, other.phrase) for other in chosen):
            continue
        if assess(phrase, rules).action == "allow":
            chosen.append(_suggestion(phrase, letters, innocent[phrase]))
    return chosen


def phrases_of(text: str, rules: Rulebook) -> Iterator[str]:
    """Phrases of a letter's sentences, but for places that rules hold already."""
    plain = normalise(text[:LETTER_CHARS_MAX])
    held = [
        (hit.start, hit.end)
        for hit in rules.hits(plain)
        if action_of(hit.category, rules) != "allow"
    ]
    run: list[str] = []
    last = 0
    for word in WORD.finditer(plain.text):
        start, end = word.span()
        if _ENDS.search(plain.text, last, start):
            run = []
        last = end
        if any(start < to and at < end for at, to in held):
            run = []
            continue
        run = [*run, word[0]][-WORDS_MAX:]
        for many in range(WORDS_MIN, len(run) + 1):
            if not COMMON.issuperset(run[-many:]):
                yield " ".join(run[-many:])


def _telling(phrase: str) -> tuple[int, int, int]:
    """Of phrases as frequent as each other the one that says most comes first."""
    words = phrase.split()
    joints = (words[0] in JOINTS) + (words[-1] in JOINTS)
    return -sum(word not in COMMON for word in words), joints, -len(words)


def _overlap(one: str, other: str) -> bool:
    """Whether one stands in the other, or begins with two words that it ends with."""
    if f" {one} " in f" {other} " or f" {other} " in f" {one} ":
        return True
    a, b = one.split(), other.split()
    most = min(len(a), len(b))
    return any(a[-n:] == b[:n] or b[-n:] == a[:n] for n in range(2, most))


def _suggestion(phrase: str, letters: Sequence[Ruled], innocent: int) -> Suggestion:
    kinds = Counter(kind for one in letters for kind in one.kinds)
    names = [one.of for one in letters]
    return Suggestion(
        phrase, len(letters), innocent, [k for k, _ in kinds.most_common()], names
    )
