"""
Phrases along a text: words in order, with gaps, choices and optional words.

A `Lattice` lists the words of a `Normalised` text and, where it was written
letter by letter, every way to cut it into words.  `walk` follows a phrase's
elements along it, trying every reading of every word.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from stages.rules.normaliser import Normalised
from stages.rules.spelling import SURE, Speller

GAP_WORDS = 3  # what a gap may skip
SMALL_WORDS = 3  # that may stand between two words of a phrase, beside gaps
LETTERS = 8  # of spelled-out text, that count as one word of a gap

LOOSE_WORD = 14  # letters of the longest word looked for in spelled-out text

WORD = re.compile(r"[^\W_]+")
_SENTENCE_END = re.compile(r"[.!?;]")

Chain: TypeAlias = "tuple[Element, ...]"  # an entry of several words

# -- the words of a text, with their alternatives --------------------------------------


class Edge(NamedTuple):
    """A word that may begin at a node: its readings, where it ends, what is next."""

    readings: tuple[str, ...]
    end: int
    next: int
    sure: tuple[str, ...]  # readings that need no other word beside them


class Lattice:
    """The words of a normalised text; in loose ranges every way to cut them."""

    def __init__(
        self,
        text: Normalised,
        words: Vocabulary,
        speller: Speller | None = None,
        small: Collection[str] = (),
    ) -> None:
        self.starts: list[int] = []
        self.breaks: list[bool] = []  # does a sentence end just before the node?
        self._loose = {at for start, end in text.loose for at in range(start, end)}
        # May a phrase pass over the word, which changes nothing of what is said?
        self.passed: list[bool] = []
        self._ends: list[int] = []  # of the word each node stands in
        last = run = 0
        for match in WORD.finditer(text.text):
            start, end = match.span()
            apart = text.text[last:start]
            ends_here = bool(_SENTENCE_END.search(apart)) and bool(last)
            nodes = (
                range(start, end) if start in self._loose else range(start, start + 1)
            )
            self.starts += nodes
            self.breaks += [ends_here, *[False] * (len(nodes) - 1)]
            self._ends += [end] * len(nodes)
            run = run + 1 if text.text[start:end] in small else 0
            # Of a long run the first few, or repeating them would be a way to be slow.
            self.passed += [0 < run <= SMALL_WORDS and not ends_here] * len(nodes)
            last = end
        # Numbers of the elements that may begin at each node; -1 is a part of a
        # chain, which is always tried.
        self.begun: list[set[int]] = []
        self._ends_of: dict[tuple[int, int], list[tuple[int, int]]] = {}
        self._text = text
        self._words = words
        self._speller = speller
        self._edges: dict[int, list[Edge]] = {}

    def __len__(self) -> int:
        return len(self.starts)

    def loose(self, node: int) -> bool:
        """Does it stand in text that was written letter by letter?"""
        return self.starts[node] in self._loose

    def edges(self, node: int) -> list[Edge]:
        """The words that may begin at `node`."""
        known = self._edges.get(node)
        if known is None:
            known = self._edges[node] = self._look(node)
        return known

    def ends(self, element: Element, node: int) -> list[tuple[int, int]]:
        """For each match of `element` at `node`: the next node, and where it ends."""
        if node >= len(self.starts) or element.number not in self.begun[node]:
            return []
        if element.number < 0:
            return list(self._match(element, node))
        # Many phrases ask for `my {adult}`: the answer is found once a place.
        known = self._ends_of.get((element.number, node))
        if known is None:
            known = list(self._match(element, node))
            self._ends_of[element.number, node] = known
        return known

    def _match(self, element: Element, node: int) -> Iterator[tuple[int, int]]:
        begun: list[Chain] = list(element.stemmed)
        for edge in self.edges(node):
            if element.reads(edge.sure if element.alone else edge.readings):
                yield edge.next, edge.end
            for word in edge.readings if element.opened else ():
                begun += element.opened.get(word, ())
        for chain in begun:
            places = [(node, 0)]
            for part in chain:
                places = [end for at, _ in places for end in self.ends(part, at)]
                if not places:
                    break
            yield from places

    def _look(self, node: int) -> list[Edge]:
        at, end = self.starts[node], self._ends[node]
        if not self.loose(node):
            return [self._word(at, end, node + 1)]
        left = end - at  # nodes of a loose word lie letter by letter
        edges = [self._word(at, end, node + left)]
        for length in range(1, min(LOOSE_WORD + 1, left)):
            readings = self._text.readings(at, at + length)
            if length == 1 or any(self._words.knows(word) for word in readings):
                edges.append(Edge(readings, at + length, node + length, readings))
        return edges

    def _word(self, at: int, end: int, after: int) -> Edge:
        """The word `text[at:end]`, as it stands and as it may have been meant."""
        plain = self._text.readings(at, end)
        if self._speller is None:
            return Edge(plain, end, after, plain)
        meant = self._speller.readings(plain)
        sure = (*plain, *(word for word in meant if len(word) >= SURE))
        return Edge((*plain, *meant), end, after, sure)


class Vocabulary:
    """Every word that a rulebook speaks of: exact ones and beginnings."""

    def __init__(self) -> None:
        self.exact: set[str] = set()
        self.stems: set[str] = set()

    def add(self, word: str) -> None:
        """Learn a word, or with a final star a beginning."""
        if word.endswith("*"):
            self.stems.add(word[:-1])
        else:
            self.exact.add(word)

    def knows(self, word: str) -> bool:
        """Is it one of the words, or does it begin like one?"""
        return word in self.exact or any(
            word[:n] in self.stems for n in range(3, len(word) + 1)
        )


# -- phrases ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Element:
    """One place of a phrase: any of some words, or up to GAP_WORDS of any."""

    exact: frozenset[str] = frozenset()
    stems: tuple[str, ...] = ()
    chains: tuple[Chain, ...] = ()  # entries of several words
    optional: bool = False
    gap: bool = False
    alone: bool = False  # all that its phrase asks for: no respelling of short words
    number: int = field(default=-1, compare=False)  # in its rulebook
    opened: Mapping[str, Sequence[Chain]] = field(init=False, compare=False)
    stemmed: tuple[Chain, ...] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        # Chains by their first word, and those that begin with a stem.
        opened: dict[str, list[Chain]] = {}
        stemmed: list[Chain] = []
        for chain in self.chains:
            for word in set(chain[0].beginnings()):
                if not word.endswith("*"):
                    opened.setdefault(word, []).append(chain)
                elif chain not in stemmed:
                    stemmed.append(chain)
        object.__setattr__(self, "opened", opened)
        object.__setattr__(self, "stemmed", tuple(stemmed))

    def reads(self, readings: Sequence[str]) -> bool:
        """Is one of the readings one of the words?"""
        if not self.exact.isdisjoint(readings):
            return True
        return bool(self.stems) and any(r.startswith(self.stems) for r in readings)

    def beginnings(self) -> Iterator[str]:
        """What a text must begin with here: words, and stems with a star."""
        yield from self.exact
        yield from (f"{stem}*" for stem in self.stems)
        for chain in self.chains:
            yield from chain[0].beginnings()

    def words(self) -> Iterator[str]:
        """Every word of it, stems with a star."""
        yield from self.exact
        yield from (f"{stem}*" for stem in self.stems)
        for chain in self.chains:
            for part in chain:
                yield from part.words()


def walk(lattice: Lattice, elements: Sequence[Element], node: int, end: int) -> int:
    """
    Where a phrase that goes on at `node` ends, or 0 when it does not match.

    `end` is where the words so far end.  Depth and width are bounded by
    MAX_GAPS, GAP_WORDS and the optional words of a phrase.
    """
    if not elements:
        return end
    first, rest = elements[0], elements[1:]
    if first.gap:
        return _skip(lattice, rest, node, end)
    for after, to in lattice.ends(first, node):
        if found := walk(lattice, rest, after, to):
            return found
    if first.optional and (found := walk(lattice, rest, node, end)):
        return found
    if end and node < len(lattice) and lattice.passed[node]:
        return walk(lattice, elements, node + 1, end)
    return 0


def _skip(lattice: Lattice, rest: Sequence[Element], node: int, end: int) -> int:
    """Go on after none to GAP_WORDS words of the same sentence."""
    left = GAP_WORDS * LETTERS
    while left >= 0 and node < len(lattice.starts) and not lattice.breaks[node]:
        if found := walk(lattice, rest, node, end):
            return found
        # Spelled-out text may be cut anywhere: a letter there is part of a word.
        left -= 1 if lattice.loose(node) else LETTERS
        node += 1
    return 0
