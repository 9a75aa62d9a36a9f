"""
Two readings of a page: how far they agree, where they differ, what to show of it.

A person who must decide is shown the lines in dispute, cut out of the page, with
what each reader made of them.

`agreement` also runs in the worker; the rest runs jailed, with the page.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

from stages.layout import Box, around
from stages.reading.engines import Word
from stages.reading.judging import DOUBTED
from stages.reading.protocol import Cutting, Line

if TYPE_CHECKING:
    from PIL.Image import Image

SAME_WORD = 0.75  # similarity, 0-1: one character of five may differ
SAME_LINE = 0.8  # share of words in common
PICTURE_SIDE = 1400  # pixels of the small copy a person, or a model, looks at
PICTURE_QUALITY = 60
CROPS_MAX = 6
CROP_WIDE_MAX = 1200  # pixels


def agreement(one: str, other: str) -> float:
    """
    The share of words, 0-1, that two readings have in common, in any order.

    Case and punctuation do not count, and a word that differs in one character of
    five is the same word: readers slip, and still saw the same page.
    """
    from rapidfuzz import process
    from rapidfuzz.distance import Levenshtein

    ours, theirs = words_in(one), words_in(other)
    if not ours or not theirs:
        return 0.0
    left = list(theirs)
    common = 0
    for word in ours:
        found = process.extractOne(
            word,
            left,
            scorer=Levenshtein.normalized_similarity,
            score_cutoff=SAME_WORD,
        )
        if found is not None:
            common += 1
            del left[found[2]]
    return common / max(len(ours), len(theirs))


def words_in(text: str) -> list[str]:
    """Words in lower case, without what is around them."""
    return re.findall(r"\w+", text.lower())


def lines_of(words: Sequence[Word]) -> tuple[Line, ...]:
    """The lines of a reading."""
    lines: dict[int, list[Word]] = {}
    for word in words:
        lines.setdefault(word.line, []).append(word)
    return tuple(
        Line(
            box=around([word.box for word in line]),
            text=" ".join(word.text for word in line),
            confidence=round(sum(w.confidence for w in line) / len(line), 1),
        )
        for line in lines.values()
    )


class Dispute(NamedTuple):
    """A place that readers read differently, and what each made of it."""

    box: Box
    readings: tuple[str, ...]


def disputed(first: Sequence[Line], second: Sequence[Line]) -> list[Dispute]:
    """
    Lines that the readers read differently, the worst first.

    Without a second reading, the lines that the first is least sure of.
    """
    if not second:
        doubted = sorted(
            (line for line in first if line.confidence < DOUBTED),
            key=lambda line: line.confidence,
        )
        return [Dispute(line.box, (line.text,)) for line in doubted[:CROPS_MAX]]
    found: list[tuple[float, Dispute]] = []
    for line in first:
        beside = [other for other in second if same_line(line.box, other.box)]
        theirs = " ".join(other.text for other in beside)
        share = agreement(line.text, theirs)
        if share < SAME_LINE:
            box = around([line.box, *(other.box for other in beside)])
            found.append((share, Dispute(box, (line.text, theirs))))
    found.sort(key=lambda pair: pair[0])
    return [dispute for _, dispute in found[:CROPS_MAX]]


def same_line(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether two boxes share most of the lower one's height, and some width."""
    high = min(one[3], other[3]) - max(one[1], other[1])
    wide = min(one[2], other[2]) - max(one[0], other[0])
    least = min(one[3] - one[1], other[3] - other[1])
    return wide > 0 and high > least / 2


def cuttings(picture: Image, disputes: Sequence[Dispute]) -> tuple[Cutting, ...]:
    """The disputed lines as pictures."""
    return tuple(
        Cutting(box=box, readings=readings, png=packed(cut(picture, box), "PNG"))
        for box, readings in disputes
    )


def cut(picture: Image, box: Sequence[int]) -> Image:
    """A line with some of what is around it."""
    left, top, right, bottom = box
    margin = max(8, bottom - top)
    part = picture.crop(
        (
            max(0, left - margin),
            max(0, top - margin // 2),
            min(picture.width, right + margin),
            min(picture.height, bottom + margin // 2),
        )
    )
    part.thumbnail((CROP_WIDE_MAX, CROP_WIDE_MAX))
    return part


def small_picture(picture: Image) -> str:
    """The whole page, for a person or a model to look at: a JPEG, base64."""
    small = picture.copy()
    small.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    return packed(small, "JPEG", quality=PICTURE_QUALITY)


def packed(picture: Image, kind: str, **how: Any) -> str:
    """An image file as base64."""
    file = BytesIO()
    picture.save(file, kind, **how)
    return base64.b64encode(file.getvalue()).decode("ascii")
