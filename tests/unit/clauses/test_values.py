"""
Values: what is written in many ways comes out in one.
"""

from __future__ import annotations

import random
from typing import get_args

import pytest

from stages.clauses.values import Kind, value_of, values_of


@pytest.mark.parametrize(
    ("text", "per"),
    [
        ("a fee of $78,000 per year. Invoices", "year"),
        ("USD 78,000.00 per annum", "year"),
        ("$500 (five hundred dollars) a month", "month"),
        ("$20/hour", "hour"),
        ("100 dollars each week", "week"),
        ("€2.50 per unit", "unit"),
        ("$1,000,000 per occurrence", "occurrence"),
        ("payable $5,000 annually", "year"),
        ("a monthly hosting fee of $5,000", "month"),
        ("a fee of $5,000, payable within a month", None),
        ("a monthly report, and pays a fee of $5,000", None),
        ("$5,000 personal property", None),
    ],
)
def test_an_amount_is_paid_once_or_for_each(text: str, per: str | None) -> None:
    """`$78,000 per year` is more than `$78,000`."""
    found = value_of("money", text)

    assert found is not None
    assert found.per == per


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("date", "made on May 17, 2016, between", "2016-05-17"),
        ("date", "this 25th day of May, 1999.", "1999-05-25"),
        ("date", "on the 20t h day of November, 2018", "2018-11-20"),
        ("date", "will be 16th June 2004", "2004-06-16"),
        ("date", "Date: 1/14/02", "2002-01-14"),
        ("date", "signed 24 OCT 2011", "2011-10-24"),
        ("date", "on February 30, 2011", None),
        ("date", f"May 1, 2020 to May 15,{' ' * 40}2020", "2020-05-01"),
        ("end", f"May 1, 2020 through May 15,{' ' * 40}2020", "2020-05-15"),
        ("duration", "for a period of five (5) years", "P5Y"),
        ("duration", "sixty (60) days' notice", "P60D"),
        ("duration", "an 18-month term", "P18M"),
        ("duration", "successive one-year terms", "P1Y"),
        ("duration", "within forty-eight hours", "PT48H"),
        ("duration", "one hundred and twenty days before the end", "P120D"),
        ("duration", "within 2 business days", "P2D"),
        ("duration", "for ever", None),
        ("end", "begins March 1, 2023, expiring on February 29, 2024.", "2024-02-29"),
        ("end", "shall expire on May 12, 2027, unless", "2027-05-12"),
        ("end", "from May 12, 2026 to May 12, 2027", "2027-05-12"),
        ("end", "for ever", None),
        ("end", "begins on 04/02/2018 and continues for 2 years", None),
        ("end", "from the first day to May 12, 2027", "2027-05-12"),
        ("notice", "renews for one (1) year unless ninety (90) days before", "P90D"),
        ("notice", "on thirty days’ prior written notice", "P30D"),
        ("notice", "for a period of five years", None),
        ("term", "unless 90 days' notice is given, renews for one year", "P1Y"),
        ("money", "not less than $1,000,000 each", "1000000.00 USD"),
        ("money", "Five Million Dollars ($5,000,000.00)", "5000000.00 USD"),
        ("money", "a fee of EUR 2.5 million", "2500000.00 EUR"),
        ("money", "100 dollars", "100.00 USD"),
        ("money", "five units", None),
        ("percent", "a royalty of 12.5% of Net Sales", "12.5 %"),
        ("percent", "ten percent (10%)", "10 %"),
        ("place", "the laws of the State of New York, without", "New York"),
        ("place", "the laws of England and Wales", "England and Wales"),
        ("place", "Law of the Commonwealth of Pennsylvania", "Pennsylvania"),
        ("place", "is governed by German law", "German"),
        ("none", "May 17, 2016", None),
        ("date", "on Augu\u017ft 5, 2020", "2020-08-05"),
        ("date", "on Apr\u0131l 5, 2020", "2020-04-05"),
        ("duration", "for \u017fix months", "P6M"),
        ("duration", "for F\u0130VE years", "P5Y"),
        ("money", "100 dollar\u017f", "100.00 USD"),
        ("money", "$1 m\u0131llion", "1000000.00 USD"),
        ("money", "10 \u212a", None),
        ("money", "$100,000,000,000,000,000 billion", None),
    ],
)
def test_a_value_has_one_form(kind: Kind, text: str, value: str | None) -> None:
    """Dates and durations as ISO 8601, amounts with their currency."""
    found = value_of(kind, text)

    assert (found.text if found else None) == value


PIECES = (
    *("$", "US$", "100,000,000,000,000,000", "9", "99", "2020", "1.5", "0", "/", "-"),
    *("million", "m", "k", "billion", "thousand", "dollars", "EUR", "yen", "percent"),
    *("May", "August", "September", "of", "day", "months", "years", "six", "twenty"),
    *("one hundred and", "forty-eight", "(", ")", ",", ".", " ", "  ", "\n", "%"),
    *("governed by the laws of", "State of", "notice", "until", "from", "(30)"),
    *("\N{ARABIC-INDIC DIGIT THREE}", "\N{SUPERSCRIPT TWO}", "\u00a0", "\u2019"),
)
LIKE = str.maketrans({"s": "\u017f", "i": "\u0131", "I": "\u0130", "k": "\u212a"})


@pytest.mark.parametrize("seed", range(20))
def test_no_text_is_too_odd_to_be_looked_through(seed: int) -> None:
    """Whatever stands there is a value or none; no contract fails by it."""
    draw = random.Random(seed)
    for _ in range(100):
        words = [draw.choice(PIECES) for _ in range(draw.randint(1, 12))]
        text = draw.choice(["", " "]).join(
            word.translate(LIKE) if draw.random() < 0.3 else word for word in words
        )
        for kind in get_args(Kind):
            for place in values_of(kind, text):
                assert text[place.start : place.end]
