"""
Words as children and scanners spell them: which words of the rules one may be.

A word that is plain English is never respelt, but for the few that are written for
another one (`wont` for want).  Any other is compared, by its sound and its letters,
with the words that rules speak of and with the common words of the language; a
rule's word is a reading of it when none of the others is clearly nearer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from rapidfuzz.distance import OSA
from spellchecker import SpellChecker

# How often a word was seen, of 160,000 in the subtitles that the list was made of:
# those above are what a child may mean to write, and about 20,000.
COMMON_MIN = 1_000
RIVAL_MIN = 20_000  # and these, some 3,000, may be what a misspelt word means instead
SHORTEST = 3  # letters of a word that is respelt; two say nothing
LONGEST = 24  # no word of a rule is longer, and a stranger's may be 500,000
SURE = 7  # letters of a word that may be respelt though it is all that a rule asks
MAX_TRIED = 4  # readings of a disguised word that are compared
MAX_SPELT = 6  # readings of a word; each makes every phrase dearer
CLEARLY = 0.25  # of cost, by which one reading is likelier than another

# What a difference costs, each time: a letter, a vowel that is heard, a consonant, or
# a slip of the pen, the key or the scanner, whatever is heard of it.
_LETTER, _VOWEL, _CONSONANT, _SLIP = 0.1, 0.3, 1.0, 0.75

# Letters to sounds: r is not heard before a consonant, and th is f, for many say so.
_SOUNDS = [
    (re.compile(written), heard)
    for written, heard in (
        (r"(.)\1", r"\1"),
        (r"^(?:kn|gn)", "n"),
        (r"^wr", "r"),
        (r"^wh(?=o)", "h"),
        (r"wh", "w"),
        (r"^ps", "s"),
        (r"tch|ch(?!r|l)", "C"),
        (r"sch", "sk"),
        (r"sh|(?<=[a-z])(?:ti|ci|si)(?=o|a)", "S"),
        (r"ph|gh(?=$)(?<=[aeiou]ugh)", "f"),
        (r"th", "f"),
        (r"ck|c(?![eiy])|q", "k"),
        (r"c", "s"),
        (r"d[gj]", "g"),
        (r"j", "g"),
        (r"x", "ks"),
        (r"z", "s"),
        (r"v", "f"),
        (r"gh", ""),
        (r"mb$", "m"),
        (r"stl", "sl"),
        (r"oul(?=d)|al(?=[km])", "a"),
        (r"(?:(?<=[aeiouy][^aeiouy])|(?<=[aeiouy][^aeiouy]{2}))e(?=[sd]?$)", ""),
        (r"w(?=[^aeiouy]|$)|(?<=[aeiou])h", ""),
        (r"(?<=[aeiouy])r(?=[^aeiouy]|$)", ""),
        (r"(.)\1", r"\1"),
    )
]
_ENDINGS = ("ed", "d", "es", "s", "in", "ing", "en")


_FIRST_VOWEL = re.compile(r"^[aeiouy]+")
_OTHER_VOWELS = re.compile(r"[aeiouy]+")


class _Near(NamedTuple):
    """How far a word is from what was written; `rival` is no word of the rules."""

    cost: float
    word: str
    rival: bool


@lru_cache(maxsize=1)
def english() -> Mapping[str, int]:
    """Common English words without apostrophes, and how often each was seen."""
    seen: dict[str, int] = {}
    for word, times in SpellChecker().word_frequency.items():
        if times >= COMMON_MIN:
            bare = word.replace("'", "")
            seen[bare] = max(times, seen.get(bare, 0))
    return seen


@lru_cache(maxsize=50_000)
def sound(word: str) -> str:
    """What is heard of a word in lower case, roughly."""
    for written, heard in _SOUNDS:
        word = written.sub(heard, word)
    return word


@lru_cache(maxsize=50_000)
def bones(word: str) -> str:
    """The consonants that are heard of it, and whether it begins with a vowel."""
    return _OTHER_VOWELS.sub("", _FIRST_VOWEL.sub("A", sound(word)))


class _Index:
    """Words by the bones of their sound, and by their letters but for one."""

    def __init__(self, words: Iterable[str]) -> None:
        self._found: dict[str, list[str]] = {}
        for word in words:
            if SHORTEST <= len(word) <= LONGEST:
                for key in _keys(word):
                    self._found.setdefault(key, []).append(word)

    def near(self, keys: Iterable[str]) -> set[str]:
        """Every word that has one of these keys."""
        found: set[str] = set()
        for key in keys:
            found.update(self._found.get(key, ()))
        return found


@lru_cache(maxsize=1)
def _rivals() -> _Index:
    """Common words, whatever rules speak of; for all rulebooks."""
    return _Index(word for word, times in english().items() if times >= RIVAL_MIN)


class Speller:
    """
    What words of a text may say, by the words that rules speak of.

    Immutable but for a bounded memory of words it has seen; built once a rulebook.
    """

    def __init__(
        self,
        exact: Iterable[str],
        stems: Iterable[str],
        meant: Mapping[str, Sequence[str]],
        plain: Iterable[str] = (),
    ) -> None:
        self._common = english().keys() | set(plain)
        self._meant = meant
        self._ours = {word for word in exact if len(word) >= SHORTEST}
        if begun := tuple(stems):
            self._ours.update(w for w in self._common if w.startswith(begun))
        self._index, self._rivals = _Index(self._ours), _rivals()
        self._looked_up = lru_cache(maxsize=20_000)(self._spelt)

    def readings(self, words: Sequence[str]) -> tuple[str, ...]:
        """
        Other words that a child or a scanner may have meant by a word whose
        readings these are, likeliest first.
        """
        found = [meant for word in words for meant in self._meant.get(word, ())]
        # Where one reading is a word, the letters are explained.
        if not any(word in self._common for word in words):
            for word in words[:MAX_TRIED]:
                if SHORTEST <= len(word) <= LONGEST and word.isascii():
                    found += self._looked_up(word)
        return tuple(dict.fromkeys(found))[:MAX_SPELT] if found else ()

    def _spelt(self, word: str) -> tuple[str, ...]:
        near = sorted(self._near(word))
        if near:
            most = near[0].cost + CLEARLY
            return tuple(o.word for o in near if not o.rival and o.cost <= most)
        # Grammar that is too regular: hurted, borned, hitted.
        bases = (word.removesuffix(end) for end in _ENDINGS)
        return tuple(base for base in bases if base != word and base in self._ours)

    def _near(self, word: str) -> Iterator[_Near]:
        """Words that it may be, with what each would cost."""
        keys = _keys(word)
        most = _most(len(word)) + 1e-9
        for other in (self._index.near(keys) | self._rivals.near(keys)) - {word}:
            cost = _cost(word, other)
            if cost <= most:
                yield _Near(cost, other, other not in self._ours)


def _cost(word: str, other: str) -> float:
    """How unlikely it is that one was written for the other."""
    letters = OSA.distance(word, other)
    heard = (
        _LETTER * letters
        + _VOWEL * OSA.distance(sound(word), sound(other))
        + (_CONSONANT - _VOWEL) * OSA.distance(bones(word), bones(other))
    )
    return min(heard, _SLIP * letters)


def _keys(word: str) -> set[str]:
    """What words that are near have in common, one of them at least."""
    shorter = (word[:at] + word[at + 1 :] for at in range(len(word)))
    return {f"{bones(word)}/", word, *shorter}


def _most(letters: int) -> float:
    """The dearest respelling: of a short word a vowel, of a long one a consonant."""
    if letters <= SHORTEST:
        return _LETTER + _VOWEL
    if letters == 4:
        return 0.9
    return 1.4 if letters < 8 else 1.8
