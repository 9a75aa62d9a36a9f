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
CLEARLY = 0.5  # of cost, by which one reading is likelier than another

_LETTER = 0.3  # cost of a letter that is changed, dropped, added or moved unheard
_SOUND = 1.0  # and of one that is heard

# Letters to sounds.  Vowels are all `a`, for children hear them too well; r is not
# heard before a consonant; th is f, for many say so.
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
        (r"[aeiouy]+", "a"),
        (r"(?<=a)r(?=[^a]|$)", ""),
        (r"(.)\1", r"\1"),
    )
]
_ENDINGS = ("ed", "d", "es", "s", "in", "ing", "en")


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
    ) -> None:
        self._common = english()
        self._meant = meant
        self._known = frozenset(exact)
        self._ours = {word for word in self._known if len(word) >= SHORTEST}
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
        if not any(word in self._common or word in self._known for word in words):
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
        heard = sound(word)
        most = _most(len(word)) + 1e-9
        for other in self._index.near(keys) | self._rivals.near(keys):
            cost = _LETTER * OSA.distance(word, other)
            if cost <= most:
                cost += _SOUND * OSA.distance(heard, sound(other))
            if cost <= most:
                yield _Near(cost, other, other not in self._ours)


def _keys(word: str) -> set[str]:
    """What words that are near have in common, one of them at least."""
    heard = sound(word)
    # Its consonants, and whether it begins with a vowel; apart from letters.
    bones = heard[:1] + heard[1:].replace("a", "") + "/"
    return {bones, word, *(word[:at] + word[at + 1 :] for at in range(len(word)))}


def _most(letters: int) -> float:
    """The dearest respelling of a word: of short ones a vowel or two, of long ones
    a consonant as well."""
    if letters <= SHORTEST:
        return 2 * _LETTER
    return 3 * _LETTER if letters == 4 else _SOUND + (2 if letters < 8 else 3) * _LETTER
