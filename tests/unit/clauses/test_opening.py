"""What a contract calls itself, and which persons sign it."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.clauses.reading import load_types, read_clause, sections_of

RULES = Path(__file__).parents[3] / "examples" / "contracts" / "rules"
SIGNERS = (RULES / "signatories.toml").read_text(encoding="utf-8")
TITLE = (RULES / "document_name.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "text",
    [
        "SUPPLY AGREEMENT This Supply Agreement is made",
        "SUPPLY AGREEMENT\nSUPPLY AGREEMENT\nbetween A Inc.",
        "SUPPLY AGREEMENT\n\nTHIS SUPPLY AGREEMENT (the “Agreement”) is dated",
        "SUPPLY AGREEMENT THIS SUPPLY AGREEMENT (the “Agreement”) is dated",
        "SUPPLY AGREEMENT Supply Agreement dated May 1, 2020",
        # As files of a register have it: a page, a label, blanks that are no space.
        " 1\n EXHIBIT 10.4\n SUPPLY AGREEMENT\n This Agreement is made",
        "- 1 -\nEXHIBIT 10.4\nSUPPLY\xa0AGREEMENT\nThis\xa0Agreement is made",
        "EXHIBIT 2 SUPPLY AGREEMENT SUPPLY AGREEMENT\n\nThis Agreement is made",
        "ALDER WORKS, INC.\nSUPPLY AGREEMENT\n\nLadies and Gentlemen:",
        "SUPPLY AGREEMENT\n\n3. End. No part of it. 4. Term This Agreement is made",
    ],
)
def test_a_title_is_said_once(text: str) -> None:
    """And a sentence that begins below it is no part of it."""
    kind = next(iter(load_types({"title.toml": TITLE}).values()))

    found = read_clause(kind, text, sections_of(text))

    assert " ".join(found.quotes[0].text.split()) == "SUPPLY AGREEMENT"
    quote = found.quotes[0]
    assert quote.text == text[quote.start : quote.end]


@pytest.mark.parametrize(
    ("block", "found"),
    [
        ("ALDER BIRCH Salem, OR 97301 /s/ Jo Oak /s/ Authorized Agent", ["Jo Oak"]),
        ("By: /s/ JO ALDER\nTitle: President", ["JO ALDER"]),
        ("/s/ Jo M. Oak Jo M. Oak\n/s/ Al Birch President", ["Jo M. Oak", "Al Birch"]),
        ("By: /s/ Jo Alder Name: Jo Alder Title: Chief Officer", ["Jo Alder"]),
        ("By: ______ Name: Al Birch Its: Manager", ["Al Birch"]),
        ("by way of and/or Jo Alder; s/he, see /s/", []),
    ],
)  # fmt: skip
def test_who_signs_is_a_person(block: str, found: list[str]) -> None:
    """Beside `/s/` as beside `By` and `Name`; without what is printed beside it."""
    kind = next(iter(load_types({"signers.toml": SIGNERS}).values()))
    text = f"The parties accept all that is said above, and sign below.\n\n{block}\n"

    said = read_clause(kind, text, sections_of(text)).quotes

    assert list(dict.fromkeys(quote.text for quote in said)) == found
