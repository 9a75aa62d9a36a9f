"""A contract for tests, taken apart by a few types of our own."""

from __future__ import annotations

from stages.abstracts.forms import Clause, Said, Structure
from stages.abstracts.places import cited, place_of
from stages.clauses.rulebook import ClauseType
from stages.clauses.sections import sections_of

TEXT = (
    "SUPPLY AGREEMENT\n"
    "This Agreement is made as of May 1, 2025 by Alder Works, Inc. and Birch LLC.\n"
    "1. Term. It continues for three (3) years and expires on April 30, 2028.\n"
    "2. Fees. Birch shall pay $5,000 per year.\n\f"
    "3. Governing Law. The laws of Ohio govern it.\n"
    "IN WITNESS WHEREOF\nALDER WORKS, INC.\nBIRCH, LLC\n"
)
KINDS = {
    "effective_date": "date",
    "expiration_date": "date",
    "governing_law": "place",
    "fees": "money",
    "parties": "none",
    "signatories": "none",
    "audit_rights": "none",
}


def quoted(name: str, *quotes: str, value: Said | None = None) -> Clause:
    """A clause that is present, with these quotes of `TEXT`."""
    places = [place for quote in quotes if (place := place_of(TEXT, quote))]
    assert len(places) == len(quotes)
    return Clause(
        type=name,
        verdict="present",
        confidence=0.95,
        quotes=tuple(cited(TEXT, *place, ("heading", "words")) for place in places),
        value=value,
        opinions={"heading": "present", "words": "present"},
    )


def absent(name: str) -> Clause:
    return Clause(
        type=name,
        verdict="absent",
        confidence=0.9,
        opinions={"heading": "absent", "words": "absent"},
    )


def clauses(**others: Clause) -> dict[str, Clause]:
    """What readers found in `TEXT`."""
    found = [
        quoted("effective_date", "May 1, 2025", value=said("date", "2025-05-01")),
        quoted(
            "expiration_date",
            "It continues for three (3) years and expires on April 30, 2028.",
            value=said("date", "2028-04-30"),
        ),
        quoted("governing_law", "The laws of Ohio govern it."),
        quoted(
            "fees",
            "Birch shall pay $5,000 per year.",
            value=Said(kind="money", text="5000 USD", amount="5000", currency="USD"),
        ),
        quoted("parties", "Alder Works, Inc.", "Birch LLC"),
        quoted("signatories", "ALDER WORKS, INC.", "BIRCH, LLC"),
        absent("audit_rights"),
    ]
    return {clause.type: clause for clause in found} | others


def said(kind: str, text: str) -> Said:
    return Said.model_validate({"kind": kind, "text": text})


def structure(text: str = "") -> Structure:
    """As `sections` leaves it; `text` is the artifact of `TEXT`."""
    types = [
        ClauseType(
            name=name,
            title=name.replace("_", " ").title(),
            question="Does it say so?",
            group="general",
            required=name == "governing_law",
        )
        for name in KINDS
    ]
    return Structure.model_validate(
        {
            "text": text,
            "sections": [s.model_dump() for s in sections_of(TEXT)],
            "types": types,
            "kinds": KINDS,
            "by_rules": clauses(),
        }
    )
