"""Lines of a page come in the order in which a person reads them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stages.reading.layer.order import Box
from stages.reading.layer.order import in_reading_order as blocks_in_order


def in_reading_order(page: list[Box]) -> list[int]:
    """The places of the page's lines, in order."""
    return [place for block in blocks_in_order(page) for place in block]


def lines(left: float, top: float, count: int, width: float = 100) -> list[Box]:
    """Lines of 10 in height, 15 apart."""
    return [
        Box(left, top + 15 * n, left + width, top + 15 * n + 10) for n in range(count)
    ]


def test_a_page_in_order_is_left_alone() -> None:
    """A title over two columns, as written: no line is moved."""
    page = [*lines(0, 0, 1, 300), *lines(0, 30, 20), *lines(150, 30, 20)]

    assert in_reading_order(page) == list(range(41))


def test_a_head_that_was_written_last_comes_first() -> None:
    """Programs write letterheads after the text: they are read before it."""
    page = [*lines(0, 200, 5), *lines(0, 20, 2), *lines(0, 600, 1)]

    assert in_reading_order(page) == [5, 6, 0, 1, 2, 3, 4, 7]


def test_of_two_side_by_side_the_left_is_read_first() -> None:
    """Once blocks are moved, columns stay columns."""
    page = [
        *lines(200, 100, 3),
        *lines(0, 100, 3),
        *lines(0, 20, 1, 300),
    ]

    assert in_reading_order(page) == [6, 3, 4, 5, 0, 1, 2]


def test_cells_of_a_row_stay_together() -> None:
    """A table whose rows are written from left to right is read in rows."""
    rows = [
        line
        for top in (0, 20, 40)
        for x in (0, 50, 100)
        for line in lines(x, top, 1, 40)
    ]

    assert in_reading_order(rows) == list(range(9))


sides = st.floats(-1e6, 1e6)


@given(st.lists(st.builds(Box, sides, sides, sides, sides), max_size=30))
def test_no_line_is_lost_or_doubled(page: list[Box]) -> None:
    """Whatever boxes a page claims to have, each line is read once."""
    assert sorted(in_reading_order(page)) == list(range(len(page)))
