"""
The order in which a person reads what stands on a page.

Lines go across a page, unless it is set in columns: then each column is read to its
end.  Readers find runs of text, and know little of that, so it is told here, for all
of them, by white space and by what stands beside it: columns are of prose, line under
line; of a receipt, a table or a form a row belongs together.
"""

from __future__ import annotations

import re
from bisect import bisect, bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise
from statistics import median

from stages.layout import around
from stages.reading.words import Word

# Words further apart than so many heights of their line are in two runs.  Justified
# text has gaps of one height and less.
APART = 1.8
GUTTER = 0.9  # of a line's height: the least gap between columns
ROWS_MIN = 3  # of a column
WORDS_MIN = 3.0  # in a column's middling line
COLONS_MAX = 0.4  # share of a form's lines that name a field
LETTERS_MIN = 0.75  # share of a column's words that are no numbers
FILL_MIN = 0.55  # of a column's width, by its middling line
WIDER = 1.5  # times as high as usual, a gap between lines ends their block
DOUBT = 0.85  # as near as this to being columns, or rows: nobody can be sure
LEVEL = 0.15  # of a line's height: pieces that differ less stand on one line
NEAR = 40  # runs, above or below in order, that may be level with one
PIECES_MAX = 1500  # a page of more is a newspaper's: its reader's own order is kept


@dataclass(frozen=True, slots=True)
class Run:
    """Words beside each other, and their place when the page is level; pixels."""

    words: tuple[Word, ...]
    left: float
    top: float
    right: float
    bottom: float

    @property
    def middle(self) -> float:
        """Half way down."""
        return (self.top + self.bottom) / 2

    @property
    def high(self) -> float:
        """Its height."""
        return max(1.0, self.bottom - self.top)


@dataclass(frozen=True, slots=True)
class Gutter:
    """A gap from `left` to `right`, and the runs on both sides of it."""

    left: float
    right: float
    runs: tuple[Run, ...]

    def sides(self) -> tuple[list[Run], list[Run]]:
        """Left and right of it, each from the top."""
        middle = self.left + self.right
        return (
            [run for run in self.runs if run.left + run.right < middle],
            [run for run in self.runs if run.left + run.right >= middle],
        )

    def beside(self) -> tuple[list[Run], list[Run]]:
        """Of each side, what stands next to it."""
        before, after = self.sides()
        return (
            [run for run in before if not behind(run, before, -1)],
            [run for run in after if not behind(run, after, 1)],
        )


def in_order(words: Sequence[Word]) -> tuple[list[Word], bool]:
    """
    The words as they are read, their lines and blocks numbered anew.

    Args:
        words: By lines, each from its beginning to its end.

    Returns:
        The words; and whether the order is in doubt.
    """
    runs = runs_of(words)
    if len(runs) > PIECES_MAX:
        return list(words), True
    found: list[Word] = []
    doubts: list[Gutter] = []
    line = 0
    for number, block in enumerate(blocks_of(runs, doubts)):
        for row in block:
            found += [
                word._replace(block=number, line=line)
                for run in row
                for word in run.words
            ]
            line += 1
    return found, bool(doubts)


# -- runs -----------------------------------------------------------------------------


def runs_of(words: Sequence[Word]) -> list[Run]:
    """Lines cut where a wide gap is, as they lie on the level page."""
    cut: list[list[Word]] = []
    for _, line in groupby(words, key=lambda word: (word.block, word.line)):
        last: Word | None = None
        for word in line:
            if last is None or word.box[0] - last.box[2] > APART * height(last, word):
                cut.append([])
            cut[-1].append(word)
            last = word
    lean = level_or(slope(cut), cut)

    def levelled(piece: Sequence[Word]) -> Run:
        left = min(word.box[0] for word in piece)
        right = max(word.box[2] for word in piece)
        downs = [lean * (word.box[0] + word.box[2]) / 2 for word in piece]
        tops = [word.box[1] - down for word, down in zip(piece, downs, strict=True)]
        lows = [word.box[3] - down for word, down in zip(piece, downs, strict=True)]
        return Run(tuple(piece), left, median(tops), right, median(lows))

    return [levelled(piece) for piece in cut]


def height(*words: Word) -> float:
    """Of a line, by some words of it."""
    return max(1.0, median(word.box[3] - word.box[1] for word in words))


def slope(pieces: Sequence[Sequence[Word]]) -> float:
    """By how much lines fall, a pixel a pixel, on a page that lies askew."""
    falls: list[tuple[float, float]] = []
    for piece in pieces:
        first, last = piece[0].box, piece[-1].box
        wide = (last[0] + last[2] - first[0] - first[2]) / 2
        if wide > 2 * height(*piece):
            # Of a level line the tops may differ, or the feet: not by the line's fall.
            down = min(last[1] - first[1], last[3] - first[3], key=abs)
            falls.append((down / wide, wide))
    if len(falls) < ROWS_MIN:
        return 0.0
    falls.sort()
    passed = list(accumulate(wide for _, wide in falls))
    return falls[bisect(passed, passed[-1] / 2)][0]


def level_or(lean: float, pieces: Sequence[Sequence[Word]]) -> float:
    """
    A slope, or 0 where pieces beside each other say that the page is level.

    What is measured on words alone is their shapes too, and in a table's cells they are
    alike: `Wall 10 mm` seems to fall, in every one.
    """

    def beside(lean: float) -> int:
        downs = sorted(
            (box[1] + box[3] - lean * (box[0] + box[2])) / 2
            for box in (around([word.box for word in piece]) for piece in pieces)
        )
        return sum(low - high < near for high, low in pairwise(downs))

    if not lean:
        return lean
    near = LEVEL * height(*(word for piece in pieces for word in piece))
    return lean if beside(lean) >= beside(0.0) else 0.0


# -- blocks ---------------------------------------------------------------------------


def blocks_of(runs: Sequence[Run], doubts: list[Gutter]) -> Iterator[list[list[Run]]]:
    """Blocks of rows of runs; gutters that may or may not be any go to `doubts`."""
    gutter = widest(runs, doubts)
    if gutter is None:
        yield from spaced(rows_of(runs))
        return
    inside = set(map(id, gutter.runs))
    top = min(run.middle for run in gutter.runs)
    others = [run for run in runs if id(run) not in inside]
    above = [run for run in others if run.middle < top]
    below = [run for run in others if run.middle >= top]
    for part in (above, *gutter.sides(), below):
        if part:
            yield from blocks_of(part, doubts)


def rows_of(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs beside each other, from the left; rows from the top."""
    rows: list[list[Run]] = []
    for run in sorted(runs, key=lambda run: run.middle):
        if rows and rows[-1][0].top <= run.middle <= rows[-1][0].bottom:
            rows[-1].append(run)
        else:
            rows.append([run])
    return [sorted(row, key=lambda run: run.left) for row in rows]


def spaced(rows: Sequence[list[Run]]) -> Iterator[list[list[Run]]]:
    """Rows in blocks: a gap that is higher than a line, and than usual, ends one."""
    tops = [min(run.top for run in row) for row in rows]
    lows = [max(run.bottom for run in row) for row in rows]
    between = [top - low for top, low in zip(tops[1:], lows, strict=False)]
    usual = median(between) if len(between) >= ROWS_MIN else 0.0
    begin = 0
    for place, gap in enumerate(between, 1):
        if gap > max(median(run.high for run in rows[place]), WIDER * usual):
            yield list(rows[begin:place])
            begin = place
    if rows:
        yield list(rows[begin:])


# -- columns --------------------------------------------------------------------------


def widest(runs: Sequence[Run], doubts: list[Gutter]) -> Gutter | None:
    """The gutter between columns that most stands beside; None: there is none."""
    down = sorted(runs, key=lambda run: run.middle)
    best: Gutter | None = None
    tried: list[tuple[Gutter, int, int]] = []
    for place, run in enumerate(down):
        for left, right in gaps(down, place):
            if any(
                first <= place < last and left <= known.left and known.right <= right
                for known, first, last in tried
            ):
                continue
            gutter, first = extended(down, place, left, right, run.high)
            tried.append((gutter, first, first + len(gutter.runs)))
            if best and len(best.runs) >= len(gutter.runs):
                continue
            alike = min(columnlike(side) for side in gutter.beside())
            if alike >= 1.0:
                best = gutter
            elif alike >= DOUBT:
                doubts.append(gutter)
    return best


def gaps(down: Sequence[Run], place: int) -> Iterator[tuple[float, float]]:
    """The gap to the right of a run, up to the nearest one beside it."""
    run = down[place]
    beside = [
        other.left
        for other in down[max(0, place - NEAR) : place + NEAR]
        if other.left > run.right and level(run, other)
    ]
    if beside and min(beside) - run.right >= GUTTER * run.high:
        yield run.right, min(beside)


def level(one: Run, other: Run) -> bool:
    """Whether they share some of their height."""
    return other.top < one.bottom and other.bottom > one.top


def behind(run: Run, side: Sequence[Run], way: int) -> bool:
    """Whether another run of its side, from the top, is between it and the gutter."""
    place = bisect_left(side, run.middle, key=lambda other: other.middle)
    return any(
        way * other.left < way * run.left and level(run, other)
        for other in side[max(0, place - NEAR) : place + NEAR]
    )


def extended(
    down: Sequence[Run], place: int, left: float, right: float, high: float
) -> tuple[Gutter, int]:
    """The gap as far up and down as no run lies across it; and where it begins."""
    first = last = place

    def fits(run: Run) -> bool:
        nonlocal left, right
        if (run.left + run.right) / 2 < (left + right) / 2:
            closer = (max(left, run.right), right)
        else:
            closer = (left, min(right, run.left))
        if closer[1] - closer[0] < GUTTER * high:
            return False
        left, right = closer
        return True

    while first > 0 and fits(down[first - 1]):
        first -= 1
    while last + 1 < len(down) and fits(down[last + 1]):
        last += 1
    return Gutter(left, right, tuple(down[first : last + 1])), first


def columnlike(beside: Sequence[Run]) -> float:
    """How much these runs are lines of prose in a column; 1 and more: they are."""
    if beside:
        # Past the end of a short column the next one stands beside the gutter.
        start = median(run.left for run in beside)
        end = median(run.right for run in beside)
        beside = [run for run in beside if run.left < end and run.right > start]
    if len(beside) < ROWS_MIN:
        return 0.0
    texts = [word.text for run in beside for word in run.words]
    words = median(len(run.words) for run in beside)
    colons = sum(any(":" in word.text for word in run.words) for run in beside)
    letters = sum(bool(re.search(r"[^\W\d_]", text)) for text in texts) / len(texts)
    left, right = min(run.left for run in beside), max(run.right for run in beside)
    fill = median(run.right - run.left for run in beside) / max(1.0, right - left)
    return min(
        words / WORDS_MIN,
        letters / LETTERS_MIN,
        fill / FILL_MIN,
        COLONS_MAX / max(0.01, colons / len(beside)),
    )
