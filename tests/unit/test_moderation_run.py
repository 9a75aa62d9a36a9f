"""The moderation run: its letters are what it says, and each of its checks can fail."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from loadtest.scenarios.moderation_account import NONE, TRIED, bad, interval
from loadtest.scenarios.moderation_given import (
    HINTED,
    ORDERS,
    PLAIN,
    SHARES,
    WORDS,
    letters,
    write_labels,
)
from loadtest.vendors.labels import read_flags, read_opinions
from pipeline.folder import PipelineFolder
from stages.moderation import assess
from stages.rules.compiler import rulebook

LETTERS = Path(__file__).parents[2] / "examples" / "letters"
SOUND: dict[str, Any] = {
    **dict.fromkeys(NONE, 0),
    **dict.fromkeys(TRIED, 7),
    "sampled": 20,
    "planted": 30,
    "planted_found": 4,
    "expected": {"planted_found": (1, 9), "sampled": (10, 30)},
}


def test_rules_know_nothing_of_what_is_hinted() -> None:
    """Else a planted miss would be none; plain sentences and orders hold nothing."""
    book = rulebook(PipelineFolder(LETTERS, "letters", "1"))
    hints = [hint for hints in HINTED.values() for hint in hints]
    plain = [
        sentence.format(**{name: word})
        for sentence in PLAIN
        for name, words in WORDS.items()
        for word in words
        if sentence.count("{") == 1 and f"{{{name}}}" in sentence
    ]

    for text in (*hints, *plain, *ORDERS):
        assert not assess(text, book).categories, text


def test_letters_are_of_their_kinds_and_no_two_are_the_same(tmp_path: Path) -> None:
    """Each is found in the vendors' labels by its text; planted ones nobody holds."""
    made = letters(1000, seed=3)
    flags, says = write_labels(tmp_path, made)
    kinds = Counter(letter.kind for letter in made)

    flagged, said = read_flags(str(flags)), read_opinions(str(says))

    assert len({letter.text for letter in made}) == len(flagged) == len(said) == 1000
    assert {k: kinds[k] / 1000 for k in SHARES} == SHARES
    for letter in made:
        key = hashlib.sha256(letter.text.encode()).hexdigest()[:32]
        assert flagged[key] == list(letter.flags)
        if letter.kind == "planted":
            assert not letter.flags
            assert not json.loads(json.dumps(said[key]))[0]["adult_needed"]


def test_the_interval_is_that_of_the_draws() -> None:
    """Nothing, certain, and a fair coin four times, whose ends are too likely."""
    assert interval([]) == (0, 0)
    assert interval([1.0, 1.0, 0.0]) == (2, 2)
    assert interval([0.5] * 4) == (0, 4)
    low, high = interval([0.1] * 1000)
    assert 55 < low < 65
    assert 140 < high < 150


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        *(({name: 1}, name) for name in NONE),
        *(({name: 0}, f"no {name}") for name in TRIED),
        ({"sampled": 9}, "sampled"),
        ({"sampled": 31}, "sampled"),
        ({"planted_found": 0}, "planted_found"),
        ({"planted_found": 10}, "planted_found"),
        ({"planted": 0}, "no planted"),
    ],
)
def test_each_promise_can_be_broken(changed: dict[str, Any], word: str) -> None:
    """Every figure is looked at; with all of them right nothing is said."""
    assert bad(SOUND) == []
    assert word in bad(SOUND | changed)
