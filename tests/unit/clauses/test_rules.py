"""
Rules of clauses: each file finds its own examples, by both of its routes where it says
so, and leaves alone what reads like them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import Usage
from stages.clauses import sentences
from stages.clauses.reading import load_types, read_clause, sections_of

RULES = Path(__file__).parents[3] / "examples" / "contracts" / "rules"
FILES = {path.name: path.read_text(encoding="utf-8") for path in RULES.glob("*.toml")}
TYPES = load_types(FILES)


@pytest.mark.parametrize("name", TYPES)
def test_a_rule_file_finds_its_own_examples_and_no_others(name: str) -> None:
    """What `yes` says is found; what `no` says is not."""
    rules = TYPES[name]
    # Of some types rules can only say that a person should look.
    wanted = "unclear" if rules.form.trust == "none" else "present"

    missed = [
        text
        for text in rules.form.examples.yes
        if read_clause(rules, text, sections_of(text)).verdict != wanted
    ]
    mistaken = [
        text
        for text in rules.form.examples.no
        if read_clause(rules, text, sections_of(text)).verdict == "present"
    ]

    assert (missed, mistaken) == ([], [])


def test_a_broken_rule_file_is_named() -> None:
    """Who edits the rules is told which file and what of it."""
    broken = FILES["insurance.toml"].replace(' of insurance"', ' of insurance ("')
    rules = load_types({"term.toml": broken})["insurance"]

    with pytest.raises(Usage, match=r"term\.toml") as raised:
        rules.compile()

    assert raised.value.code == "RULES_INVALID"


def test_a_broken_phrase_is_named_by_the_text_that_needs_it() -> None:
    """Phrases are compiled when they are needed: other texts are read all the same."""
    broken = FILES["insurance.toml"].replace(" of insurance", " of insurance (")
    rules = load_types({"term.toml": broken})["insurance"]
    text = "A certificate of insurance is kept."

    assert read_clause(rules, "Ohio.", sections_of("Ohio.")).verdict == "absent"
    with pytest.raises(Usage, match=r"term\.toml"):
        read_clause(rules, text, sections_of(text))


def test_no_rule_file_is_an_error() -> None:
    """A folder without rules would find every clause absent."""
    with pytest.raises(Usage) as raised:
        load_types({})

    assert raised.value.code == "RULES_MISSING"


@pytest.mark.parametrize(
    "phrase",
    [
        r"(\\w |a )" * 25 + "z",
        "(a |a a ){0,4}" * 5 + "z",
        r"(\\w |a ){2}" * 8 + "z",
        "(ab?|a)" * 12 + "z",
        "(a |a a )" * 25 + "z",
    ],
)
def test_choices_that_begin_alike_are_tries(phrase: str) -> None:
    """No rule of anybody's own takes for ever on a sentence of `a a a`."""
    broken = FILES["insurance.toml"].replace("under = [", f'under = [["{phrase}"],', 1)

    with pytest.raises(Usage, match="their product"):
        load_types({"insurance.toml": broken})["insurance"].compile()


def test_what_nobody_has_read_to_its_end_is_not_absent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a text with more sentences than are read a person is asked."""
    monkeypatch.setattr(sentences, "MAX_SENTENCES", 10)
    law = "This Agreement is governed by the laws of the State of Ohio. "
    rules = TYPES["governing_law"]

    def verdict(text: str) -> str:
        return read_clause(rules, text, sections_of(text)).verdict

    assert verdict("The goods are red. " * 10) == "absent"
    assert verdict("The goods are blue. " * 10 + law) == "unclear"
    assert verdict(law + "The goods are green. " * 10) == "present"
