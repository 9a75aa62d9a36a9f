"""
Placing: what a reader found on a picture, as the layout of its page.

A picture may have been turned before it was read; a layout's boxes lie on the page as
it came.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from stages.layout import Layout, ReadBlock, ReadLine, ReadWord, Turn, around, unturned
from stages.reading.engines import Word
from stages.reading.judging import CALIBRATION, DOUBTED, on_scale


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
