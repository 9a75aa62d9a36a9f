"""Words lie on the page as it came, however it was turned to be read."""

from __future__ import annotations

import pytest
from PIL import Image

from stages.layout import Turn
from stages.reading.engines import Word
from stages.reading.placing import layout_of

WAYS: dict[Turn, Image.Transpose] = {
    90: Image.Transpose.ROTATE_270,
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_90,
}


@pytest.mark.parametrize("turned", [90, 180, 270])
def test_a_box_lies_where_the_ink_is(turned: Turn) -> None:
    """A mark found on the turned picture is found on the page by its box."""
    page = Image.new("L", (70, 40), 255)
    page.paste(0, (50, 5, 62, 9))
    picture = page.transpose(WAYS[turned])
    found = picture.point(lambda v: 255 - v).getbbox()
    assert found is not None

    layout = layout_of(
        [Word("mark", found, 95.0, 0, 0)], "tesserocr", picture.size, 72, turned=turned
    )

    assert (layout.width, layout.height) == page.size
    assert layout.lines[0].words[0].box == (50, 5, 62, 9)


def test_lines_and_blocks_are_kept() -> None:
    """As the engine numbered them, and the text reads as its words do."""
    words = [
        Word("Dear", (0, 0, 9, 9), 96.0, 0, 0),
        Word("friend,", (10, 0, 30, 9), 96.0, 0, 0),
        Word("thank", (0, 10, 9, 19), 40.0, 0, 1),
        Word("Bye", (0, 50, 9, 59), 96.0, 1, 2),
    ]

    layout = layout_of(words, "pytesseract", (100, 100), 72, language="eng")

    assert layout.text == "Dear friend,\nthank\n\nBye"
    assert [block.box for block in layout.blocks] == [(0, 0, 30, 19), (0, 50, 9, 59)]
    [doubted] = [w for line in layout.lines for w in line.words if w.doubtful]
    assert doubted.text == "thank"
