"""
Where a person's text stands: on the lines that a reader found, where there are as many,
and else evenly down the page, so that a search finds the page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stages.layout import Box, Layout, ReadBlock, ReadLine, ReadWord, around

CERTAIN = 100.0
EDGE = 0.05  # of a page's height and width, above, below and left of its text
POINTS_MAX = 12.0  # height of a line


def on_lines(text: str, layout: Layout) -> Layout | None:
    """The text on the lines of a reading; None where it has more or fewer."""
    given = [line for line in text.splitlines() if line.strip()]
    found = [len(block.lines) for block in layout.blocks]
    if len(given) != sum(found):
        return None
    rest = iter(given)
    blocks = [
        ReadBlock(
            box=block.box,
            lines=tuple(_line(next(rest), line.box) for line in block.lines),
        )
        for block in layout.blocks
    ]
    return layout.model_copy(update={"blocks": tuple(blocks), "reader": "person"})


def down_the_page(text: str, width: float, height: float) -> Layout | None:
    """The text on a page of so many points; None where there is no text."""
    given = [line for line in text.splitlines() if line.strip()]
    if not given:
        return None
    high = height * (1 - 2 * EDGE) / len(given)
    tall = max(1, int(min(high, POINTS_MAX)))
    lines = []
    for number, line in enumerate(given):
        top = int(height * EDGE + number * high)
        across = min(int(width * (1 - 2 * EDGE)), max(1, len(line) * tall // 2))
        left = int(width * EDGE)
        lines.append(_line(line, (left, top, left + across, top + tall)))
    block = ReadBlock(box=around([line.box for line in lines]), lines=tuple(lines))
    return Layout(
        width=max(1, round(width)),
        height=max(1, round(height)),
        dpi=72,
        source="ocr",
        reader="person",
        blocks=(block,),
    )


def _line(text: str, box: Box) -> ReadLine:
    words = tuple(
        ReadWord(text=word, box=place, confidence=CERTAIN)
        for word, place in _spread(text.split(), box)
    )
    return ReadLine(box=box, words=words)


def _spread(words: Sequence[str], box: Box) -> Iterator[tuple[str, Box]]:
    """Words with their share of a line, by their characters."""
    left, top, right, bottom = box
    chars = sum(map(len, words)) + max(0, len(words) - 1)
    at = 0
    for word in words:
        begin, end = at, at + len(word)
        across = (right - left) / max(1, chars)
        first = left + int(begin * across)
        yield word, (first, top, max(first + 1, left + int(end * across)), bottom)
        at = end + 1
