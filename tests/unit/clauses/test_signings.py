"""Who signs, in the forms that contracts have, and who is a party."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from stages.abstracts.checks import named_parties, signers_agree
from stages.abstracts.reading import clause_of
from stages.clauses.reading import load_types, read_clause, sections_of
from stages.clauses.sections import Section
from stages.clauses.signings import signed_from, signers, signings

RULES = Path(__file__).parents[3] / "examples" / "contracts" / "rules"
PARTIES = load_types({"p": (RULES / "parties.toml").read_text(encoding="utf-8")})
TEXT = """SUPPLY AGREEMENT
This Agreement is made as of May 1, 2025 by and between Alder Works, Inc. and Birch LLC.
1. Term. It continues for three (3) years.
2. Fees. Birch shall pay $5,000 per year.
3. Governing Law. The laws of Ohio govern this Agreement, wherever it is signed.

"""
OWN = "ALDER WORKS, INC.\nBy: ________\nName: J. Doe\nTitle: President\n"


def signed(block: str) -> tuple[bool | None, str]:
    """What the check says of a contract that is signed so."""
    text, [parties] = TEXT + block, PARTIES.values()
    sections = sections_of(text)
    found = clause_of(read_clause(parties, text, sections))
    check = signers_agree({"parties": found}, text, sections)
    return check.ok, check.why


@pytest.mark.parametrize(
    "line",
    [
        "SIGNED for Cedar Mills Ltd",
        "SIGNED by CEDAR MILLS LTD. acting by its director",
        "Signed for and on behalf of Cedar Mills Ltd by its director",
        "Executed on behalf of\n    Cedar Mills Ltd",
        "Cedar Mills Ltd: ________________",
        "CEDAR MILLS LTD.: ____  Date: ____",
        "By: ____________ for Cedar Mills Ltd",
        "By: ____________ J. Doe, for and on behalf of Cedar Mills Ltd",
    ],
)
@pytest.mark.parametrize("above", ["", OWN, "IN WITNESS WHEREOF\n" + OWN])
def test_who_signs_and_is_no_party_is_doubtful(above: str, line: str) -> None:
    """Below `IN WITNESS WHEREOF` and without it; on a short contract too."""
    ok, why = signed(f"{above}{line}\n")

    assert (ok, "cedar mills" in why.casefold()) == (False, True)


@pytest.mark.parametrize(
    "line",
    [
        "SIGNED for Alder Works, Inc.",
        "Birch LLC: ____________",
        "By: ____ for Birch LLC",
    ],
)
def test_parties_may_sign(line: str) -> None:
    assert signed(f"{line}\n")[0] is True


@pytest.mark.parametrize(
    "line",
    [
        "4. Notes. An instrument signed by Cedar Mills Ltd is no part of it.",
        "Name of Company: ____________",
        "The price that Cedar Mills Ltd pays: $5",
        "Exhibit A\nSIGNED for Cedar Mills Ltd",
    ],
)
def test_what_is_said_of_others_signs_nothing(line: str) -> None:
    """In a sentence, in a form's field, and in a form that is an exhibit."""
    assert signed(f"{line}\n")[0] is None


def test_exhibits_full_of_signers_are_passed_over_in_time() -> None:
    """Each line was held against each exhibit, on the loop of a worker."""
    text, sections = "", list[Section]()
    for number in range(4_000):
        exhibit = f"EXHIBIT A\n{'Signed for Acme Inc.' + chr(10)}" * 3
        sections.append(
            Section(
                number=str(number),
                heading="",
                start=len(text),
                end=len(text) + len(exhibit),
                page=1,
                kind="exhibit",
            )
        )
        text += exhibit
    began = time.process_time()

    assert signers(text, sections) == []

    assert time.process_time() - began < 3


@pytest.mark.parametrize(
    "piece", ["By: ", "By: ____ ", "signed for ", "\nsigned by\n", "   ", "Inc: ___ "]
)
def test_signings_are_found_in_time_that_grows_with_the_text(piece: str) -> None:
    text = piece * 5_000
    began = time.process_time()

    for look in (signings, signers):
        look(text, [])
    signed_from(text, [], 0)

    assert time.process_time() - began < 5


def test_a_party_without_a_form_in_law_is_one_of_two() -> None:
    """A town and a person count; what they are called for short does not."""
    quotes = ["Alder Works, Inc.", "City of Elm Falls", "Service Provider", "Alder"]

    assert named_parties(quotes) == ["Alder Works, Inc.", "City of Elm Falls"]


def test_who_signs_by_a_short_name_is_a_party() -> None:
    """`AMW Corp.` is Alder Metal Works, as the opening says."""
    opening = (
        "SUPPLY AGREEMENT\nThis Agreement is made by and between Alder Metal Works "
        "Corporation (“AMW”) and Birch LLC (“Birch”).\n1. Fees. Birch shall pay.\n\n"
    )
    text, [parties] = opening + "SIGNED for AMW Corp.\n", PARTIES.values()
    sections = sections_of(text)
    found = clause_of(read_clause(parties, text, sections))

    assert signers_agree({"parties": found}, text, sections).ok is True
