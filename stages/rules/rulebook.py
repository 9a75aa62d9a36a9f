"""
A rulebook: every rule of a pipeline folder, compiled, and what they find in a text.

Phrases are matched word by word along a `Normalised` text, trying every reading of
every word, so one phrase also finds its disguises.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal, NamedTuple

from stages.rules.normaliser import Normalised
from stages.rules.phrases import Element, Lattice, Vocabulary, walk
from stages.rules.spelling import Speller

MAX_HITS = 50  # of one rule in one text; a reviewer has long seen enough


class Hit(NamedTuple):
    """A match: [start, end) of the normalised text, and the rule that made it."""

    start: int
    end: int
    category: str
    rule: str


@dataclass(frozen=True, slots=True)
class Trail:
    """A compiled phrase; as an excuse (`unless`) it cancels what it overlaps."""

    elements: tuple[Element, ...]
    category: str
    rule: str  # "" for an excuse of the whole category
    excuse: bool

    def needs(self) -> Iterator[Element]:
        """The elements without which it cannot match, the first one first."""
        return (e for e in self.elements if not (e.gap or e.optional))


@dataclass(frozen=True, slots=True)
class Category:
    """What a category does to an item."""

    name: str
    action: Literal["allow", "hold", "block"]
    severity: int


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

    def hits(self, text: Normalised) -> list[Hit]:
        """What the rules find, without what is excused, in the text's order."""
        found: list[Hit] = []
        excuses: list[Hit] = []
        lattice = Lattice(text, self.vocabulary, self.speller, self.small)
        begun = lattice.begun = self._begun(lattice)
        # Nearly every phrase needs a word that is nowhere in the text: leaving
        # those out first is what makes a text cost milliseconds.
        present = set().union(*begun)
        led: dict[int, list[Trail]] = {}
        for trail, needs in zip(self.trails, self.needs, strict=True):
            if present.issuperset(needs):
                led.setdefault(needs[0], []).append(trail)
        count: Counter[tuple[str, str]] = Counter()  # no rule may crowd others out
        for node, elements in enumerate(begun):
            for trail in [t for e in elements for t in led.get(e, ())]:
                rule = (trail.category, trail.rule)
                if not trail.excuse and count[rule] >= MAX_HITS:
                    continue
                if end := walk(lattice, trail.elements, node, 0):
                    hit = Hit(lattice.starts[node], end, *rule)
                    (excuses if trail.excuse else found).append(hit)
                    count[rule] += not trail.excuse
        for pattern, category, name in self.patterns:
            found += [
                Hit(*match.span(), category, name)
                for match in islice(pattern.finditer(text.text), MAX_HITS)
                if match.end() > match.start()
            ]
        return _without(found, excuses)

    def _begun(self, lattice: Lattice) -> list[set[int]]:
        """For each node, the elements that its words may begin."""
        known: dict[str, list[int]] = {}  # words come again and again
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
