"""
What is shown of a page in doubt, and how far two texts agree.

A person who must decide is shown the lines in doubt, cut out of the page, with
what each reader made of them.

`agreement` also runs in the worker; the rest runs jailed, with the page.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

from stages.layout import Layout, ReadLine
from stages.reading.placing import turned_box
from stages.reading.protocol import Cutting

if TYPE_CHECKING:
    from PIL.Image import Image

SAME_WORD = 0.75  # similarity, 0-1: one character of five may differ
PICTURE_SIDE = 1400  # pixels of the small copy a person, or a model, looks at
PICTURE_QUALITY = 60
CROPS_MAX = 8
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


def cuttings(picture: Image, layout: Layout) -> tuple[Cutting, ...]:
    """
    Lines with words in doubt, the worst first.

    Args:
        picture: As it was read: turned, where the layout says so.
    """
    doubted = [
        (sum(word.confidence for word in line.words) / len(line.words), number, line)
        for number, line in enumerate(layout.lines)
        if any(word.doubtful for word in line.words)
    ]
    return tuple(
        Cutting(
            line=number,
            box=line.box,
            readings=readings(line),
            png=packed(
                cut(picture, turned_box(line.box, layout)), "PNG", compress_level=1
            ),
        )
        for _, number, line in sorted(doubted, key=lambda one: one[0])[:CROPS_MAX]
    )


def readings(line: ReadLine) -> tuple[str, ...]:
    """What each reader made of a line; one where they do not differ."""
    first = " ".join(word.other or word.text for word in line.words)
    return (first, line.text) if first != line.text else (line.text,)


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
