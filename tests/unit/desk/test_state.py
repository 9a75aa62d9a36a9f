"""What an update changes, channel by channel."""

from __future__ import annotations

from waybill.desk.state import Change, differences
from waybill.desk.terminal import change_lines


def test_what_changes_is_told_by_channel_and_by_key() -> None:
    """Of a mapping its keys; what stays, and what was there beside, is not told."""
    old = {"text": "a", "clauses": {"date": "May", "parties": ["x"]}, "n": 1}
    new = {"text": "b", "clauses": {"date": "June", "parties": ["x"]}, "n": 1}

    assert list(differences(old, new)) == [
        Change("text", "a", "b"),
        Change("clauses.date", "May", "June"),
    ]


def test_what_comes_and_goes_is_told() -> None:
    """None stands for nothing; also of a mapping that was not there."""
    found = list(differences({"a": 1}, {"clauses": {"date": "May"}}))

    assert found == [Change("a", 1, None), Change("clauses.date", None, "May")]


def test_a_change_is_a_line_that_keeps_both_ends() -> None:
    """What is long is cut in the middle: what a reducer appended stands at the end."""
    [line] = change_lines([Change("text", None, "begin" + "x" * 999 + "end")])

    assert line.startswith('text: nothing → "begin')
    assert line.endswith('end"')
    assert len(line) < 220
    assert change_lines([]) == ["it changes nothing"]
