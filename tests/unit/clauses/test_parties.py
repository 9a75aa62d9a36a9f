"""Parties: whom the opening and the signatures name, and what is no name."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from stages.clauses.reading import load_types, read_clause, sections_of

RULES = Path(__file__).parents[3] / "examples" / "contracts" / "rules"
[PARTIES] = load_types({"p": (RULES / "parties.toml").read_text("utf-8")}).values()


def named(text: str) -> list[str]:
    """The parties that a contract names, in the order of the text."""
    found = read_clause(PARTIES, text, sections_of(text))
    return [
        " ".join(q.text.split()) for q in sorted(found.quotes, key=lambda q: q.start)
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("between Brightwater Foods, LLC, an Oregon", ["Brightwater Foods, LLC"]),
        ("U.S. Steel Corp. and St. Mary Trust", ["U.S. Steel Corp.", "St. Mary Trust"]),
        ("Al.com Limited, J. P. Morgan Bank", ["Al.com Limited", "J. P. Morgan Bank"]),
        ("BRIGHTWATER FOODS, LLC; Brightwater Foods, LLC", ["BRIGHTWATER FOODS, LLC"]),
        ("1. Scope. Company shall", []),
        ("exceed $132,000. 8. Insurance. Company shall", []),
    ],
)  # fmt: skip
def test_a_name_is_no_end_of_a_sentence(text: str, found: list[str]) -> None:
    """Nor is a heading with its number, nor the same name in capitals another."""
    assert named(text) == found


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
            ["Alder Inc.", "Birch LLC"],
        ),
        (
            'made between Jo Alder ("Talent") and Al Birch ("Owner").\n1. Film. It',
            ["Jo Alder", "Al Birch"],
        ),
        ("EXHIBIT 10.1\nJOINT AGREEMENT\n\nAlder Group, Inc. and Birch LLC", [
            "Alder Group, Inc.", "Birch LLC",
        ]),
    ],
)  # fmt: skip
def test_what_a_clause_defines_is_no_party(text: str, found: list[str]) -> None:
    """Nor is what two companies are called together, nor the title above a name."""
    assert named(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        # What they are called for short, and what they are in law.
        (
            "between Alder Works, Inc., an Ohio corporation (“Contractor”), and Birch "
            "Mills LLC, a Texas company (the “Owner”).",
            ["Alder Works, Inc.", "Birch Mills LLC"],
        ),
        (
            'by and between ALDER WORKS, LLC, a Nevada Limited Liability Company at 3 '
            'Elm Way (hereinafter "CLIENT"), and ALDER LAMPS, LLC, a Utah Limited '
            'Liability Company (hereinafter "ALDER"). a) ALDER LAMPS, LLC ("ALDER")',
            ["ALDER WORKS, LLC", "ALDER LAMPS, LLC"],
        ),
        (
            "between Alder Works Limited Liability Company and Birch, L.P., an Ohio "
            "Limited Partnership (the “Partnership”).",
            ["Alder Works Limited Liability Company", "Birch, L.P."],
        ),
        # Addresses.
        (
            'between Alder.com, Inc. ("Client"), with an address at Two Mill Plaza, 2 '
            'Mill, Irvine, California 92618 and BirchLink, Inc. ("BirchLink"), with an '
            "address at 30 South Elm, Salem, Oregon 97301.",
            ["Alder.com, Inc.", "BirchLink, Inc."],
        ),
        (
            "between Alder Works Ltd, 14 High Street, London EC1A 4AB and Birch Mills "
            "Ltd, of Sun Bank Plaza, Ohio.",
            ["Alder Works Ltd", "Birch Mills Ltd"],
        ),
        (
            "between ALDER CORP., 5 Elm Street, Austin, Texas and BIRCH, INC.",
            ["ALDER CORP.", "BIRCH, INC."],
        ),
        # The forms that follow one another, and the last stop.
        (
            "between Alder Printing Co., Ltd. and Birch Öle GmbH & Co. KG.",
            ["Alder Printing Co., Ltd.", "Birch Öle GmbH & Co. KG"],
        ),
        # Names without a form, by what they are called.
        (
            "1. WHO:\n\nALDER FIELD SERVICES OF 17 SKY PARK, SALEM, OREGON 97301 "
            "(ALDER) certifies that what BIRCH TEST SYSTEMS, INC. OF 4 OAK, AUSTIN, "
            "TEXAS 78249 (BTS) furnishes is used as a part (a) of its systems.",
            ["ALDER FIELD SERVICES", "BIRCH TEST SYSTEMS, INC."],
        ),
        (
            'between ALDER RACING, INC. and Birch Super Oils, Salem, Ore. ("Birch");',
            ["ALDER RACING, INC.", "Birch Super Oils"],
        ),
        (
            'by and between the City of Elm Falls (the "City") and Birch Inc.',
            ["City of Elm Falls", "Birch Inc."],
        ),
        # Other companies that are named beside a party.
        (
            'between Alder Inc. (formerly known as Oak Inc.) ("Alder") and Birch LLC, '
            'a division of Cedar Corp. ("Birch").',
            ["Alder Inc.", "Birch LLC"],
        ),
        # `with` and `the parties` stand in other sentences too.
        (
            'by Alder Inc. and Birch LLC with the Board of Elms ("Office"), whose '
            'rules bind all who deal in what they make there, and Oak Hill Deeds '
            '("Deeds").',
            ["Alder Inc.", "Birch LLC"],
        ),
        ("between 1) Alder Bank and 2) Birch Bank.", ["Alder Bank", "Birch Bank"]),
    ],
)  # fmt: skip
def test_a_party_is_a_name(text: str, found: list[str]) -> None:
    """No role, no legal form, no address; and the name is whole."""
    assert named(f"SUPPLY AGREEMENT\n\nThis Agreement is made {text}\n") == found


@pytest.mark.parametrize(
    "piece",
    [
        *("A. ", "A ", "A.A ", "Aa, ", "A-A/A ", "Aa of ", "(A) ", "(“Aa”) "),
        *("Aa Inc, ", "a Aa Street and Aa Inc ", "and Aa (Aa) ", ") Aa and Inc "),
    ],
)  # fmt: skip
def test_names_are_found_in_time_that_grows_with_the_text(piece: str) -> None:
    began = time.process_time()

    named(f"between {piece * (300_000 // len(piece))}\nBy: {piece}\nName:\nDate:")

    assert time.process_time() - began < 5
