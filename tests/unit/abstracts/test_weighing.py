"""Checks, doubts, and a lawyer's answers: what stands, and what is asked again."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from stages.abstracts.answers import NOWHERE
from stages.abstracts.checks import after, checks, words_of
from stages.abstracts.doubts import Doubt, evidence
from stages.abstracts.forms import Check, Clause
from stages.abstracts.weighing import Weighed, weighed
from tests.unit.abstracts.made import TEXT, absent, clauses, quoted, said, structure


def judge(found: dict[str, Clause], **rulings: Any) -> Weighed:
    return weighed(structure(), found, rulings, TEXT, 0.5)


def check(found: dict[str, Clause], name: str) -> Check:
    made = checks(found, TEXT, structure().sections)
    return next(one for one in made if one.name == name)


# -- checks ---------------------------------------------------------------------------


def test_a_sound_contract_passes_every_check():
    found = checks(clauses(), TEXT, structure().sections)

    assert [(one.name, one.ok) for one in found] == [
        *(("quotes_verbatim", True), ("two_parties", True), ("expiry_agrees", True)),
        *(("signers_are_parties", True), ("one_currency", True)),
    ]


def test_an_expiry_that_its_term_does_not_come_to_fails():
    """To the day, and to the day before; nothing else."""
    ends = clauses()["expiration_date"]

    found = {
        day: check(
            clauses(
                expiration_date=ends.model_copy(update={"value": said("date", day)})
            ),
            "expiry_agrees",
        ).ok
        for day in ("2028-04-29", "2028-04-30", "2028-05-01", "2028-05-02")
    }

    assert list(found.values()) == [False, True, True, False]


def test_what_is_missing_is_no_failure():
    """A check that lacks what it needs is not made, and says what that is."""
    found = check(clauses(effective_date=absent("effective_date")), "expiry_agrees")

    assert found.ok is None
    assert found.why == "not made: no effective date was read"


def test_one_party_is_a_doubt_until_a_person_says_who_they_are():
    """Called by two names it is one; no companies among the signatures say no more."""
    one = quoted("parties", "Birch LLC", "Birch")
    found = clauses(parties=one, signatories=absent("signatories"))

    doubts = dict(judge(found).doubts)
    now = judge(found, parties={"action": "correct", "quote": "Alder Works, Inc."})

    assert doubts["two_parties"] == "one party was read, and a contract has two or more"
    assert check(now.clauses, "two_parties").ok is True
    assert "two_parties" not in dict(now.doubts)


def test_who_signs_and_is_no_party_is_named():
    found = check(
        clauses(parties=quoted("parties", "Birch LLC")), "signers_are_parties"
    )

    assert found.ok is False
    assert "ALDER WORKS, INC." in found.why


def test_amounts_in_two_currencies_fail():
    value = {"kind": "money", "text": "1 EUR", "amount": "1", "currency": "EUR"}
    other = clauses()["fees"].model_copy(update={"value": said("none", "")})
    other = other.model_validate({**other.model_dump(), "value": value})
    fees = clauses()["fees"]
    both = fees.quotes[0].model_copy(update={"text": "GBP 7,500 and EUR 2,000"})

    found = check(clauses(cap=other), "one_currency")
    beside = check(
        clauses(fees=fees.model_copy(update={"quotes": (both,)})), "one_currency"
    )

    assert (found.ok, found.why) == (False, "amounts are in EUR, USD")
    assert (beside.ok, "EUR, GBP" in beside.why) == (False, True)


def test_a_quote_that_is_not_the_text_fails():
    fees = clauses()["fees"]
    quote = fees.quotes[0].model_copy(update={"text": "Birch shall pay $9,000"})

    found = check(
        clauses(fees=fees.model_copy(update={"quotes": (quote,)})), "quotes_verbatim"
    )

    assert (found.ok, found.about) == (False, ("fees",))


@pytest.mark.parametrize(
    ("day", "term", "then"),
    [
        ("2024-02-29", "P1Y", "2025-02-28"),
        ("2025-01-31", "P1M", "2025-02-28"),
        ("2025-11-15", "P18M", "2027-05-15"),
        ("2025-01-01", "P2W", "2025-01-15"),
        ("2025-01-01", "P30D", "2025-01-31"),
    ],
)
def test_terms_are_counted_as_calendars_do(day: str, term: str, then: str):
    assert after(date.fromisoformat(day), term) == date.fromisoformat(then)


def test_a_term_beyond_all_calendars_is_none():
    assert after(date(2025, 1, 1), "P9999Y") is None
    assert after(date(2025, 1, 1), "for ever") is None


def test_names_are_compared_without_their_forms():
    assert words_of("ALDER WORKS, INC.") == words_of("Alder Works Incorporated")
    assert words_of("Alder Works") != words_of("Birch Works")


# -- doubts ---------------------------------------------------------------------------


def test_a_sound_contract_asks_nobody():
    assert judge(clauses()).doubts == []


def test_what_is_doubtful_is_asked_about():
    """Unclear, required and absent, readers that disagree, a check that failed."""
    unclear = quoted("fees", "Birch shall pay").model_copy(
        update={"verdict": "unclear", "confidence": 0.4}
    )
    disputed = unclear.model_copy(
        update={
            "type": "audit_rights",
            "opinions": {"words": "present", "model": "absent"},
        }
    )
    found = clauses(
        fees=unclear,
        audit_rights=disputed,
        governing_law=absent("governing_law"),
        parties=quoted("parties", "Birch LLC"),
    )

    doubts = dict(judge(found).doubts)

    assert list(doubts) == [
        "governing_law",
        "fees",
        "audit_rights",
        "two_parties",
        "signers_are_parties",
    ]
    assert "required" in doubts["governing_law"]
    assert "words: present, model: absent" in doubts["audit_rights"]


def test_a_failed_check_shows_each_place_once_with_its_types():
    """An answer needs a type's name, and one sentence may be of several types."""
    fees = clauses()["fees"]
    found = clauses(price=fees.model_copy(update={"type": "price"}))
    failed = Check(
        name="one_currency",
        ok=False,
        why="amounts are in EUR, USD",
        about=("fees", "price", "governing_law"),
    )

    laid = evidence(
        [Doubt(failed.name, failed.why)], found, structure().types, [failed], TEXT
    )

    [doubt] = laid["doubts"]
    assert doubt["about"] == "fees, price, governing_law"
    assert [(q["of"], q["page"]) for q in doubt["quotes"]] == [
        ("fees, price", 1),
        ("governing_law", 2),
    ]


# -- answers --------------------------------------------------------------------------

LAWYER = {"by": "a reviewer", "at": "2026-11-27T10:00:00+00:00"}


def test_each_answer_does_what_it_says():
    unclear = quoted("fees", "Birch shall pay").model_copy(
        update={"verdict": "unclear", "confidence": 0.4}
    )
    found = clauses(fees=unclear, governing_law=absent("governing_law"))

    now = judge(
        found,
        fees={"action": "accept", **LAWYER},
        governing_law={"action": "missed", "quote": "laws of Ohio", **LAWYER},
        audit_rights={"action": "accept", **LAWYER},
        signatories={"action": "absent", **LAWYER},
        effective_date={"action": "correct", "quote": "May 1, 2025", **LAWYER},
    )

    stands = {name: clause.verdict for name, clause in now.clauses.items()}
    assert (stands["fees"], stands["governing_law"]) == ("present", "present")
    assert (stands["audit_rights"], stands["signatories"]) == ("absent", "absent")
    law = now.clauses["governing_law"]
    assert (law.quotes[0].text, law.quotes[0].page) == ("laws of Ohio", 2)
    assert law.quotes[0].readers == ("person",)
    assert law.value is not None
    assert law.value.text == "Ohio"
    assert law.decision is not None
    assert law.decision.model_dump() == {
        **LAWYER,
        "action": "missed",
        "was": "absent",
        "reason": "",
    }
    assert now.clauses["effective_date"].value == said("date", "2025-05-01")
    assert (now.doubts, now.refused) == ([], {})


def test_a_quote_that_stands_nowhere_is_refused_and_asked_again():
    """With its reason, and what the readers found is left."""
    bad = {"action": "correct", "quote": "the laws of Spain", **LAWYER}

    now = judge(clauses(), governing_law=bad)

    assert now.refused == {"governing_law": NOWHERE}
    assert [doubt.name for doubt in now.doubts] == ["governing_law"]
    assert now.clauses["governing_law"].decision is None
    assert "Spain" not in str(now)


@pytest.mark.parametrize(
    ("name", "answer", "why"),
    [
        ("fees", {"action": "missed"}, "it needs a quote"),
        ("fees", {"action": "missed", "quote": "1."}, "too short"),
        ("audit_rights", {"action": "correct", "value": "x"}, "none was found"),
        ("fees", {"action": "correct", "value": "a lot"}, "an amount"),
        ("parties", {"action": "correct", "value": "  "}, "blank"),
        ("fees", {"action": "accept", "quote": "Birch"}, "it takes no quote"),
        ("expiry_agrees", {"action": "absent"}, "a check is accepted"),
        ("fees", {"action": "shout"}, "action"),
        ("fees", "accept", "it"),
        ("no_such", {"action": "accept"}, "no such type"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, answer: Any, why: str):
    assert why in judge(clauses(), **{name: answer}).refused[name]


def test_what_a_person_says_turns_nothing_and_steers_nothing():
    """It is printed, and told to a CRM: no mark of direction or control is kept."""
    turned = "\u202e\x1b[31m\u2066ok\u2069\x07"
    who = {"by": turned, "at": turned, "reason": turned}

    now = judge(clauses(), parties={"action": "correct", "value": turned, **who})

    clause = now.clauses["parties"]
    assert clause.value is not None
    assert clause.value.text == "[31mok"
    assert clause.decision is not None
    assert set(clause.decision.model_dump().values()) >= {"[31mok"}
    assert "\u202e" not in now.clauses["parties"].model_dump_json()


def test_a_mended_date_mends_its_check():
    """The check is made again; nobody has to accept it as well."""
    ends = clauses()["expiration_date"]
    wrong = ends.model_copy(update={"value": said("date", "2029-04-30")})
    found = clauses(expiration_date=wrong)
    assert [doubt.name for doubt in judge(found).doubts] == ["expiry_agrees"]

    now = judge(found, expiration_date={"action": "correct", "value": "April 30, 2028"})

    assert now.doubts == []
    assert next(c for c in now.checks if c.name == "expiry_agrees").ok is True


def test_a_failed_check_may_be_taken_as_it_is():
    found = clauses(parties=quoted("parties", "Birch LLC"))

    taken = {"action": "accept", "reason": "Alder is its parent", **LAWYER}
    now = judge(found, signers_are_parties=taken, two_parties=taken)

    failed = [(c.accepted, c.reason) for c in now.checks if c.ok is False]
    assert failed == [("a reviewer", "Alder is its parent")] * 2
    assert now.doubts == []
