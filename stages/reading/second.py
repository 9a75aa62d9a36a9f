"""
The second reader, and what the two readings of a page come to.

Its words are the text, in an order that the page's structure gives; the first
reader's are the check.  What only the first found, and is sure of, is added: a lone
figure in a column is easily overlooked.

Where the first reader is certain of a page it is asked for the numbers alone, for
nothing around a number tells that it is wrong: `numbers`.

Runs jailed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from stages.layout import Box, Layout
from stages.reading import engines, rapid
from stages.reading.agreeing import (
    Checked,
    checked,
    digits,
    is_number,
    plain,
    same_written,
)
from stages.reading.compare import agreement
from stages.reading.judging import DOUBTED, TESSERACT, mean_of, on_scale, sure_of
from stages.reading.placing import Weighed
from stages.reading.structure import in_order
from stages.reading.words import Word

if TYPE_CHECKING:
    from PIL.Image import Image

# Calibrated confidence at which words that only the first reader found are believed.
ADDED, ADDED_FIGURE = 96.0, 83.0
# Cursive letters had a mean score of 67-94, and 0-0.34 of their words in common with
# the first reading; print had 95.2 and more, 97.6 where little was in common.
PRINTED = 96.0
DOUBT = 75.0  # a word below is in doubt, whatever the other reader says
# What may be read beside a text layer: characters, or a share of those it has.
STRANGE_MIN, STRANGE_SHARE = 8, 0.05
SAME_TEXT = 0.8  # share of words that the layer and the readers have in common
DOUBT_NUMBER = 85.0  # nothing around a number tells that it is wrong
# Of its height, what is cut out around a number, on its sides and above and below: less
# than there is to its neighbours.
BESIDE, ABOVE = 0.4, 0.25


class Both(NamedTuple):
    """
    What two readings of a page come to.

    Attributes:
        words: As they are read.
        jumbled: Nobody can be sure of their order.
        written: By hand, it seems: neither reader is at home in it.
    """

    words: list[Weighed]
    jumbled: bool
    written: bool


def both(
    picture: Image, first: Sequence[Word], *, strict: bool, agree_above: float
) -> Both:
    """
    Read a picture, and judge each word by what the first reader found there.

    Args:
        first: With calibrated confidence.
        strict: Every word that they read differently is in doubt.
        agree_above: Share of words in common, 0-1, that no handwriting has.

    Raises:
        Permanent: ENGINE_MISSING.
    """
    found = engines.engine(rapid.NAME).read(picture, dpi=0, lang="", psm=0)
    added = overlooked(found, first)
    words, jumbled = in_order([*found, *added])
    alone = {(word.text, word.box) for word in added}
    seen = checked(words, first)
    same = mean_of([(one.word.text, 100.0 * one.same) for one in seen])
    score = mean_of([(word.text, word.confidence) for word in found])
    return Both(
        [
            single(one.word)
            if (one.word.text, one.word.box) in alone
            else weighed(one, strict=strict)
            for one in seen
        ],
        jumbled,
        written=score < PRINTED and same < 100 * agree_above,
    )


def numbers(picture: Image, first: Sequence[Word]) -> list[Weighed]:
    """
    The first reader's words, its numbers read again.

    Args:
        first: With calibrated confidence, by lines.

    Raises:
        Permanent: ENGINE_MISSING.
    """
    engines.engine(rapid.NAME)
    asked = [word for word in first if is_number(word.text)]
    boxes = [with_margin(word, first, picture.size) for word in asked]
    found = iter(rapid.pieces_at(picture, boxes))
    low = on_scale(TESSERACT, DOUBTED)
    return [
        settled(word, next(found).words)
        if is_number(word.text)
        else Weighed(word, word.confidence, word.confidence < low)
        for word in first
    ]


def settled(word: Word, said: Sequence[Word]) -> Weighed:
    """A number of the first reader's, and what the second reads in its place."""
    other = "".join(w.text for w in said)
    if not is_number(other):
        return single(word)
    score = mean_of([(w.text, w.confidence) for w in said])
    if digits(other) != digits(word.text):
        sure = sure_of(score, same=False)
        return Weighed(word._replace(text=other), sure, True, word.text)
    sure = sure_of(score, same=True)
    if not same_written(word.text, other):
        return Weighed(word, min(sure, DOUBT), True, other)
    return Weighed(word, sure, sure < DOUBT)


def with_margin(word: Word, words: Sequence[Word], size: tuple[int, int]) -> Box:
    """What to cut out around a word of a page: not its neighbours."""
    left, top, right, bottom = word.box
    beside, above = round(BESIDE * (bottom - top)), round(ABOVE * (bottom - top))
    mates = [w.box for w in words if w.line == word.line]
    before = max((box[2] for box in mates if box[2] <= left), default=0)
    after = min((box[0] for box in mates if box[0] >= right), default=size[0])
    return (
        max(left - beside, (left + before) // 2, 0),
        max(top - above, 0),
        min(right + beside, (right + after + 1) // 2, size[0]),
        min(bottom + above, size[1]),
    )


def weighed(one: Checked, *, strict: bool) -> Weighed:
    """A word of the second reader's."""
    sure = sure_of(one.word.confidence, same=one.same)
    number = is_number(one.word.text)
    doubtful = (
        one.contradicted
        or sure < (DOUBT_NUMBER if number and not one.same else DOUBT)
        or (strict and not one.same)
    )
    return Weighed(one.word, sure, doubtful, one.other)


def single(word: Word) -> Weighed:
    """A word that only the first reader found."""
    return Weighed(word, min(word.confidence, DOUBT), True)


def overlooked(found: Sequence[Word], first: Sequence[Word]) -> list[Word]:
    """What the first reader is sure of, and stands where the second found nothing."""
    line = 1 + max((word.line for word in found), default=0)
    lost = [
        word
        for word in first
        if word.confidence >= (ADDED_FIGURE if word.text.isdigit() else ADDED)
        and any(c.isalnum() for c in word.text)
        and not any(holds(other, word) for other in found)
    ]
    return [
        word._replace(block=line + place, line=line + place)
        for place, word in enumerate(lost)
    ]


def holds(one: Word, other: Word) -> bool:
    """Whether the middle of `other` lies in `one`, or closely beside it."""
    x, y = (other.box[0] + other.box[2]) / 2, (other.box[1] + other.box[3]) / 2
    left, top, right, bottom = one.box
    near = (bottom - top) / 2
    return left - near <= x <= right + near and top <= y <= bottom


def confirm(
    words: Sequence[Weighed], layer: Layout | None, size: tuple[int, int]
) -> bool:
    """
    Whether what is read on a page is what its text layer says, and no more.

    Args:
        size: Of the picture on which the words were read, in pixels.
    """
    if layer is None:
        return False
    across, down = size[0] / layer.width, size[1] / layer.height
    known = []
    for left, top, right, bottom in (line.box for line in layer.lines):
        box = (left * across, top * down, right * across, bottom * down)
        known.append(Word("", tuple(map(round, box)), 0.0, 0, 0))  # type: ignore[arg-type]
    within = [one.word for one in words if any(holds(w, one.word) for w in known)]
    said = " ".join(word.text for word in within)
    new = sum(len(plain(one.word.text)) for one in words) - len(plain(said))
    allowed = max(STRANGE_MIN, STRANGE_SHARE * len(plain(layer.text)))
    return new <= allowed and agreement(layer.text, said) >= SAME_TEXT
