"""`waybill review clause`: what is typed, as answers; and what is refused at once."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import Usage
from pipeline.store.rows import HoldRow
from tests.unit.abstracts.made import TEXT, clauses
from waybill.commands.clauses import Words, answers_of, names_of, rows_of
from waybill.commands.review import assignments
from waybill.desk.model import with_what_is_asked

AT = datetime(2026, 11, 27, 10, tzinfo=UTC)
WHO = {"by": "a reviewer", "at": "2026-11-27T10:00:00+00:00"}


def test_a_file_of_json_is_read_as_what_it_says(tmp_path: Path) -> None:
    """And any other as a text, which may begin with a bracket."""
    for name in ("one.json", "one.txt"):
        (tmp_path / name).write_text('\ufeff{"fees": {"action": "accept"}}')
    (tmp_path / "bad.json").write_text("{")

    given = assignments([f"rulings=@{tmp_path}/one.json", f"text=@{tmp_path}/one.txt"])

    assert given["rulings"] == {"fees": {"action": "accept"}}
    assert given["text"].endswith('{"fees": {"action": "accept"}}')
    with pytest.raises(Usage, match="not JSON"):
        assignments([f"rulings=@{tmp_path}/bad.json"])


def held() -> HoldRow:
    """A hold with two types and a check in doubt."""
    doubts = [{"rule_on": n} for n in ("fees", "governing_law")]
    check = {"rule_on": "expiry_agrees", "check": "no", "about": "term, fees"}
    doubts.append(check)
    evidence = {"doubts": doubts, "types": "audit_rights, parties"}
    found = {name: clause.model_dump() for name, clause in clauses().items()}
    state = {"text": TEXT, "clauses": found}
    shown = {"evidence": evidence, "state": state}
    given = dict.fromkeys(HoldRow._fields) | {"id": 7, "shown": shown}
    given |= {"needs": ["rulings"], "code": "CLAUSES_DOUBTFUL"}
    return HoldRow(**given)  # type: ignore[arg-type]


def ruled(
    accept: list[str] | None = None,
    correct: list[str] | None = None,
    absent: list[str] | None = None,
    missed: list[str] | None = None,
) -> dict[str, Any]:
    """What these words say of it."""
    said = Words(accept or [], correct or [], absent or [], missed or [])
    found: dict[str, Any] = answers_of(held(), said, "a reviewer", AT)["rulings"]
    return found


def test_what_is_in_no_doubt_is_a_number_and_is_listed_apart():
    """A screen has what concerns the doubt, and how to see the rest."""
    hold = held()

    shown = with_what_is_asked(hold, hold.shown["evidence"])

    assert shown["types"] == (
        "2 not in doubt: `waybill review clause h7 --types` lists them"
    )
    assert shown["doubts"] == hold.shown["evidence"]["doubts"]
    other = hold._replace(code="LOOK")
    assert with_what_is_asked(other, {"types": "a, b"}) == {"types": "a, b"}
    assert names_of(hold) == (
        ["fees", "governing_law", "expiry_agrees"],
        ["audit_rights", "parties"],
    )


def test_each_type_is_listed_with_what_was_found_of_it():
    """Verdict, page and value, or how its quote begins: what one corrects by."""
    rows = [tuple(row.values()) for row in rows_of(held())]

    assert rows == [
        ("fees", True, "present", 1, "5000 USD"),
        ("governing_law", True, "present", 2, "The laws of Ohio govern it."),
        ("expiry_agrees", True, "check", None, ""),
        ("audit_rights", False, "absent", None, ""),
        ("parties", False, "present", 1, "Alder Works, Inc."),
    ]


def test_each_word_becomes_an_answer_with_who_and_when():
    """`all` is what is in doubt and not ruled on otherwise."""
    found = ruled(
        accept=["all"],
        correct=['fees={"quote": "Birch shall pay", "value": "$5,000"}'],
        missed=["audit_rights=It continues for"],
    )

    assert found == {
        "fees": {
            "action": "correct",
            "quote": "Birch shall pay",
            "value": "$5,000",
            **WHO,
        },
        "audit_rights": {"action": "missed", "quote": "It continues for", **WHO},
        "governing_law": {"action": "accept", **WHO},
        "expiry_agrees": {"action": "accept", **WHO},
    }


def test_the_reason_goes_with_each_answer():
    said = Words(["all"], [], ["fees"], [])

    found = answers_of(held(), said, "a reviewer", AT, " as the annex says\n")

    reasons = {one["reason"] for one in found["rulings"].values()}
    assert reasons == {"as the annex says"}


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        ({"correct": ["fees=Birch pays nothing"]}, "QUOTE_NOWHERE", "fees"),
        ({"correct": ["fees=1."]}, "QUOTE_NOWHERE", "too short"),
        ({"correct": ["expiry_agrees=It continues"]}, "USAGE", "only be accepted"),
        ({"absent": ["expiry_agrees"]}, "USAGE", "is a check"),
        ({"accept": ["rent"]}, "USAGE", "rent"),
        ({"accept": ["fees"], "absent": ["fees"]}, "USAGE", "twice"),
        ({"missed": ["audit_rights"]}, "USAGE", "TYPE="),
        ({"correct": ["fees={no"]}, "USAGE", "JSON"),
        ({"correct": ['fees={"words": "x"}']}, "USAGE", "fees"),
        ({}, "USAGE", "nothing is ruled"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_decided(
    words: dict[str, list[str]], code: str, why: str
):
    with pytest.raises(Usage) as raised:
        ruled(**words)

    assert raised.value.code == code
    assert why in raised.value.message
    assert "nothing" not in raised.value.message or not words
