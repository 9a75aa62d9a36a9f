"""Titles: what a contract calls itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.clauses.reading import load_types, read_clause, sections_of

RULES = Path(__file__).parents[3] / "examples" / "contracts" / "rules"
TITLE = (RULES / "document_name.toml").read_text(encoding="utf-8")


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
