"""
A rulebook: every rule of a pipeline folder, compiled, and what they find in a text.

Phrases are matched word by word along a `Normalised` text, trying every reading of
every word, so one phrase also finds its disguises.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal, NamedTuple

from stages.rules.normaliser import Normalised
from stages.rules.phrases import SMALL_WORDS, Element, Lattice, Vocabulary, walk
from stages.rules.spelling import Speller

MAX_HITS = 50  # of one rule in one text; a reviewer has long seen enough
KNOWN_WORDS = 20_000  # whose elements are remembered: they come again and again
TOGETHER = 300  # characters that signs may lie apart, so that long texts gather none


class Hit(NamedTuple):
    """A match: [start, end) of the normalised text, and the rule that made it."""

    start: int
    end: int
    category: str
    rule: str


@dataclass(frozen=True, slots=True)
class Trail:
    """
    A compiled phrase; as an excuse (`unless`) it cancels what it overlaps, or what is
    no more than `reach` characters away.
    """

    elements: tuple[Element, ...]
    category: str
    rule: str  # "" for an excuse of the whole category
    reach: int | None  # of an excuse

    @property
    def excuse(self) -> bool:
        """Does it cancel, where others match?"""
        return self.reach is not None

    def width(self) -> int:
        """How many words it may have at most, before its last element."""
        return sum(e.gap if e.gap else SMALL_WORDS + e.longest() for e in self.elements)

    def needs(self) -> Iterator[Element]:
        """The elements without which it cannot match, the first one first."""
        return (e for e in self.elements if not (e.gap or e.optional))


class _Led(NamedTuple):
    """A trail, all that it needs, those after the first, the last one first; width."""

    trail: Trail
    needs: frozenset[int]
    later: tuple[int, ...]
    width: int


@dataclass(frozen=True, slots=True)
class Category:
    """
    What a category does to an item.

    Attributes:
        enough: The points that its rules must have together, near each other; with
            0 each rule holds by itself.
        points: What each rule has, by name; one below 0 speaks against.
    """

    name: str
    action: Literal["allow", "hold", "block"]
    severity: int
    enough: int = 0
    points: Mapping[str, int] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Rulebook:
    """
    Every rule of a folder, compiled.  Immutable; one is shared by all items.

    Attributes:
        categories: By name.
        trails: Phrases and excuses.
        needs: For each trail the numbers of the elements it needs, the first one
            first.
        heard: Word, or stem with a star, to the elements that it may begin.
        speller: What misspelt words of a text may say; None: as they stand.
        small: Words that may stand anywhere inside a phrase.
    """

    categories: Mapping[str, Category]
    trails: tuple[Trail, ...]
    patterns: tuple[tuple[re.Pattern[str], str, str], ...]
    vocabulary: Vocabulary
    needs: tuple[tuple[int, ...], ...] = field(repr=False)
    heard: Mapping[str, Sequence[int]] = field(repr=False)
    speller: Speller | None = field(repr=False)
    small: frozenset[str] = field(repr=False)
    # Trails and all that they need, by the element that they begin with.
    led: dict[int, list[_Led]] = field(init=False, repr=False)
    # What words may begin: a memory, for all texts.
    known: dict[str, list[int]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        led: dict[int, list[_Led]] = {}
        for trail, needs in zip(self.trails, self.needs, strict=True):
            one = _Led(trail, frozenset(needs), needs[:0:-1], trail.width())
            led.setdefault(needs[0], []).append(one)
        object.__setattr__(self, "led", led)
        object.__setattr__(self, "known", {})

    def hits(self, text: Normalised) -> list[Hit]:
        """What the rules find, without what is excused, in the text's order."""
        found: list[Hit] = []
        excuses: list[Hit] = []
        lattice = Lattice(text, self.vocabulary, self.speller, self.small)
        begun = lattice.begun = self._begun(lattice)
        # Nearly every phrase needs a word that is nowhere in the text: leaving
        # those out first is what makes a text cost milliseconds.
        present = set().union(*begun)
        led: dict[int, list[_Led]] = {}
        for first in present & self.led.keys():
            if some := [one for one in self.led[first] if one.needs <= present]:
                led[first] = some
        leading = set(led)
        later = {e for some in led.values() for one in some for e in one.later}
        places: dict[int, list[int]] = {element: [] for element in later}
        for node, elements in enumerate(begun):
            for element in later & elements:
                places[element].append(node)
        count: Counter[tuple[str, str]] = Counter()  # no rule may crowd others out
        for node, elements in enumerate(begun):
            for one in [o for e in leading & elements for o in led[e]]:
                trail = one.trail
                # Most phrases begin somewhere and go on nowhere near.
                if not text.loose and not all(
                    _within(places[e], node, node + one.width) for e in one.later
                ):
                    continue
                rule = (trail.category, trail.rule)
                if not trail.excuse and count[rule] >= MAX_HITS:
                    continue
                if end := walk(lattice, trail.elements, node, 0):
                    start, reach = lattice.starts[node], trail.reach
                    if reach is None:
                        found.append(Hit(start, end, *rule))
                        count[rule] += 1
                    else:
                        excuses.append(Hit(start - reach, end + reach, *rule))
        for pattern, category, name in self.patterns:
            found += [
                Hit(*match.span(), category, name)
                for match in islice(pattern.finditer(text.text), MAX_HITS)
                if match.end() > match.start()
            ]
        return self._enough(_without(found, excuses))

    def _enough(self, hits: list[Hit]) -> list[Hit]:
        """Without the signs that are too few: see `Category.enough`."""
        few = {n: c for n, c in self.categories.items() if c.enough}
        if few.keys().isdisjoint(hit.category for hit in hits):
            return hits
        kept = [hit for hit in hits if hit.category not in few]
        for name, category in few.items():
            kept += _together([h for h in hits if h.category == name], category)
        return sorted(kept)

    def _begun(self, lattice: Lattice) -> list[set[int]]:
        """For each node, the elements that its words may begin."""
        known = self.known
        if len(known) > KNOWN_WORDS:
            known.clear()
        begun: list[set[int]] = []
        for node in range(len(lattice)):
            here = {-1}
            for edge in lattice.edges(node):
                for word in edge.readings:
                    if word not in known:
                        known[word] = list(self._begins(word))
                    here.update(known[word])
            begun.append(here)
        return begun

    def _begins(self, word: str) -> Iterator[int]:
        yield from self.heard.get(word, ())
        for n in range(3, len(word) + 1):  # no stem is shorter
            yield from self.heard.get(f"{word[:n]}*", ())


def _within(places: Sequence[int], start: int, end: int) -> bool:
    """Is one of `places`, which are in order, in [start, end]?"""
    at = bisect_left(places, start)
    return at < len(places) and places[at] <= end


def _without(found: list[Hit], excuses: list[Hit]) -> list[Hit]:
    """Hits that no excuse of their category (or rule) overlaps, each rule once."""
    kept: list[Hit] = []
    for hit in sorted(set(found)):
        if any(
            excuse.category == hit.category
            and excuse.rule in ("", hit.rule)
            and excuse.start < hit.end
            and hit.start < excuse.end
            for excuse in excuses
        ):
            continue
        # Two phrases of one rule over the same words are one reason.
        within = (k for k in reversed(kept) if k[2:] == hit[2:])
        before = next(within, None)
        if before and hit.start < before.end:
            if hit.end > before.end:
                kept[kept.index(before)] = Hit(before.start, hit.end, *hit[2:])
            continue
        kept.append(hit)
    return kept


def _together(signs: Sequence[Hit], category: Category) -> Iterator[Hit]:
    """Those of `signs`, in the text's order, that have points enough together."""
    past = kept = 0  # before these: no longer looked at, and given out
    for first, sign in enumerate(signs):
        while past < len(signs) and signs[past].start <= sign.start + TOGETHER:
            past += 1
        rules = {near.rule for near in signs[first:past]}
        if sum(category.points[rule] for rule in rules) >= category.enough:
            for near in signs[max(first, kept) : past]:
                if category.points[near.rule] > 0:
                    yield near
            kept = past
