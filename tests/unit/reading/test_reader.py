"""The first reader finds which way up a page is, whatever it makes of the others."""

from collections.abc import Iterable

import pytest
from PIL import Image

from stages.layout import Turn
from stages.reading import engines
from stages.reading.protocol import ReaderSettings
from stages.reading.reader import Reader
from stages.reading.words import Word, text_of

LINES = "abcdefghijkl"
SETTINGS = ReaderSettings(preprocess="off", psm=3)  # in the order of the engine


class OfMarks:
    """
    tesseract, of a page with a mark in its first corner.

    It reads lines that run upwards as well as others, the last one first; of a page
    on its head, or whose lines run downwards, it makes nothing.
    """

    name = "of marks"

    def read(self, image: Image.Image, **_: object) -> list[Word]:
        if image.getpixel((10, 10)) == 0:
            return words(LINES, upended=False, sure=95)
        if image.getpixel((10, image.height - 10)) == 0:
            return words(reversed(LINES), upended=True, sure=96)
        return words(LINES, upended=False, sure=20)


def words(lines: Iterable[str], *, upended: bool, sure: float) -> list[Word]:
    found = []
    for place, line in enumerate(lines):
        top, bottom = 50 + 20 * place, 62 + 20 * place
        box = (top, 50, bottom, 350) if upended else (50, top, 350, bottom)
        found.append(Word("lines" + line, box, sure, 0, place))
    return found


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_a_way_up_on_which_the_lines_stand_on_end_is_none(
    monkeypatch: pytest.MonkeyPatch, turn: Turn
) -> None:
    """They are read there as well as on the right one, in a wrong order."""
    monkeypatch.setattr(engines, "first", lambda _: OfMarks())
    page = Image.new("L", (400, 400), 255)
    page.paste(0, (0, 0, 40, 40))
    page.paste(0, (180, 200, 220, 390))

    read = Reader(SETTINGS).page(page.rotate(turn), 200)

    assert text_of(read.words).split() == ["lines" + line for line in LINES]
    assert read.turned == turn
