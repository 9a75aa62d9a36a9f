"""
Moderation: what must be held is held, also in disguise; what is innocent passes.

Sentences (moderation_letters.toml) were written for these tests.  Figures on
labelled samples are printed (`pytest -s`) and have floors.
"""

from __future__ import annotations

import json
import re
import threading
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import Usage
from pipeline.folder import PipelineFolder
from pipeline.model import Advance, Hold, Reject
from pipeline.testing import Context
from stages.document import Document, Verdict
from stages.moderation import assess, moderation, slices
from stages.rules.compiler import compile_rules, rulebook
from stages.rules.normaliser import fold, normalise
from stages.rules.personal import find_personal
from stages.rules.rulebook import Rulebook

PROJECT = Path(__file__).parents[3]
LETTERS = PROJECT / "examples" / "letters"
SAMPLES = PROJECT.parent / "shared" / "samples"


def sample(name: str) -> Path:
    path = SAMPLES / name
    if not path.exists():
        pytest.skip(f"the samples folder {SAMPLES} has no {name}")
    return path


@pytest.fixture(scope="module")
def rules() -> Rulebook:
    return rulebook(PipelineFolder(LETTERS, "letters", "1"))


def letter(sentence: str) -> str:
    return f"Dear Santa, {sentence}. Thank you and happy Christmas"


def judge(text: str, **files: str) -> Verdict:
    return assess(text, compile_rules({f"{k}.toml": v for k, v in files.items()}))


async def run(text: str, root: Path = LETTERS, **keys: Any) -> Any:
    context = Context(moderation, folder=root, settings=keys)
    return await moderation(Document(source="0" * 64, text=text), context)


# -- the rules of the letters pipeline -------------------------------------------------

SENTENCES = tomllib.loads(
    (Path(__file__).parent / "moderation_letters.toml").read_text()
)
HELD: dict[str, list[str]] = SENTENCES["held"]


@pytest.mark.parametrize(
    ("category", "sentence"),
    [(c, s) for c, sentences in HELD.items() for s in sentences],
)
def test_a_cry_for_help_or_a_threat_is_held(
    rules: Rulebook, category: str, sentence: str
) -> None:
    """A sentence that a person must read is held, in the category it belongs to."""
    verdict = assess(letter(sentence), rules)

    assert verdict.action == "hold"
    assert category in verdict.categories


@pytest.mark.parametrize(
    "sentence", SENTENCES["innocent"] + SENTENCES["innocent-later"]
)
def test_an_innocent_letter_passes(rules: Rulebook, sentence: str) -> None:
    """Toys, games, accidents and grief hold nothing."""
    verdict = assess(letter(sentence), rules)

    assert verdict.action == "allow", verdict.spans


@pytest.mark.parametrize("sentence", SENTENCES["later"])
def test_other_words_for_the_same_are_held(rules: Rulebook, sentence: str) -> None:
    """What the rules once missed stays found."""
    assert _held(letter(sentence), rules)


def test_a_flood_of_small_things_hides_nothing(rules: Rulebook) -> None:
    """A letter full of notes is still held for the one sentence that matters."""
    text = "stupid fuck " * 200 + "my dad hits me when he is drunk"

    verdict = assess(text, rules)

    assert {"disclosure", "profanity"} <= set(verdict.categories)
    assert verdict.categories[-1] == "insult"
    assert "disclosure" in {span.category for span in verdict.spans}


def test_grief_is_noted_and_held_by_nothing(rules: Rulebook) -> None:
    """The reply's writer is told that a letter needs care."""
    verdict = assess(letter("my dog died last week"), rules)

    assert (verdict.action, verdict.categories) == ("allow", ["care"])


# -- disguises -------------------------------------------------------------------------


def leet(text: str) -> str:
    return text.translate(str.maketrans("aeios", "431o5")).replace("o", "0")


def leet_inside(text: str) -> str:
    """Digits for the letters inside words, as `h4te`."""
    return re.sub(r"\B\w+\B", lambda inside: leet(inside[0]), text)


def spaced(text: str, by: str = " ") -> str:
    return "   ".join(by.join(word) for word in text.split())


def lookalike(text: str) -> str:
    return text.translate(str.maketrans("aeopcxyiu", "аеорсхуіυ"))


def stretched(text: str) -> str:
    return " ".join(w[:1] + w[1:2] * 4 + w[2:] for w in text.split())


def invisible(text: str) -> str:
    return "\u200b".join(text)


DISGUISES: list[Callable[[str], str]] = [
    str.upper,
    leet_inside,
    spaced,
    lambda text: spaced(text, "."),
    lambda text: spaced(text, "-"),
    lambda text: " ".join(text.replace(" ", "")),
    lookalike,
    stretched,
    invisible,
    lambda text: "".join(c + "\u0301" for c in text),
    lambda text: "".join(chr(ord(c) + 0xFEE0) if c.isalpha() else c for c in text),
    lambda text: text.replace(" ", "\n"),
]


@pytest.mark.parametrize("number", range(len(DISGUISES)))
def test_a_disguise_hides_nothing(rules: Rulebook, number: int) -> None:
    """Spaced, dotted, stretched, leet, lookalike or invisible: held all the same."""
    missed = [
        sentence
        for sentences in HELD.values()
        for sentence in sentences
        if assess(DISGUISES[number](sentence), rules).action == "allow"
    ]

    assert missed == []


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("I h4te k!ll @buse", "i hate kill abuse"),
        ("k i l l   m e", "kill me"),
        ("k.i.l.l", "kill"),
        ("haaaate", "hate"),
        ("кіll ＫＩＬＬ 🅺🅸🅻🅻", "kill kill kill"),
        ("hurt-\n  ing don’t", "hurting dont"),
        ("£4.50 on 24/12, the 4th at 10am", "£4.50 on 24/12, the 4th at 10am"),
        ("Stop!Please, 1 2 3 4 and a 4 x 4", "stop!please, 1 2 3 4 and a 4 x 4"),
    ],
)
def test_disguises_go_and_numbers_stay(written: str, plain: str) -> None:
    """What stands for letters is read as letters; prices and dates are left."""
    assert normalise(written).text == plain


HARD = st.text(
    alphabet=st.sampled_from(list("abkil  IL1345@$!|*+.-_'\n\u200b\u0301ілкЅéß́²½ ①")),
    max_size=40,
)
TEXTS = st.one_of(HARD, st.text(max_size=40))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(TEXTS)
def test_every_character_knows_where_it_came_from(text: str) -> None:
    """Places lie in the original, in its order, and are never empty."""
    plain = normalise(text)

    assert len(plain.text) == len(plain.starts) == len(plain.ends)
    assert all(
        0 <= start < end <= len(text)
        for start, end in zip(plain.starts, plain.ends, strict=True)
    )
    assert list(plain.starts) == sorted(plain.starts)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(TEXTS)
def test_plain_text_is_left_as_it_is(text: str) -> None:
    """Normalising again changes nothing and maps each character to itself."""
    plain = normalise(text).text

    again = normalise(plain)

    assert again.text == plain
    assert list(again.starts) == list(range(len(plain)))
    assert list(again.ends) == list(range(1, len(plain) + 1))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    TEXTS,
    st.sampled_from(HELD["disclosure"]),
    st.sampled_from(DISGUISES),
    TEXTS,
)
def test_a_span_shows_what_was_matched(
    before: str, sentence: str, disguise: Any, after: str
) -> None:
    """The slice of the original behind a span is weighed as the whole was."""
    rules = rulebook(PipelineFolder(LETTERS, "letters", "1"))
    text = f"{before}\n; {disguise(sentence)} ;\n{after}"

    verdict = assess(text, rules)

    for span in verdict.spans:
        assert 0 <= span.start < span.end <= len(text)
        alone = assess(text[span.start : span.end], rules)
        assert (span.category, span.rule) in {(s.category, s.rule) for s in alone.spans}


# -- personal data ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "found"),
    [
        ("write to mia.b@example.org please", "email", "mia.b@example.org"),
        ("call 07700 900123 now", "phone", "07700 900123"),
        ("call +44 7700 900123 now", "phone", "+44 7700 900123"),
        ("card 4111 1111 1111 1111 ok", "card", "4111 1111 1111 1111"),
        ("DE89 3704 0044 0532 0130 00 and", "iban", "DE89 3704 0044 0532 0130 00"),
        ("PT50000201231234567890154.", "iban", "PT50000201231234567890154"),
        (
            "to BR18 0036 0305 0000 1000 9795 493C 1 please, dear",
            "iban",
            "BR18 0036 0305 0000 1000 9795 493C 1",
        ),
        ("number 078-05-1120.", "ssn", "078-05-1120"),
        ("I live at 14 Maple Road.", "street", "14 Maple Road."),
        ("Lindenweg 5 in the wood", "street", "Lindenweg 5"),
        ("Leeds LS6 3AB", "postcode-uk", "LS6 3AB"),
        ("Boston MA 02134", "postcode-us", "MA 02134"),
        ("12345 Musterstadt", "postcode-de", "12345 Musterstadt"),
    ],
)
def test_personal_data_is_found(text: str, kind: str, found: str) -> None:
    """Each kind is found where it stands, with its own name."""
    places = [(p.kind, text[p.start : p.end]) for p in find_personal(text)]

    assert (kind, found) in places


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1112",  # the Luhn digit is wrong
        "DE88 3704 0044 0532 0130 00",  # the check digits are wrong
        "XX82 WEST 1234 5698 7654 32",  # no country's
        "on 24/12/2024 at 10:30 I was 7",
        "I have 10 of them in a way and 4 on the road",
        "",
    ],
)
def test_numbers_that_are_not_personal_are_left(text: str) -> None:
    """A wrong check digit, a date or a count is no card, account or phone."""
    kinds = {p.kind for p in find_personal(text)}

    assert kinds.isdisjoint({"card", "iban", "phone", "street"})


async def test_rules_are_compiled_beside_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It takes most of a second, and others are on the loop."""
    where: list[int] = []

    def noted(*given: Any) -> Rulebook:
        where.append(threading.get_ident())
        return rulebook(*given)

    monkeypatch.setattr("stages.moderation.rulebook", noted)
    await run("Dear Santa, I was good.")

    assert where
    assert threading.get_ident() not in where


async def test_a_card_number_holds_and_an_address_does_not() -> None:
    """Letters carry addresses; nobody needs a card number in one."""
    address = await run("I live at 14 Maple Road, Leeds LS6 3AB")
    card = await run("Mum's card is 4111 1111 1111 1111")

    assert isinstance(address, Advance)
    assert {s.rule for s in address.updates["verdict"].personal} >= {"street"}
    assert isinstance(card, Hold)
    assert card.code == "PERSONAL_DATA"


# -- the stage -------------------------------------------------------------------------


async def test_a_held_letter_shows_the_reviewer_why() -> None:
    """The hold names category and rules, quotes nothing, and marks the places."""
    text = letter("my uncle touches me and said it is a secret")

    outcome = await run(text)

    assert isinstance(outcome, Hold)
    assert outcome.code == "DISCLOSURE"
    assert "disclosure" in outcome.why
    assert "uncle" not in outcome.why
    assert outcome.updates["verdict"].action == "hold"
    shown = outcome.evidence["excerpts"][0]
    start, end = shown["marked"]
    assert shown["text"][start:end] in text
    assert json.loads(json.dumps(outcome.evidence)) == outcome.evidence


async def test_a_blocking_category_rejects(tmp_path: Path) -> None:
    """Where a rule file says block, the item is rejected with its name."""
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "spam.toml").write_text(
        'category = "spam"\naction = "block"\nseverity = 1\n'
        '[[rule]]\nname = "lottery"\nphrases = ["won|win the lottery"]\n'
    )

    outcome = await run("You won the lottery", tmp_path)

    assert isinstance(outcome, Reject)
    assert outcome.code == "SPAM"


async def test_a_long_text_is_judged_like_a_short_one() -> None:
    """A phrase on a cut between slices is found once; an excuse still counts."""
    filler = "we went to see the lights " * 140
    cut = next(iter(slices(filler)))[1]
    for shift in range(-300, 61, 20):
        bad = f"{filler[: cut + shift]} my dad hits me so hard {filler[:600]}"
        good = f"{filler[: cut + shift]} my dad beats me at chess {filler[:600]}"

        held, passed = await run(bad), await run(good)

        assert isinstance(held, Hold)
        spans = held.updates["verdict"].spans
        found = [s for s in spans if s.rule == "hurt-by-adult"]
        assert ["dad hits me" in bad[s.start : s.end] for s in found] == [True]
        assert isinstance(passed, Advance), shift


async def test_a_text_that_is_too_long_is_held() -> None:
    """What is not read by rules is not waved through."""
    outcome = await run("a " * 50, max_chars=99)

    assert isinstance(outcome, Hold)
    assert outcome.code == "TEXT_TOO_LONG"


@pytest.mark.parametrize("text", ["", " \n\f", "12 34", "☃🎄", "\x00\ud800", "؟؟"])
async def test_a_text_without_words_passes(text: str) -> None:
    """Nothing to judge is nothing to hold."""
    assert isinstance(await run(text), Advance)


# -- rule files ------------------------------------------------------------------------

RULE = 'category = "spam"\naction = "hold"\nseverity = 2\n'


@pytest.mark.parametrize(
    ("broken", "key"),
    [
        ("category = ", "TOML"),
        (RULE, "rule"),
        (RULE.replace("hold", "shout"), "action"),
        (RULE + '[[rule]]\nname = "a"\nphrase = ["win"]', "rule.0.phrase"),
        (RULE + '[[rule]]\nname = "a"\nphrases = ["win {prize}"]', "{prize}"),
        (RULE + '[[rule]]\nname = "a"\nphrases = ["... win"]', "begin and end"),
        (RULE + '[[rule]]\nname = "a"\nphrases = ["wiii"]', "twice"),
        (RULE + '[[rule]]\nname = "a"\npatterns = ["(a+)+b"]', "unbounded"),
        (RULE + "[[rule]]\nname = 'a'\npatterns = ['(a{1,9}){1,9}']", "repeated"),
        (RULE + "[[rule]]\nname = 'a'\npatterns = ['\\w{0,99}\\w{0,99}']", "product"),
        (RULE + "[[rule]]\nname = 'a'\npatterns = ['(ab']", "expression"),
    ],
)
def test_a_broken_rule_file_is_refused_by_name_and_key(broken: str, key: str) -> None:
    """The error names the file and what is wrong in it, before any item runs."""
    with pytest.raises(Usage, match=r"spam\.toml") as caught:
        compile_rules({"spam.toml": broken})

    assert caught.value.code == "RULES_INVALID"
    assert key in str(caught.value)


def test_a_folder_without_rules_is_refused(tmp_path: Path) -> None:
    """No rules would mean that every text passes."""
    with pytest.raises(Usage) as caught:
        rulebook(PipelineFolder(tmp_path, "letters", "1"))

    assert caught.value.code == "RULES_MISSING"


def test_rules_are_compiled_once_a_version(tmp_path: Path) -> None:
    """The same version gives the same rulebook; another version reads anew."""
    first = rulebook(PipelineFolder(LETTERS, "letters", "a"))

    assert rulebook(PipelineFolder(LETTERS, "letters", "a")) is first
    assert rulebook(PipelineFolder(LETTERS, "letters", "b")) is not first


def test_an_excuse_must_overlap_what_it_excuses() -> None:
    """`unless` cancels a match it shares a word with, and no other."""
    spam = RULE + (
        '[words]\ngame = ["chess", "a race"]\n'
        '[[rule]]\nname = "win"\nphrases = ["win* ... money|cash"]\n'
        'patterns = ["\\\\bfree {1,2}gift"]\nunless = ["money in {game}"]\n'
    )

    assert judge("winning lots of m0ney", spam=spam).action == "hold"
    assert judge("your free  gift", spam=spam).action == "hold"
    assert judge("win the money in a race", spam=spam).action == "allow"
    assert judge("win money. My money in chess", spam=spam).action == "hold"


# -- samples ---------------------------------------------------------------------------


def test_real_letters_of_children_all_pass(rules: Rulebook) -> None:
    """No false hold on letters printed in newspapers before 1929."""
    lines = sample("santa_letters_real/letters.jsonl").read_text().splitlines()

    held = [r["id"] for r in map(json.loads, lines) if _held(r["text"], rules)]

    assert lines
    assert held == []


def test_hostile_strings_pass_quickly(rules: Rulebook) -> None:
    """The whole list of naughty strings takes less than two seconds."""
    strings = json.loads(sample("naughty_strings/blns.json").read_text())
    began = time.process_time()

    for string in strings:
        assess(string, rules)

    took_s = time.process_time() - began
    print(f"\n{len(strings)} hostile strings: {took_s:.2f} s")
    assert took_s < 2


@pytest.mark.parametrize("text", ["a ", "k.", "a1", "@!", "i want ", "my dad ", "aaaa"])
def test_repetition_takes_time_in_proportion(rules: Rulebook, text: str) -> None:
    """Three thousand characters, one slice, of anything repeated: under a second."""
    began = time.process_time()

    assess(text * (3000 // len(text)), rules)

    assert time.process_time() - began < 1


def _held(text: str, rules: Rulebook) -> bool:
    return assess(text, rules).action != "allow"


# Labels of the sample that our rules claim something about, and the least share
# found: what was measured (in the comment) less a margin.  The rules were tuned on
# this very sample, so new texts will do worse.
FLOORS = {
    "hate": 0.88,  # 0.96 of 25
    "H": 0.80,  # 0.94 of 16: hate, longer texts
    "SH": 0.80,  # 1.00 of 6: self-harm
    "V": 0.80,  # 1.00 of 5: violence
    "toxic": 0.48,  # 0.56 of 25: mostly politics, which no child writes
    "unsafe_request": 0.60,  # 0.68 of 25: questions to a chat machine
}
DISGUISE_LOSS = 0.10  # of what is found undisguised, a disguise may hide this much


def test_labelled_texts_keep_their_figures(rules: Rulebook) -> None:
    """Recall by label, precision, and recall in disguise stay above their floors."""
    path = sample("moderation/dev_mix.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    flagged = [row for row in rows if row["flagged"]]

    found = {row["id"] for row in rows if _held(row["text"], rules)}

    print()
    for label, floor in FLOORS.items():
        of_label = {row["id"] for row in flagged if label in row["categories"]}
        recall = len(of_label & found) / len(of_label)
        print(f"{label:15} recall {recall:.2f} of {len(of_label)}")
        assert recall >= floor, label
    right = [row for row in flagged if row["id"] in found]
    print(
        f"all: precision {len(right) / len(found):.2f}, recall {len(right) / 100:.2f}"
    )
    assert len(right) / len(found) >= 0.78  # 0.84 measured
    # Two hundred characters are enough to see whether a disguise holds.
    plain = [r for r in right if _held(r["text"][:200], rules)]
    for number, disguise in enumerate(DISGUISES):
        still = [r for r in right if _held(disguise(r["text"][:200]), rules)]
        print(f"disguise {number:2}: {len(still)} of {len(plain)}")
        assert len(still) >= (1 - DISGUISE_LOSS) * len(plain), number


# What the sample calls each kind, and the least share found whole.
PERSONAL_FLOORS = {
    "EMAIL_ADDRESS": ("email", 1.0),
    "CREDIT_CARD": ("card", 0.8),
    "PHONE_NUMBER": ("phone", 0.8),
    "US_SSN": ("ssn", 1.0),
    "IBAN_CODE": ("iban", 1.0),
}


def test_labelled_personal_data_keeps_its_figures() -> None:
    """Numbers and e-mail addresses in synthetic sentences are found whole."""
    rows = json.loads(sample("pii_presidio/dev_100.json").read_text())

    print()
    for label, (kind, floor) in PERSONAL_FLOORS.items():
        hit = total = 0
        for row in rows:
            places = {
                row["full_text"][p.start : p.end]
                for p in find_personal(row["full_text"])
                if p.kind == kind
            }
            values = [
                s["entity_value"] for s in row["spans"] if s["entity_type"] == label
            ]
            total += len(values)
            hit += sum(value in places for value in values)
        print(f"{label:15} {hit} of {total}")
        assert hit >= floor * total, label


def test_folding_keeps_digits_and_line_breaks() -> None:
    """Personal data is looked for in text whose numbers are as written."""
    assert fold("Ａ\u200b1\n2").text == "a1\n2"
