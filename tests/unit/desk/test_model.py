"""What a reviewer is shown is data, and marks no more than there is."""

from __future__ import annotations

import pytest

from waybill.desk.model import Span, lines, spans
from waybill.desk.terminal import marked

TEXT = "they hit me and hit me"


def place(start: int, end: int) -> dict[str, int]:
    return {"start": start, "end": end}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([], []),
        ([place(16, 19), place(5, 8)], [(5, 8), (16, 19)]),
        ([place(5, 11), place(8, 15)], [(5, 11), (11, 15)]),  # they overlap
        ([place(5, 11), place(6, 8)], [(5, 11)]),  # one holds the other
        ([place(-4, 4), place(16, 900)], [(0, 4), (16, 22)]),  # beyond the text
        ([place(8, 5), place(99, 120)], []),  # no place at all
    ],
)
def test_marked_places_are_in_order_and_apart(
    found: list[dict[str, int]], said: list[tuple[int, int]]
) -> None:
    """Whatever a verdict says, each character is marked once at most."""
    assert spans(TEXT, found) == [Span(*place) for place in said]


def test_marking_changes_no_word() -> None:
    """The text is drawn whole, and what caused the hold stands out."""
    shown = marked(TEXT, [Span(5, 8), Span(16, 19)])

    assert shown.plain == TEXT
    assert [shown.plain[s.start : s.end] for s in shown.spans] == ["hit", "hit"]


def test_what_is_marked_cannot_act() -> None:
    """Escapes are made visible on both sides of a mark."""
    shown = marked("a\x1b[2J b\u202e", [Span(0, 2)])

    assert shown.plain == "a\\x1b[2J b\\u202e"


def test_evidence_of_any_shape_is_lines() -> None:
    """Flat values share a line, what is deep gets lines of its own."""
    evidence = {"code": "X", "pages": [{"number": 1, "ink": 0.5}, "odd"], "n": None}

    assert lines(evidence) == [
        "code: X  n: null",
        "pages:",
        "  number: 1  ink: 0.5",
        "  odd",
    ]
    assert lines("one\n line") == ["one line"]
