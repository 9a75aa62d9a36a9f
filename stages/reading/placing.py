"""
Placing: what a reader found on a picture, as the layout of its page.

A picture may have been turned before it was read; a layout's boxes lie on the page as
it came.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Literal

from stages.layout import Box, Layout, ReadBlock, ReadLine, ReadWord, around
from stages.reading.engines import Word
from stages.reading.judging import CALIBRATION, DOUBTED, on_scale

Turn = Literal[0, 90, 180, 270]


def layout_of(
    words: Sequence[Word],
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
    scale = CALIBRATION[reader]

    def placed(word: Word) -> ReadWord:
        return ReadWord(
            text=word.text,
            box=unturned(word.box, turned, width, height),
            confidence=round(on_scale(scale, word.confidence), 1),
            doubtful=word.confidence < DOUBTED,
        )

    blocks = []
    for _, block in groupby(words, key=lambda word: word.block):
        lines = []
        for _, line in groupby(block, key=lambda word: word.line):
            read = tuple(placed(word) for word in line)
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


def unturned(box: Box, turned: Turn, width: int, height: int) -> Box:
    """
    A box of the turned picture, on the page as it came.

    Args:
        width: Of the page as it came, like `height`.
    """
    left, top, right, bottom = box
    match turned:
        case 0:
            return box
        case 90:
            return (top, height - right, bottom, height - left)
        case 180:
            return (width - right, height - bottom, width - left, height - top)
        case 270:
            return (width - bottom, left, width - top, right)
