"""
Sections and sentences: where contracts are cut, and that nothing of them is lost.
"""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.clauses.reading import sections_of
from stages.clauses.sentences import SENTENCE_CHARS, prepared, split

CONTRACT = """SUPPLY AGREEMENT

This Agreement is made between Alpha Inc. and Beta LLC.

1. DEFINITIONS

"Goods" means what is listed in Exhibit A.

2. Price and Payment. Buyer shall pay $5.00 a piece. 2.1 Taxes. Buyer bears them.

ARTICLE III ASSIGNMENT 3.1 Consent. Neither party may assign this Agreement.\f

IN WITNESS WHEREOF the parties have signed.

By: ________

EXHIBIT A

Hammers and nails.
"""


def test_headings_are_found_on_lines_and_within_paragraphs() -> None:
    """Text of a PDF has headings in the midst of its lines."""
    found = {s.heading: s for s in sections_of(CONTRACT)}

    assert found["DEFINITIONS"].kind == "definitions"
    assert found["Price and Payment"].number == "2"
    assert found["Taxes"].within == ("Price and Payment",)
    assert found["Consent"].within[-1] == "ASSIGNMENT"
    assert found["Signatures"].kind == "signature"
    assert found["EXHIBIT A"].kind == "exhibit"


def test_pages_are_counted_by_form_feeds() -> None:
    """A section stands on the page that its heading stands on."""
    found = {s.heading: s.page for s in sections_of(CONTRACT)}

    assert (found["Consent"], found["EXHIBIT A"]) == (1, 2)


@given(st.text(alphabet='AbC .1\n\f"(;ART', max_size=300))
@settings(max_examples=200, deadline=None)
def test_sections_cover_the_text_and_sentences_lie_in_it(text: str) -> None:
    """Whatever a stranger wrote: no gap, no overlap, no place outside."""
    sections = sections_of(text)

    ends = [section.end for section in sections]
    assert [section.start for section in sections] == [0, *ends[:-1]]
    assert ends[-1] == len(text)
    last = 0
    for start, end in split(text):
        assert last <= start < end <= len(text)
        assert end - start <= SENTENCE_CHARS
        last = end
    assert "".join(text.split()) == "".join(
        "".join(text[start:end].split()) for start, end in split(text)
    )


def test_abbreviations_and_pages_do_not_end_a_sentence() -> None:
    """`Inc.` ends no sentence, nor does a page in its midst."""
    text = (
        "Alpha Inc. may assign this\n\nAgreement to Beta Ltd. or to its heirs. It may."
    )

    parts = [text[start:end] for start, end in split(text)]

    assert len(parts) == 2
    assert parts[1] == "It may."


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("It is at most $132,000. 8. Insurance. It is kept.",
         ["It is at most $132,000.", "8. Insurance.", "It is kept."]),
        ("It pays $500. Buyer has it.", ["It pays $500.", "Buyer has it."]),
        ("It stands in Exhibit A. 2. Price. It is paid.",
         ["It stands in Exhibit A.", "2. Price.", "It is paid."]),
        ("It binds Acme Inc. 2.1 Taxes. None.",
         ["It binds Acme Inc.", "2.1 Taxes.", "None."]),
        ("It stands herein\n9. Audit. It is done.",
         ["It stands herein", "9. Audit.", "It is done."]),
        ("The parties agree as follows: 1. Scope. It is wide.",
         ["The parties agree as follows:", "1. Scope.", "It is wide."]),
        ("As said in Section\n9. Buyer may.", ["As said in Section\n9.", "Buyer may."]),
        ("As said in Lot No. 8. The goods", ["As said in Lot No. 8.", "The goods"]),
        ("At 12 Main St. 5 Foo Road", ["At 12 Main St. 5 Foo Road"]),
    ],
)  # fmt: skip
def test_a_sentence_ends_before_the_next_section_s_number(
    text: str, parts: list[str]
) -> None:
    """And an amount ends one as a word does."""
    assert [text[start:end] for start, end in split(text)] == parts


def test_what_is_hostile_is_read_in_time() -> None:
    """A long text of few signs takes no longer than one of words."""
    began = time.process_time()

    for piece in (" ", "\n", "A ", "1. A ", "__ day of ", "A of the ", "By: Name: "):
        text = piece * (100_000 // len(piece))
        prepared(text, tuple(sections_of(text)))

    assert time.process_time() - began < 10


@pytest.mark.parametrize("number", ["4", "- 4 -", "Page 4", "-4-"])
def test_the_number_of_a_page_is_no_word_of_a_sentence(number: str) -> None:
    """Neither above it nor below; a number of a section stays."""
    water = "WATER: it is free of\ncharge."
    text = f"Rent is due.\n\n{number}\n{water}\n  {number}\n\n4. Gas."

    found = [text[start:end] for start, end in split(text)]

    assert [one for one in found if one != number] == [
        "Rent is due.",
        water,
        "4. Gas.",
    ]
