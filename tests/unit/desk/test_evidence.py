"""Evidence is read by a person: in the order given, without what only machines read."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from waybill import terminal
from waybill.desk.evidence import Line, Span, brief, lines, places, spans
from waybill.desk.terminal import EVIDENCE_LINES_MAX, evidence_texts, marked

TEXT = "they hit me and hit me"
CROP, PICTURE, STRANGE = "a" * 64, "b" * 64, "c" * 64
FILES = {CROP: "page-1-line-1.png", PICTURE: "page-1.jpg"}


def place(start: Any, end: Any) -> dict[str, Any]:
    return {"start": start, "end": end}


def printed(evidence: Any) -> list[str]:
    """As a screen has it, without marks."""
    return ["  " * line.depth + line.text for line in lines(evidence, FILES)]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([], []),
        ([place(16, 19), place(5, 8)], [(5, 8), (16, 19)]),
        ([place(5, 11), place(8, 15)], [(5, 15)]),  # they overlap
        ([place(5, 11), place(6, 8)], [(5, 11)]),  # one holds the other
        ([place(-4, 4), place(16, 900)], [(0, 4), (16, 22)]),  # beyond the text
        ([place(8, 5), place(99, 120)], []),  # no place at all
        ([place("5", 8), place(None, 8), "odd"], []),  # of a stage of one's own
        ("odd", []),
    ],
)
def test_marked_places_are_in_order_and_apart(
    found: Any, said: list[tuple[int, int]]
) -> None:
    """Whatever a verdict says, each character is marked once at most."""
    assert spans(TEXT, places(found)) == [Span(*place) for place in said]


def test_marking_changes_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a screen the text is drawn whole, and what caused the hold stands out."""
    monkeypatch.setattr(terminal, "out", Console(color_system="standard"))

    shown = marked(TEXT, [Span(5, 8), Span(16, 19)])

    assert shown.plain == TEXT
    assert [shown.plain[s.start : s.end] for s in shown.spans] == ["hit", "hit"]


def test_marks_are_seen_where_nothing_is_drawn_in_reverse() -> None:
    """In a pipe, and on a screen without styles, they stand between signs."""
    assert terminal.out.color_system is None

    assert marked(TEXT, [Span(5, 8)]).plain == "they ▸hit◂ me and hit me"


def test_what_is_marked_cannot_act() -> None:
    """Escapes are made visible on both sides of a mark."""
    shown = marked("a\x1b[2J b\u202e", [Span(0, 2)])

    assert shown.plain == "▸a\\x1b◂[2J b\\u202e"


def test_evidence_of_any_shape_is_lines() -> None:
    """
    Flat values share a line, what is deep or long gets lines of its own; of what is
    empty nothing is said.
    """
    evidence: dict[str, Any] = {
        "zone": "X",
        "a": None,
        "sure": True,
        "none": {},
        "pages": [
            {"number": 1, "ink": 0.5, "notes": ["x", "y"]},
            "odd",
            ["in", ["deep"]],
        ],
        "long": "word " * 20,
        "after": "two\nlines",
    }

    assert printed(evidence) == [
        "zone: X  sure: yes",
        "pages:",
        "- number: 1  ink: 0.5  notes: x, y",
        "- odd",
        "- - in",
        "  - - deep",
        "long:",
        "  " + "word " * 20,
        "after:",
        "  two",
        "  lines",
    ]
    assert printed("one\n line") == ["one", " line"]
    assert printed([]) == printed(None) == printed({}) == []


def test_a_person_reads_no_hash_and_no_pixels() -> None:
    """A file is called as it is called on the desk; a box of pixels stays out."""
    evidence = {
        "picture": PICTURE,
        "box": [1, 2, 3, 4],
        "word_boxes": [[1, 2, 3, 4]],
        "other": STRANGE,
        "crops": [
            {"box": [1, 2, 3, 4], "artifact": CROP, "readings": ["5O", "50"]},
            {"readings": ["5,O", "5 0"]},
        ],
        "loose": [CROP, STRANGE],
    }

    assert printed(evidence) == [
        "picture: page-1.jpg",
        "crops:",
        "- artifact: page-1-line-1.png  readings: 5O, 50",
        "- readings:",
        "  - 5,O",
        "  - 5 0",
        "loose:",
        "- page-1-line-1.png",
        "- a file",
    ]


def test_the_rules_words_are_marked_in_the_text() -> None:
    """`marked` are places of the `text` beside it; one, or several, or nonsense."""
    one = {"rule": "hurt", "text": "they\nhit me", "marked": [5, 8]}

    assert lines([one]) == [
        Line(0, "- rule: hurt"),
        Line(1, "text:"),
        Line(2, "they hit me", (Span(5, 8),)),
    ]
    [said] = lines({"text": "hit hit", "marked": [[0, 3], [4, 7]]})[1:]
    assert said.marked == (Span(0, 3), Span(4, 7))
    # What marks nothing is shown as what it is.
    assert printed({"text": "hit", "marked": "odd"}) == ["text: hit  marked: odd"]
    assert printed({"text": 7, "marked": [1, 2]}) == ["text: 7  marked: 1, 2"]


def test_a_mark_within_a_list_stays_in_its_place() -> None:
    """The dash of an entry moves no mark."""
    shown = lines([{"text": "hit", "marked": [0, 3]}])

    assert [line.text[s.start : s.end] for line in shown for s in line.marked] == [
        "hit"
    ]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "nothing"),
        ("a word", '"a word"'),
        ("x" * 300, '"' + "x" * 59 + " … " + "x" * 119 + '"'),
        (
            {"action": "hold", "spans": [1, 2], "empty": []},
            "action hold, spans 1 and 2",
        ),
        (
            [{"number": 1, "picture": PICTURE, "box": [1]}],
            "number 1, picture page-1.jpg",
        ),
        ([{"a": 1}, {"a": 2}], "2 entries"),
        (["disclosure"], '"disclosure"'),
        (STRANGE, "a file"),
        (3.5, "3.5"),
        ({}, "nothing"),
    ],
)
def test_a_change_is_one_line(value: Any, said: str) -> None:
    """Short, and in a person's words."""
    assert brief(value, FILES) == said


def test_a_screen_has_an_end() -> None:
    """What is over its bound is said to be in `--json`."""
    many = list(evidence_texts(lines([{"n": "x" * 40}] * 1000)))
    long = list(evidence_texts(lines(["y" * 7000])))

    assert len(many) == EVIDENCE_LINES_MAX + 1
    assert [str(text) for _, text in (many[-1], long[-1])] == ["… more: --json"] * 2
