"""
Letters as children write them: a yardstick for what moderation misses and over-blocks.

`letters_of_children.jsonl` was written before any rule was changed for it.  `care`
letters are those that an adult must read; `innocent` ones sound like them and are not.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from pipeline.folder import PipelineFolder
from stages.moderation import assess
from stages.rules.compiler import rulebook

HERE = Path(__file__).parent
PROJECT = HERE.parents[2]
OF_EACH_LABEL = 100
OF_EACH_KIND_MIN = 4

# What the rules that ship find today; it may only rise (75 are asked for).
CARE_HELD_MIN = 34
# What they hold by mistake today; it may only fall (3 are asked for).
INNOCENT_HELD_MAX = 6


@pytest.fixture(scope="module")
def letters() -> list[dict[str, str]]:
    lines = (HERE / "letters_of_children.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_the_letters_are_even_and_none_comes_twice(
    letters: list[dict[str, str]],
) -> None:
    """As many that need care as innocent ones, every kind several times."""
    labels = Counter(letter["label"] for letter in letters)
    kinds = Counter((letter["label"], letter["kind"]) for letter in letters)
    texts = {" ".join(letter["text"].lower().split()) for letter in letters}

    assert labels == {"care": OF_EACH_LABEL, "innocent": OF_EACH_LABEL}
    assert min(kinds.values()) >= OF_EACH_KIND_MIN, kinds
    assert len({kind for _, kind in kinds}) == len(kinds), "a kind has one label"
    assert len(texts) == len(letters)


def test_the_rules_that_ship_find_no_less_and_block_no_more(
    letters: list[dict[str, str]],
) -> None:
    """The letters pipeline's rules hold what they held, and no more innocent ones."""
    rules = rulebook(PipelineFolder(PROJECT / "examples" / "letters", "letters", "1"))

    held = Counter(
        letter["label"]
        for letter in letters
        if assess(letter["text"], rules).action != "allow"
    )

    assert held["care"] >= CARE_HELD_MIN
    assert held["innocent"] <= INNOCENT_HELD_MAX
