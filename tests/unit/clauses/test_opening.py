"""Parties: whom the opening and the signatures name, and what is no name."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from stages.clauses.opening import _named, _names
from stages.clauses.reading import load_types, read_clause, sections_of

RULES = Path(__file__).parents[3] / "examples" / "contracts" / "rules"
TITLE = (RULES / "document_name.toml").read_text(encoding="utf-8")


def names(text: str) -> list[str]:
    return [text[hit.start : hit.end] for hit in _names(text, 0, len(text))]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("between Brightwater Foods, LLC, an Oregon", ["Brightwater Foods, LLC"]),
        ("U.S. Steel Corp. and St. Mary Trust", ["U.S. Steel Corp", "St. Mary Trust"]),
        ("Al.com Limited, J. P. Morgan Bank", ["Al.com Limited", "J. P. Morgan Bank"]),
        ("BRIGHTWATER FOODS, LLC; Brightwater Foods, LLC", ["BRIGHTWATER FOODS, LLC"]),
        ("1. Scope. Company shall", []),
        ("exceed $132,000. 8. Insurance. Company shall", []),
    ],
)  # fmt: skip
def test_a_name_is_no_end_of_a_sentence(text: str, found: list[str]) -> None:
    """Nor is a heading with its number, nor the same name in capitals another."""
    assert names(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            'SUPPLY\nThis is made between "DAN" and "PETER".\n1. Supply. Goods (the '
            '"Products") by order (each a "Purchase Order") and date (the "Due Day").',
            [],
        ),
        (
            'Alder Inc. ("ALD") and Birch LLC (the "Parties") form a venture (the '
            '"Joint Venture").\n1. Goods (the "ALD Goods").',
            ["Alder Inc", "Birch LLC", "ALD", "Joint Venture", "ALD Goods"],
        ),
        (
            'made between Jo Alder ("Talent") and Al Birch ("Owner").\n1. Film. It',
            ["Talent", "Owner"],
        ),
        ("EXHIBIT 10.1\nJOINT AGREEMENT\n\nAlder Group, Inc. and Birch LLC", [
            "Alder Group, Inc", "Birch LLC",
        ]),
    ],
)  # fmt: skip
def test_what_a_clause_defines_is_no_party(text: str, found: list[str]) -> None:
    """Nor is what two companies are called together, nor the title above a name."""
    hits = _named(text, len(text))

    assert [text[hit.start : hit.end] for hit in hits] == found


@pytest.mark.parametrize(
    "text",
    [
        "SUPPLY AGREEMENT This Supply Agreement is made",
        "SUPPLY AGREEMENT\nSUPPLY AGREEMENT\nbetween A Inc.",
        "SUPPLY AGREEMENT\n\nTHIS SUPPLY AGREEMENT (the “Agreement”) is dated",
        "SUPPLY AGREEMENT THIS SUPPLY AGREEMENT (the “Agreement”) is dated",
        "SUPPLY AGREEMENT Supply Agreement dated May 1, 2020",
        "SUPPLY AGREEMENT\n\n3. End. No part of it. 4. Term This Agreement is made",
    ],
)
def test_a_title_is_said_once(text: str) -> None:
    """And a sentence that begins below it is no part of it."""
    kind = next(iter(load_types({"title.toml": TITLE}).values()))

    found = read_clause(kind, text, sections_of(text))

    assert found.quotes[0].text == "SUPPLY AGREEMENT"


@pytest.mark.parametrize("piece", ["A. ", "A ", "A.A ", "Aa, ", "A-A/A ", "Aa of "])
def test_names_are_found_in_time_that_grows_with_the_text(piece: str) -> None:
    began = time.process_time()

    names(piece * 5_000)

    assert time.process_time() - began < 5
