"""
Values: what is written in many ways comes out in one.
"""

from __future__ import annotations

import pytest

from stages.clauses.values import Kind, value_of


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
    ],
)
def test_a_value_has_one_form(kind: Kind, text: str, value: str | None) -> None:
    """Dates and durations as ISO 8601, amounts with their currency."""
    found = value_of(kind, text)

    assert (found.text if found else None) == value
