"""
A page as it was read: blocks, lines and words, where each stands, and how far it is
to be believed.

`PageText.layout` names one, as an artifact: `Layout.model_validate_json` of its bytes.
Boxes are pixels of the page as a person sees it (a picture upright by its EXIF, a
page of a PDF turned by its /Rotate), `width` x `height` of them whatever its paper;
y grows downwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, assert_never

from pipeline.stage import Value

Box = tuple[int, int, int, int]  # left, top, right, bottom
Turn = Literal[0, 90, 180, 270]  # degrees clockwise
TURNED_BACK: dict[Turn, Turn] = {0: 0, 90: 270, 180: 180, 270: 90}


class ReadWord(Value):
    """
    A word.

    Attributes:
        confidence: That it is right, 0-100, whoever read it.
        doubtful: Another reader contradicts it, or its own is not sure of it.
        other: What another reader made of the same place, where it differs.
    """

    text: str
    box: Box
    confidence: float
    doubtful: bool = False
    other: str = ""


class ReadLine(Value):
    """
    Words beside each other, in the order they are read.

    Attributes:
        crop: The line cut out, where a person should look: artifact of a PNG.
    """

    box: Box
    words: tuple[ReadWord, ...]
    crop: str = ""

    @property
    def text(self) -> str:
        """Its words with a space between them."""
        return " ".join(word.text for word in self.words)


class ReadBlock(Value):
    """Lines that belong together: a paragraph, a column, a table's rows."""

    box: Box
    lines: tuple[ReadLine, ...]


class Layout(Value):
    """
    What stands on a page, in the order it is read.

    Attributes:
        dpi: Pixels an inch of these boxes, as far as is known.
        turned: Degrees clockwise, by which a person would turn the page to read it:
            0, or 90, 180, 270 of a sheet fed sideways or on its head.
        reader: Who read the words: an engine, or `layer`.
        language: What it was read as, in tesseract's names; "" of a reader or a layer
            that was told none.
    """

    width: int
    height: int
    dpi: int
    turned: Turn = 0
    source: Literal["ocr", "layer"]
    reader: str
    language: str = ""
    blocks: tuple[ReadBlock, ...] = ()

    @property
    def lines(self) -> list[ReadLine]:
        """Every line, in order."""
        return [line for block in self.blocks for line in block.lines]

    @property
    def text(self) -> str:
        """A line break between lines, an empty line between blocks."""
        return "\n\n".join(
            "\n".join(line.text for line in block.lines) for block in self.blocks
        )


def around(boxes: Sequence[Box]) -> Box:
    """The smallest box that holds all of them; there is at least one."""
    left, top, right, bottom = zip(*boxes, strict=True)
    return (min(left), min(top), max(right), max(bottom))


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
        case _:
            assert_never(turned)
