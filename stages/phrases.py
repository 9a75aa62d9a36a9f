"""
Phrases along a text: words in order, with gaps, choices and optional words.

A `Lattice` lists the words of a `Normalised` text and, where it was written
letter by letter, every way to cut it into words.  `walk` follows a phrase's
elements along it, trying every reading of every word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from stages.normaliser import Normalised

GAP_WORDS = 3  # what a gap may skip
LOOSE_WORD = 14  # letters of the longest word looked for in spelled-out text

WORD = re.compile(r"[^\W_]+")
_SENTENCE_END = re.compile(r"[.!?;]")

# -- the words of a text, with their alternatives --------------------------------------


class Edge(NamedTuple):
    """A word that may begin at a node: its readings, where it ends, what is next."""

    readings: tuple[str, ...]
    end: int
    next: int


class Lattice:
    """The words of a normalised text; in loose ranges every way to cut them."""

    def __init__(self, text: Normalised, words: Vocabulary) -> None:
        self.starts: list[int] = []
        self.breaks: list[bool] = []  # does a sentence end just before the node?
        loose = {at for start, end in text.loose for at in range(start, end)}
        spans: list[tuple[int, int]] = []  # of the word each node stands in
        last = 0
        for match in WORD.finditer(text.text):
            start, end = match.span()
            apart = text.text[last:start]
            ends_here = bool(_SENTENCE_END.search(apart)) and bool(last)
            nodes = range(start, end) if start in loose else range(start, start + 1)
            self.starts += nodes
            self.breaks += [ends_here, *[False] * (len(nodes) - 1)]
            spans += [(start, end)] * len(nodes)
            last = end
        self._spans = spans
        self._text = text
        self._words = words
        self._edges: dict[int, list[Edge]] = {}

    def __len__(self) -> int:
        return len(self.starts)

    def edges(self, node: int) -> list[Edge]:
        """The words that may begin at `node`."""
        known = self._edges.get(node)
        if known is None:
            known = self._edges[node] = self._look(node)
        return known

    def _look(self, node: int) -> list[Edge]:
        at = self.starts[node]
        start, end = self._spans[node]
        in_loose = node + 1 < len(self.starts) and self.starts[node + 1] < end
        if at == start and not in_loose:
            return [Edge(self._text.readings(at, end), end, node + 1)]
        left = end - at  # nodes of a loose word lie letter by letter
        edges = [Edge(self._text.readings(at, end), end, node + left)]
        for length in range(1, min(LOOSE_WORD + 1, left)):
            readings = self._text.readings(at, at + length)
            if length == 1 or any(self._words.knows(word) for word in readings):
                edges.append(Edge(readings, at + length, node + length))
        return edges


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
    chains: tuple[tuple[Element, ...], ...] = ()  # entries of several words
    optional: bool = False
    gap: bool = False

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
    if node < len(lattice):
        for edge in lattice.edges(node):
            if first.reads(edge.readings) and (
                found := walk(lattice, rest, edge.next, edge.end)
            ):
                return found
        for chain in first.chains:
            if found := walk(lattice, (*chain, *rest), node, end):
                return found
    return walk(lattice, rest, node, end) if first.optional else 0


def _skip(lattice: Lattice, rest: Sequence[Element], node: int, end: int) -> int:
    """Go on after none to GAP_WORDS words of the same sentence."""
    for _ in range(GAP_WORDS + 1):
        if node >= len(lattice) or lattice.breaks[node]:
            return 0
        if found := walk(lattice, rest, node, end):
            return found
        # In spelled-out text: the longest word known there, or one letter.
        node = max(lattice.edges(node)[1:] or lattice.edges(node), key=_reach).next
    return 0


def _reach(edge: Edge) -> int:
    return edge.end
