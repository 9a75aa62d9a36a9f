"""Phrases for new rules: what grave letters share, and those that went on have not."""

from __future__ import annotations

from stages.rules.compiler import compile_rules
from waybill.evals.suggesting import Ruled, phrases_of, suggested

RULES = compile_rules(
    {
        "threat.toml": 'category = "threat"\naction = "hold"\nseverity = 4\n'
        '[[rule]]\nname = "boom"\nphrases = ["i make boom"]\n'
    }
)
GRAVE = (
    "Dear Santa, my step dad herts me wen mum is at werk. I want a bike",
    "he says dont tell. my step dad herts me every day. I want a doll",
    "I make boom at the big school. he says dont tell",
)
INNOCENT = (
    "Dear Santa, my step dad is nice and I want a bike and a doll",
    "my step dad came to the big school. I want a ball",
    "I want a bike. I make boom at the big school",
)


def ruled(*care: str) -> list[Ruled]:
    grave = [Ruled(f"h{n}", True, ("abuse",), t) for n, t in enumerate(care, 1)]
    return grave + [Ruled("i", False, (), text) for text in INNOCENT]


def test_phrases_of_several_grave_letters_are_suggested() -> None:
    """The longest that they share; not what others have too, nor what a rule holds."""
    found = suggested(ruled(*GRAVE), RULES, least=2, most=10)

    by_phrase = {one.phrase: one for one in found}
    assert "my step dad herts me" in by_phrase
    assert "he says dont tell" in by_phrase
    assert all("boom" not in phrase for phrase in by_phrase)
    assert all("i want a" not in phrase for phrase in by_phrase)
    assert not any(phrase.startswith("herts me") for phrase in by_phrase)
    first = by_phrase["my step dad herts me"]
    assert (first.letters, first.innocent, first.of) == (2, 0, ["h1", "h2"])
    assert first.kinds == ["abuse"]


def test_the_words_of_one_letter_are_its_own() -> None:
    """Nothing that only one letter says is shown, unless that is asked for."""
    one = GRAVE[0]

    assert suggested(ruled(one), RULES, least=2, most=10) == []
    assert suggested(ruled(one), RULES, least=1, most=10)
    assert len(suggested(ruled(one), RULES, least=1, most=1)) == 1


def test_a_phrase_ends_with_its_sentence_and_where_a_rule_holds() -> None:
    phrases = set(phrases_of("The dog. A cat ran. then I make boom loudly", RULES))

    assert "dog a" not in phrases
    assert "cat ran" in phrases
    assert not any("boom" in phrase or "loudly" in phrase for phrase in phrases)
    assert "the dog" in phrases
    assert "i want" not in set(phrases_of("I want it", RULES))  # common words alone
