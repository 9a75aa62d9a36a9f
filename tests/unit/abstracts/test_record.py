"""The record of a contract, what a CRM is told of it, and what is printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pypdfium2
import pytest

from stages.abstracts import sheet
from stages.abstracts.answers import Answer, accepted
from stages.abstracts.checks import checks
from stages.abstracts.forms import Check, Decision, Gap, Said
from stages.abstracts.record import fields_of, record, written
from tests.unit.abstracts.made import TEXT, absent, clauses, quoted, structure

TEMPLATE = Path(__file__).parents[3] / "examples/contracts/templates/abstract.typ"


def recorded(**others: Any) -> dict[str, Any]:
    found = clauses(**others)
    head = {"name": "supply.pdf", "item": 7, "source": "ab" * 32, "pages": 2}
    gaps = [Gap(type="insurance", why="AGENT_BUDGET")]
    types = structure().types
    made = checks(found, TEXT, structure().sections)
    return record(head, types, found, made, gaps, "none")


def test_a_record_accounts_for_every_field():
    """Quotes, pages, readers, who decided; and plainly that no model has read."""
    why = "the annex has none"
    decision = Decision(
        action="absent", by="a reviewer", at="2026-11-27", was="absent", reason=why
    )
    found = absent("audit_rights").model_copy(update={"decision": decision})

    data = json.loads(written(recorded(audit_rights=found)))

    assert (data["model"], data["readers"]) == ("none", ["heading", "words"])
    assert "rules alone" in data["note"]
    law = data["clauses"]["governing_law"]["quotes"][0]
    assert (law["text"], law["page"]) == ("The laws of Ohio govern it.", 2)
    assert law["readers"] == ["heading", "words"]
    assert data["decisions"] == [
        {"type": "audit_rights", **decision.model_dump(mode="json")}
    ]
    assert data["decisions"][0]["reason"] == why
    assert sheet.page_of(data)["decisions"][0]["reason"] == why
    assert data["counts"] == {
        "types": 7,
        "present": 6,
        "absent": 1,
        "unclear": 0,
        "gaps": 1,
        "decided": 1,
    }


def test_a_check_that_was_accepted_is_a_decision():
    """Who took it as it is, when and why, beside what was said of clauses."""
    taken = Check(name="expiry_agrees", ok=False, why="a year is missing")
    answer = Answer(action="accept", by="ada", at="2026-11-27T10:00", reason="a typo")
    checked = accepted([taken], {"expiry_agrees": answer})

    head = {"name": "a.pdf", "item": 7, "source": "ab" * 32, "pages": 1}
    data = record(head, structure().types, clauses(), checked, [], "none")

    assert data["counts"]["decided"] == 1
    assert data["decisions"] == [
        {
            "check": "expiry_agrees",
            "action": "accept",
            "by": "ada",
            "at": "2026-11-27T10:00",
            "reason": "a typo",
        }
    ]
    [shown] = sheet.page_of(data)["decisions"]
    assert shown["title"] == sheet.CHECKS["expiry_agrees"]
    assert (shown["by"], shown["action"]) == ("ada", "accepted")


def test_a_crm_is_told_values_and_nothing_of_what_is_absent():
    columns = {
        "Start": "effective_date",
        "Law": "governing_law",
        "Audit": "audit_rights",
    }

    told = fields_of(recorded(), columns)

    assert told == {"Start": "2025-05-01", "Law": "The laws of Ohio govern it."}


def test_a_crm_is_told_nothing_that_hides_or_turns_what_it_is_told():
    data = recorded()
    [quote] = data["clauses"]["governing_law"]["quotes"]
    quote["text"] = "The laws of\u202e oihO \u202cgo\u00advern\x07\u200b it.\n\x1b[2J"

    told = fields_of(data, {"Law": "governing_law"})

    assert told == {"Law": "The laws of oihO govern it. [2J"}


def test_what_is_printed_is_what_a_lawyer_reads():
    """Dates and sums as people write them; each party once; nothing of typst."""
    page = sheet.page_of(recorded())

    assert page["parties"] == ["Alder Works, Inc.", "Birch LLC"]
    facts = {fact["title"]: fact["rows"] for fact in page["facts"]}
    assert [(t["title"], t["said"]) for t in facts["Dates"]] == [
        ("Effective Date", "1 May 2025"),
        ("Expiration Date", "30 April 2028"),
    ]
    assert [row["said"] for row in facts["Money"]] == ["USD 5,000.00"]
    assert facts["Term"] == [{"title": "Initial Term", "said": "3 years", "page": 1}]
    assert page["signers"] == ["ALDER WORKS, INC.", "BIRCH, LLC"]
    assert [(one["sign"], one["title"]) for one in page["look"]] == [
        ("gap", "insurance")
    ]
    assert [group["names"] for group in page["absent"]] == [["Audit Rights"]]


def test_parties_that_a_person_named_are_printed_by_their_names():
    """And not by the words that they stand in."""
    ruling = Decision(action="missed", by="a lawyer", at="2026-11-27", was="absent")
    quote = "by Alder Works, Inc. and Birch LLC"
    named = Said(kind="names", text="Alder Works; Birch")
    found = quoted("parties", quote, value=named)

    page = sheet.page_of(
        recorded(parties=found.model_copy(update={"decision": ruling}))
    )

    assert page["parties"] == ["Alder Works", "Birch"]


def test_a_check_says_a_term_as_people_do():
    expiry = next(c for c in recorded()["checks"] if c["name"] == "expiry_agrees")

    assert expiry["why"] == (
        "2025-05-01 and 3 years come to 2028-05-01; 2028-04-30 is said"
    )


def test_a_term_without_a_day_is_a_row_of_the_term():
    """And no cut sentence among the dates; a renewal is no first term."""
    ends = clauses()["expiration_date"]

    def rows(text: str) -> dict[str, Any]:
        quote = ends.quotes[0].model_copy(update={"text": text})
        made = ends.model_copy(update={"quotes": (quote,), "value": None})
        page = sheet.page_of(recorded(expiration_date=made))
        return {fact["title"]: fact["rows"] for fact in page["facts"]}

    lasts = rows("The term is eighteen (18) months and renews for a year each time.")
    renewed = rows("It renews each time for a further period of one year.")

    assert [row["said"] for row in lasts["Term"]] == ["18 months"]
    assert [row["title"] for row in lasts["Dates"]] == ["Effective Date"]
    assert renewed["Term"] == []
    assert [row["title"] for row in renewed["Dates"]] == [
        "Effective Date",
        "Expiration Date",
    ]


def test_a_sum_that_is_paid_each_year_says_so():
    """As the contract says it: `$5,000 per year` is not `$5,000`."""
    fees = clauses()["fees"]
    assert fees.value is not None
    each = fees.value.model_copy(update={"per": "year"})

    page = sheet.page_of(recorded(fees=fees.model_copy(update={"value": each})))

    facts = {fact["title"]: fact["rows"] for fact in page["facts"]}
    assert [row["said"] for row in facts["Money"]] == ["USD 5,000.00 per year"]


def test_a_value_that_was_taken_of_several_is_looked_at():
    """With its page; not where a person has ruled on it."""
    fees = clauses()["fees"]
    assert fees.value is not None
    text = "Birch shall pay $5,000 per year, of which $800 at once."
    both = fees.quotes[0].model_copy(update={"text": text})
    value = fees.value.model_copy(update={"text": "5000.00 USD"})
    found = fees.model_copy(update={"quotes": (both,), "value": value})
    ruled = Decision(action="accept", by="a lawyer", at="2026-11-27", was="present")

    look = sheet.page_of(recorded(fees=found))["look"]
    after = sheet.page_of(recorded(fees=found.model_copy(update={"decision": ruled})))

    assert {"sign": "value", "title": "Fees", "why": look[-2]["why"]} == look[-2]
    assert look[-2]["why"] == "USD 5,000.00 was taken of 2 values, page 1"
    assert [one["sign"] for one in after["look"]] == ["check", "gap"]


def test_what_a_lawyer_must_look_at_stands_on_page_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Doubts with their page, what is required and absent, and what was not read."""
    unclear = clauses()["fees"].model_copy(update={"verdict": "unclear"})
    begins = absent("effective_date")
    data = recorded(
        fees=unclear, governing_law=absent("governing_law"), effective_date=begins
    )
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    kept = tmp_path / "record.json"
    kept.write_bytes(written(data))

    look = sheet.page_of(data)["look"]
    sheet.typeset(str(kept), TEMPLATE.read_text(), "a4")

    assert [(one["sign"], one["title"], one["why"]) for one in look] == [
        ("missing", "Governing Law", "required and absent: nobody found it"),
        ("doubt", "Fees", "its readers are not sure, page 1"),
        ("gap", "insurance", "not read (AGENT_BUDGET)"),
    ]
    with pypdfium2.PdfDocument(tmp_path / sheet.ABSTRACT) as document:
        first = document[0].get_textpage().get_text_range()
    for word in (
        "Alder Works",
        "ALDER WORKS",
        "not found",
        "no effective date was read",
    ):
        assert word in first
    for one in look:
        assert one["title"] in first
    assert "What was found" not in first


@pytest.mark.parametrize("name", ["supply.pdf", '#panic("no") $x$ \\ *b* `c`'])
def test_an_abstract_is_a_pdf_that_says_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What looks like typst in a contract is printed as it is, and never run."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    kept = tmp_path / "record.json"
    kept.write_bytes(written({**recorded(), "name": name, "title": name}))

    made = sheet.typeset(str(kept), TEMPLATE.read_text(), "a4")

    with pypdfium2.PdfDocument(tmp_path / sheet.ABSTRACT) as document:
        text = "".join(p.get_textpage().get_text_range() for p in document)
        width = document[0].get_width()
    assert made["pages"] >= 1
    assert name in text
    assert "The laws of Ohio govern it." in text
    assert round(width) == 595
