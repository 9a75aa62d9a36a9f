"""Words lie on the page as it came, however it was turned to be read."""

from __future__ import annotations

import pytest
from PIL import Image

from stages.layout import Turn
from stages.reading.placing import Weighed, layout_of, with_crops, words_of
from stages.reading.words import Word, text_of

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
        [Weighed(Word("mark", found, 95.0, 0, 0), 99.0, False)],
        "tesserocr",
        picture.size,
        72,
        turned=turned,
    )

    assert (layout.width, layout.height) == page.size
    assert layout.lines[0].words[0].box == (50, 5, 62, 9)
    assert words_of(layout)[0].box == found  # and back again, for the second reader


def test_lines_and_blocks_are_kept() -> None:
    """As they are numbered, and the text reads as its words do."""
    words = [
        Word("Dear", (0, 0, 9, 9), 96.0, 0, 0),
        Word("friend,", (10, 0, 30, 9), 96.0, 0, 0),
        Word("thank", (0, 10, 9, 19), 40.0, 0, 1),
        Word("Bye", (0, 50, 9, 59), 96.0, 1, 2),
    ]

    layout = layout_of(
        [Weighed(word, word.confidence, False) for word in words],
        "pytesseract",
        (100, 100),
        72,
        language="eng",
    )

    assert layout.text == text_of(words) == "Dear friend,\nthank\n\nBye"
    assert [block.box for block in layout.blocks] == [(0, 0, 30, 19), (0, 50, 9, 59)]
    again = [(word.text, word.block, word.line) for word in words_of(layout)]
    assert again == [(word.text, word.block, word.line) for word in words]


def test_pictures_of_lines_find_their_lines() -> None:
    """By number, through all blocks."""
    words = [Word("w", (0, 20 * n, 9, 20 * n + 9), 96.0, n // 2, n) for n in range(4)]
    layout = layout_of([Weighed(w, 99.0, True) for w in words], "x", (100, 100), 72)

    found = with_crops(layout, {0: "first", 3: "last"})

    assert [line.crop for line in found.lines] == ["first", "", "", "last"]
