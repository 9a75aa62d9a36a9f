"""
Placing: the words of a page, each with what is thought of it, as its layout.

A picture may have been turned before it was read; a layout's boxes lie on the page as
it came.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count, groupby
from typing import NamedTuple

from stages.layout import (
    TURNED_BACK,
    Box,
    Layout,
    ReadBlock,
    ReadLine,
    ReadWord,
    Turn,
    around,
    unturned,
)
from stages.reading.words import Word


class Weighed(NamedTuple):
    """
    A word and what is thought of it.

    Attributes:
        confidence: That it is right, 0-100, whoever read it.
        other: What another reader made of the place.
    """

    word: Word
    confidence: float
    doubtful: bool
    other: str = ""


def layout_of(
    words: Sequence[Weighed],
    reader: str,
    size: tuple[int, int],
    dpi: int,
    *,
    turned: Turn = 0,
    language: str = "",
) -> Layout:
    """
    Words, in the order they are read, as blocks and lines.

    Args:
        size: Width and height of the picture that was read, in pixels.
        turned: Degrees clockwise by which the page had been turned to make it.
    """
    width, height = size if turned in (0, 180) else (size[1], size[0])

    def placed(weighed: Weighed) -> ReadWord:
        return ReadWord(
            text=weighed.word.text,
            box=unturned(weighed.word.box, turned, width, height),
            confidence=round(weighed.confidence, 1),
            doubtful=weighed.doubtful,
            other=weighed.other,
        )

    blocks = []
    for _, block in groupby(words, key=lambda weighed: weighed.word.block):
        lines = []
        for _, line in groupby(block, key=lambda weighed: weighed.word.line):
            read = tuple(placed(weighed) for weighed in line)
            lines.append(ReadLine(box=around([w.box for w in read]), words=read))
        box = around([line.box for line in lines])
        blocks.append(ReadBlock(box=box, lines=tuple(lines)))
    return Layout(
        width=width,
        height=height,
        dpi=dpi,
        turned=turned,
        source="ocr",
        reader=reader,
        language=language,
        blocks=tuple(blocks),
    )


def words_of(layout: Layout) -> tuple[Word, ...]:
    """The words of a layout on the picture that was read, for another reader."""
    numbers = count()
    return tuple(
        Word(word.text, turned_box(word.box, layout), word.confidence, place, number)
        for place, block in enumerate(layout.blocks)
        for line, number in zip(block.lines, numbers, strict=False)
        for word in line.words
    )


def turned_box(box: Box, layout: Layout) -> Box:
    """A box of the page on the picture that was read."""
    width, height = layout.width, layout.height
    if layout.turned in (90, 270):
        width, height = height, width
    return unturned(box, TURNED_BACK[layout.turned], width, height)


def with_crops(layout: Layout, crops: dict[int, str]) -> Layout:
    """The layout, its lines with their pictures by number."""
    numbers = count()
    blocks = tuple(
        block.model_copy(
            update={
                "lines": tuple(
                    line.model_copy(update={"crop": crops.get(next(numbers), "")})
                    for line in block.lines
                )
            }
        )
        for block in layout.blocks
    )
    return layout.model_copy(update={"blocks": blocks})
