"""
The letters pipeline's rules: each by its own four letters, and as children spell.

Every rule carries the letters that it must hold and those that must pass (`holds`,
`passes` in its file); what the stage makes of rules is in stages/test_moderation.py.
"""

from __future__ import annotations

import random
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.folder import PipelineFolder
from stages.moderation import assess
from stages.rules.compiler import compile_rules, rulebook
from stages.rules.rulebook import Rulebook
from stages.rules.spelling import Speller

PROJECT = Path(__file__).parents[2]
LETTERS = PROJECT / "examples" / "letters"
FILES = sorted((LETTERS / "rules").glob("*.toml"))
MS_MOST = 15  # for 1,000 characters, on a usual machine
TIMES_MOST = 10  # of it, for no text whatever
SLOW_MACHINE = 4  # of a usual one, beside other tests


@pytest.fixture(scope="module")
def rules() -> Rulebook:
    return rulebook(PipelineFolder(LETTERS, "letters", "1"))


def each_rule() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in FILES:
        form = tomllib.loads(path.read_text())
        for rule in form.get("rule", ()):
            yield form["category"], rule


@pytest.mark.parametrize(
    ("category", "rule"),
    [pytest.param(c, r, id=f"{c}/{r['name']}") for c, r in each_rule()],
)
def test_a_rule_holds_its_letters_and_passes_its_others(
    rules: Rulebook, category: str, rule: dict[str, Any]
) -> None:
    """Two letters at least that it must match, and two that nothing holds."""
    assert min(len(rule["holds"]), len(rule["passes"])) >= 2
    for letter in rule["holds"]:
        spans = assess(letter, rules).spans
        assert (category, rule["name"]) in {(s.category, s.rule) for s in spans}, letter
    for letter in rule["passes"]:
        verdict = assess(letter, rules)
        assert verdict.action == "allow", (letter, verdict.spans)


# -- spelling --------------------------------------------------------------------------

WORDS = ["hurts", "bruises", "secret", "knife", "scared", "hungry", "kill", "tell"]
ONE = (
    'category = "one"\naction = "hold"\nseverity = 1\n'
    '[[rule]]\nname = "one"\nphrases = ["he {word} me"]\n'
)


@pytest.fixture(scope="module")
def speller() -> Speller:
    return Speller([*WORDS, "when", "father", "because", "mum", "dad"], [], {})


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("herts", "hurts"),
        ("brooses", "bruises"),
        ("broozes", "bruises"),
        ("secrit", "secret"),
        ("nife", "knife"),
        ("scard", "scared"),
        ("skared", "scared"),
        ("hungrey", "hungry"),
        ("becos", "because"),
        ("farver", "father"),
        ("wen", "when"),
        ("kil", "kill"),
        ("tel", "tell"),
        ("secrct", "secret"),  # scanners: c for e
        ("scarcd", "scared"),
        ("hungrv", "hungry"),  # v for y
    ],
)
def test_a_word_is_read_by_sound_and_by_letters(
    speller: Speller, written: str, meant: str
) -> None:
    """As children spell by ear, and as scanners take one letter for another."""
    assert meant in speller.readings((written,))


@pytest.mark.parametrize(
    "word",
    [
        "till",
        "tall",
        "tail",
        "kiss",
        "bill",
        "hill",
        "hearts",
        "life",
        "scarf",
        "a",
        "x" * 99,
    ],
)
def test_an_innocent_word_is_never_a_grave_one(speller: Speller, word: str) -> None:
    """What is plain English is read as it stands, and nothing is made of noise."""
    assert speller.readings((word,)) == ()


def test_the_place_is_shown_as_it_was_written(rules: Rulebook) -> None:
    """A reviewer sees the child's words, not the rule's."""
    text = "Dear Santa, my step dad herts me wen mum is at werk"

    spans = assess(text, rules).spans

    assert any("step dad herts me" in text[s.start : s.end] for s in spans)


def test_a_short_word_alone_is_not_respelt() -> None:
    """A rule of one short word asks for that word; a phrase carries its respelling."""
    one = ONE.replace("he {word} me", "dick|fuck")
    phrase = ONE.replace("{word}", "hurts")

    assert assess("duk", compile_rules({"one.toml": one})).action == "allow"
    assert assess("he herts me", compile_rules({"one.toml": phrase})).action == "hold"


def test_files_share_lists_and_spellings() -> None:
    """A file of words alone is no category; its lists and spellings serve all."""
    shared = '[words]\nhow = ["hurts"]\n[spelt]\nhoots = ["hurts"]\n'
    files = {"words.toml": shared, "one.toml": ONE.replace("{word}", "{how}")}

    rules = compile_rules(files)

    assert list(rules.categories) == ["one"]
    assert assess("he hoots me", rules).action == "hold"
    assert assess("he toots me", rules).action == "allow"


# -- time ------------------------------------------------------------------------------


def ms(text: str, rules: Rulebook) -> float:
    """Processor time of 1,000 characters, in ms: the better of two readings."""
    took = []
    for _ in range(2):
        began = time.process_time()
        assess(text, rules)
        took.append(time.process_time() - began)
    return min(took) * 1e6 / len(text)


def test_a_letter_takes_milliseconds_and_no_text_ten_times_that(
    rules: Rulebook,
) -> None:
    """Misspelt letters, noise and repetition alike; the limit allows a slow machine."""
    noise = random.Random(13)
    strange = " ".join(
        "".join(noise.choices("abcdehiklmnorstuw", k=6)) for _ in range(430)
    )
    letter = "my step dad herts me wen mum is at werk and i am scard to tel becos "
    usual = ms(letter * 44, rules)
    slowest = max(
        ms((part * (3000 // len(part) + 1))[:3000], rules)
        for part in (
            strange,
            "a ",
            "a1",
            "i want to ",
            "my dad so ",
            "he herts ",
            "xqz",
        )
    )

    print(f"\n{usual:.1f} ms for 1,000 characters, {slowest:.1f} the slowest")
    assert usual < MS_MOST * SLOW_MACHINE
    assert slowest < TIMES_MOST * max(usual, MS_MOST)
