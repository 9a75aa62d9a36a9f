"""What a model is offered of a contract: all of it, in pieces that can be shown."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from stages.abstracts.passages import LONG, MOST, OVERLAP, passages_of
from stages.clauses.sections import Section


def section(start: int, end: int, number: str = "1") -> Section:
    return Section(
        number=number,
        heading="Term",
        within=(),
        page=1,
        kind="section",
        start=start,
        end=end,
    )


def test_a_section_is_a_passage() -> None:
    text = "A year. Two years."

    found = passages_of(text, [section(0, 8), section(8, 18, "2")])

    assert [(p.name, p.label, p.start, p.end) for p in found] == [
        ("s1", "1 Term", 0, 8),
        ("s2", "2 Term", 8, 18),
    ]


def test_a_long_one_is_cut_in_time_with_its_length() -> None:
    """A part looks at itself: once each looked at all the rest, for minutes."""

    class Counted(str):
        looked_at = 0

        def __getitem__(self, key: Any) -> str:
            found = super().__getitem__(key)
            Counted.looked_at += len(found)
            return found

    text = Counted("\N{GRINNING FACE}" * 200_000)

    passages_of(text, [section(0, len(text))])

    assert Counted.looked_at < 40 * len(text)


@pytest.mark.parametrize("word", ["renewal ", "契約 ", "x", "\N{GRINNING FACE}"])
def test_a_long_one_is_cut_and_nothing_of_it_is_lost(word: str) -> None:
    """Where words end, and each part says which it is."""
    text = word * (40_000 // len(word))

    found = passages_of(text, [section(0, len(text))])

    assert all(len(text[p.start : p.end].encode()) <= LONG for p in found)
    assert (found[0].start, found[-1].end) == (0, len(text))
    for one, after in itertools.pairwise(found):
        assert one.start < after.start < one.end
        assert one.end - after.start == OVERLAP
        assert text[one.end] == " " or " " not in word
    assert found[1].label == "1 Term (part 2)"


def test_of_very_many_the_small_ones_are_read_together() -> None:
    """All of it is offered, in no more passages than a question can list."""
    text = "An exhibit. " * 5_000
    small = [section(n * 12, n * 12 + 12, str(n)) for n in range(5_000)]

    found = passages_of(text, small)

    assert len(found) <= MOST
    assert (found[0].start, found[-1].end) == (0, len(text))
    assert all(a.end == b.start for a, b in itertools.pairwise(found))
    assert found[0].label.startswith("0 Term … ")
    assert [p.name for p in found] == [f"s{n + 1}" for n in range(len(found))]
