"""Words are read in the order in which a person reads them."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.reading.structure import in_order
from stages.reading.words import Word, text_of

WIDE, HIGH, PITCH = 12, 20, 30  # pixels of a character, a letter, a line
PROSE = (
    *("the", "ships", "arrive", "in", "early", "morning"),
    *("when", "fog", "still", "hangs", "over", "water"),
)


def line(text: str, x: float, y: float, number: int) -> list[Word]:
    """Words from a place on, as a reader finds them."""
    found = []
    for word in text.split():
        right = x + WIDE * len(word)
        box = (round(x), round(y), round(right), round(y) + HIGH)
        found.append(Word(word, box, 95.0, number, number))
        x = right + WIDE
    return found


def page(*lines: tuple[str, float, float]) -> list[Word]:
    """Lines at places, in no order."""
    found = [line(*place, number) for number, place in enumerate(lines)]
    random.Random(1).shuffle(found)
    return [word for one in found for word in one]


def prose(seed: int, count: int) -> list[str]:
    """Lines of a column."""
    rng = random.Random(seed)
    return [" ".join(rng.sample(PROSE, 5)) for _ in range(count)]


def read(words: Sequence[Word]) -> str:
    """The text, and no blank lines."""
    return text_of(in_order(words)[0]).replace("\n\n", "\n")


@pytest.mark.parametrize("shift", [0, 7, 15])
@pytest.mark.parametrize("count", [2, 3])
def test_columns_are_read_one_after_the_other(count: int, shift: int) -> None:
    """A headline across all, then each column to its end, in step or not."""
    columns = [prose(number, 8 - number) for number in range(count)]
    headline = " ".join(PROSE * (count - 1))
    words = page(
        (headline, 0, 0),
        *(
            (text, 460 * number, 60 + PITCH * row + shift * number)
            for number, column in enumerate(columns)
            for row, text in enumerate(column)
        ),
    )

    assert read(words).split("\n") == [headline, *(t for c in columns for t in c)]


def test_a_column_that_is_shorter_than_its_neighbours_is_one() -> None:
    """Past its end the third stands beside the first, and widens nothing."""
    columns = [prose(0, 8), prose(1, 6), prose(2, 9)]
    words = page(
        *(
            (text, 460 * number, PITCH * row)
            for number, column in enumerate(columns)
            for row, text in enumerate(column)
        ),
    )

    assert read(words).split("\n") == [t for c in columns for t in c]


ROWS = [
    [("2 x Brown bread loaf", 0), ("12.50", 700)],
    [("1 x Green apples big", 0), ("3.99", 700)],
    [("4 x Paper towels soft", 0), ("14.00", 700)],
    [("TOTAL", 0), ("30.49", 700)],
]
FORM = [
    [("Family name:", 0), ("Okafor", 250), ("Given name:", 600), ("Ida", 850)],
    [("Born on:", 0), ("12.04.1961", 250), ("Town:", 600), ("Graz", 850)],
    [("Street:", 0), ("Mill Lane 14", 250), ("Postcode:", 600), ("20457", 850)],
    [("Paid by:", 0), ("the employer", 250), ("Reference:", 600), ("KX-48", 850)],
]
TABLE = [
    [("Brown bread", 0), ("14", 400), ("3.99", 600), ("55.86", 800)],
    [("Green apples", 0), ("2", 400), ("0.99", 600), ("1.98", 800)],
    [("Oat milk", 0), ("8", 400), ("1.10", 600), ("8.80", 800)],
]


@pytest.mark.parametrize("rows", [ROWS, FORM, TABLE], ids=["receipt", "form", "table"])
@pytest.mark.parametrize("fall", [0.0, 0.03, -0.05])
def test_rows_belong_together(rows: list[list[tuple[str, int]]], fall: float) -> None:
    """What stands beside each other is one line, on a page that lies askew as well."""
    words = page(
        *(
            (text, x, 40 * number + fall * x)
            for number, row in enumerate(rows)
            for text, x in row
        )
    )
    starts: dict[int, int] = {}
    for w in words:
        starts.setdefault(w.line, w.box[0])
    askew = [
        w._replace(
            box=(a, b + round(fall * (a - first)), c, d + round(fall * (a - first)))
        )
        for w in words
        for first in [next(v.box[0] for v in words if v.line == w.line)]
        for a, b, c, d in [w.box]
    ]

    assert read(askew).split("\n") == [" ".join(t for t, _ in row) for row in rows]


def test_lines_that_were_run_together_are_cut_at_the_gutter() -> None:
    """A reader that reads straight across columns has the words; the order is ours."""
    left, right = prose(1, 6), prose(2, 6)
    across = [
        [*line(one, 0, PITCH * n, n), *line(other, 500, PITCH * n, n)]
        for n, (one, other) in enumerate(zip(left, right, strict=True))
    ]

    assert read([w for row in across for w in row]).split("\n") == [*left, *right]


def test_what_may_be_columns_is_in_doubt() -> None:
    """Short lines with figures side by side: rows or columns, who knows."""
    left = ["bread costs 5", "milk takes 3", "eggs and 12", "salt is 9"] * 2
    one = [(text, 0.0, PITCH * n) for n, text in enumerate(left)]
    other = [(text, 420.0, PITCH * n) for n, text in enumerate(left)]

    assert in_order(page(*one, *other))[1]
    assert not in_order(page(*one))[1]


def test_a_gap_ends_a_block() -> None:
    """A line's height and more between two lines."""
    words = page(("one", 0, 0), ("two", 0, PITCH), ("three", 0, 5 * PITCH))

    assert text_of(in_order(words)[0]) == "one\ntwo\n\nthree"


def test_lines_far_apart_are_a_block_all_the_same() -> None:
    """Double spacing ends nothing; a gap that is wider still does."""
    places = (0, 60, 120, 180, 320, 380)
    words = page(*((f"line{n} of it", 0, y) for n, y in enumerate(places)))

    text = text_of(in_order(words)[0])

    assert [len(block.split("\n")) for block in text.split("\n\n")] == [4, 2]


sides = st.integers(0, 3000)
places = st.tuples(st.text("ab:1", min_size=1, max_size=9), sides, sides)


@given(st.lists(places, max_size=15))
def test_no_word_is_lost_or_doubled(found: list[tuple[str, int, int]]) -> None:
    """Wherever a reader says that words are."""
    words = [
        Word(text, (x, y, x + 12 * len(text), y + 20), 90.0, 0, n)
        for n, (text, x, y) in enumerate(found)
    ]

    ordered, _ = in_order(words)

    assert sorted((w.text, w.box) for w in ordered) == sorted(
        (w.text, w.box) for w in words
    )


def test_cells_whose_words_seem_to_fall_stand_in_their_rows() -> None:
    """The second reader's pieces lean where a tall letter stands at one end alone."""
    rows, columns = range(12), range(4)
    words: list[Word] = []
    for row in rows:
        for column in columns:
            cell = line(f"Wall {10 + row + 7 * column} mm", 350 * column, 60 * row, 0)
            for step, word in enumerate(cell):
                left, top, right, bottom = word.box
                box = (left, top + 2 * step, right, bottom + 2 * step)
                number = len(columns) * row + column
                words.append(word._replace(box=box, block=number, line=number))

    said = read(words).splitlines()

    assert said == [
        " ".join(f"Wall {10 + row + 7 * column} mm" for column in columns)
        for row in rows
    ]
