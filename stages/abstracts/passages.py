"""
The passages in which a model reads a contract: each short enough to be shown whole.

A section is a passage of its own.  A long one is cut where words end, each part with
the last words of the one before; of a contract with very many the small neighbours
are one passage together, so that a list of all of them fits into a question.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from stages.clauses.sections import Section

MOST = 300  # passages of a contract; beyond that its end is not offered
LONG = 12_000  # bytes of one, at most
OVERLAP = 600  # characters: a sentence that a cut goes through stands whole in one part
SMALL = 500  # bytes of neighbours that are joined first
WORD = re.compile(r"\s")


class Passage(NamedTuple):
    """`[start, end)` of the text, code points; `label` says what stands there."""

    name: str
    label: str
    start: int
    end: int


def passages_of(text: str, sections: Sequence[Section]) -> list[Passage]:
    """Passages `s1`, `s2`, … that cover the sections, in order."""
    pieces = [piece for section in sections for piece in _parts(text, section)]
    joined, small = pieces, SMALL
    while len(joined) > MOST and small <= LONG:
        joined = _joined(text, pieces, small)
        small *= 2
    return [
        piece._replace(name=f"s{number}")
        for number, piece in enumerate(joined[:MOST], 1)
    ]


def _parts(text: str, section: Section) -> list[Passage]:
    """A section, or its parts."""
    label = f"{section.number} {section.heading}".strip()
    found: list[Passage] = []
    start = section.start
    while True:
        # One more than fits, so that a part costs its own length and not all the rest.
        end = start + _fitting(text[start : min(section.end, start + LONG + 1)])
        part = (
            f"{label} (part {len(found) + 1})" if found or end < section.end else label
        )
        found.append(Passage("", part, start, end))
        if end >= section.end:
            return found
        start = end - OVERLAP


def _fitting(text: str) -> int:
    """How many of its characters are one passage."""
    most = len(text.encode()[:LONG].decode(errors="ignore"))
    if most == len(text):
        return most
    gap = WORD.search(text, most - OVERLAP, most)
    return gap.start() if gap else most


def _joined(text: str, pieces: Sequence[Passage], small: int) -> list[Passage]:
    """Neighbours together, as long as they are no more than so many bytes."""
    found: list[Passage] = []
    for piece in pieces:
        last = found[-1] if found else None
        if last is None or len(text[last.start : piece.end].encode()) > small:
            found.append(piece)
            continue
        label = f"{last.label.partition(' … ')[0]} … {piece.label}"
        found[-1] = Passage("", label, last.start, piece.end)
    return found
