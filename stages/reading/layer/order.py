"""
The order in which a person reads the lines of a page.

Most programs write a page in that order, and it is kept.  Some write its head last,
or a box beside the text before it: only then are whole blocks of lines moved, what
is above before what is below it, and of two side by side the left one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

BLOCKS_MAX = 150  # a page of more is a drawing or a form: it is left as it is
GAP = 3.0  # of line heights between lines of one block


class Box(NamedTuple):
    """A place on a page; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float


def in_reading_order(lines: Sequence[Box]) -> list[list[int]]:
    """Blocks of places of `lines`, given in the order of the file, as they are read."""
    blocks: list[list[int]] = []
    for place, line in enumerate(lines):
        if blocks and follows(lines[blocks[-1][-1]], line):
            blocks[-1].append(place)
        else:
            blocks.append([place])
    boxes = [around([lines[place] for place in block]) for block in blocks]
    if len(boxes) > BLOCKS_MAX or not out_of_order(boxes):
        return blocks
    return [blocks[block] for block in sorted_blocks(boxes)]


def follows(line: Box, after: Box) -> bool:
    """Whether `after` goes on where `line` ended: beside it, or close below."""
    height = max(1.0, line.bottom - line.top)
    if same_row(line, after):
        return after.left >= line.left
    return (
        over_each_other(line, after)
        and middle(after) > middle(line)
        and after.top - line.bottom < GAP * height
    )


def around(boxes: Sequence[Box]) -> Box:
    """The smallest box around all of them."""
    left, top, right, bottom = zip(*boxes, strict=True)
    return Box(min(left), min(top), max(right), max(bottom))


def out_of_order(boxes: Sequence[Box]) -> bool:
    """Whether one that lies wholly above another comes after it."""
    return any(
        over_each_other(one, later) and later.bottom <= one.top
        for at, one in enumerate(boxes)
        for later in boxes[at + 1 :]
    )


def sorted_blocks(boxes: Sequence[Box]) -> list[int]:
    """Each block after all that are read before it; else in the order given."""
    left = list(range(len(boxes)))
    earlier = {
        b: {a for a in left if a != b and comes_first(boxes[a], boxes[b])} for b in left
    }
    done: list[int] = []
    while left:
        # Boxes that enclose each other may wait for each other: the file decides.
        free = (b for b in left if earlier[b].isdisjoint(left))
        chosen = next(free, left[0])
        left.remove(chosen)
        done.append(chosen)
    return done


def comes_first(one: Box, other: Box) -> bool:
    """Whether a person reads `one` before `other`."""
    if one.bottom <= other.top:
        return True
    if other.bottom <= one.top:
        return False
    return one.right <= other.left


def over_each_other(one: Box, other: Box) -> bool:
    """Whether they share some of the page's width."""
    return min(one.right, other.right) > max(one.left, other.left)


def same_row(one: Box, other: Box) -> bool:
    """Whether the middle of one is between top and bottom of the other."""
    return (
        other.top < middle(one) < other.bottom or one.top < middle(other) < one.bottom
    )


def middle(box: Box) -> float:
    """Half way down a box."""
    return (box.top + box.bottom) / 2
