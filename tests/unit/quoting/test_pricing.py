"""Sums of a quote: to the cent, by answers of today, and what needs a person."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import Permanent
from stages.quoting import pricing
from tests.unit.quoting.made import HOSE, NOW, chosen, placed, price, quote, read, stock

cents = st.integers(1, 10_000_000).map(lambda n: Decimal(n) / 100)


@pytest.mark.parametrize(
    ("value", "quantity", "total"),
    [
        ("0.05", "0.5", "0.03"),  # half a cent goes up
        ("0.15", "0.5", "0.08"),  # whatever stands before it
        ("2.01", "0.5", "1.01"),
        ("19.42", "72", "1398.24"),
        ("10.00", "0.333", "3.33"),
    ],
)
def test_a_part_is_rounded_half_up_to_the_cent(value, quantity, total):
    assert placed(value, quantity).total == Decimal(total)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(cents, st.integers(1, 999)), min_size=1, max_size=8))
def test_the_total_is_the_sum_of_what_is_printed(parts):
    """A buyer who adds up what stands on the page comes to the total."""
    made = quote(*(placed(str(value), str(n)) for value, n in parts), percent="7.5")

    assert made.subtotal == sum(one.total for one in made.positions)
    assert made.total == made.subtotal - made.discount
    assert made.discount == pricing.rounded(made.subtotal * Decimal("0.075"))
    assert all(x == round(x, 2) for x in (made.subtotal, made.discount, made.total))


def test_a_break_that_is_not_reached_is_none():
    """9.9 m are priced as 9, less than one as one."""
    counts = [pricing.break_count(Decimal(q)) for q in ("9.9", "10", "0.4")]

    assert counts == [9, 10, 1]


def test_a_hose_is_needed_by_the_metre_and_a_part_of_both_ends_once():
    [line] = read(
        "5 x 3/4 inch, 1500 mm, JIC swivel both ends, oil at 80 C, 90 bar"
    ).lines
    end = HOSE.model_copy(update={"number": "FIT-1", "kind": "fitting"})
    parts = chosen(line, {"hose": HOSE, "one end": end, "other end": end})

    needed = [(p.number, at, n) for p, at, n in pricing.quantities(line, parts)]

    assert needed == [
        ("HOS-100001", ("hose",), Decimal("7.5")),
        ("FIT-1", ("one end", "other end"), Decimal(10)),
    ]


def test_units_and_currencies_that_differ_are_refused():
    with pytest.raises(Permanent) as unit:
        pricing.position(HOSE, ("hose",), Decimal(1), price("1", unit="piece"), stock())
    with pytest.raises(Permanent) as currency:
        quote(placed(), placed(currency="GBP"))

    assert (unit.value.code, currency.value.code) == (
        "UNIT_DIFFERS",
        "CURRENCIES_DIFFER",
    )


# -- what a person grants --------------------------------------------------------------


def test_the_digest_is_of_what_is_promised_and_not_of_its_time():
    """The same price, asked for again, is the same quote; a cent more is another."""
    first = quote(placed())

    again = quote(placed(as_of=NOW - timedelta(hours=3)))
    others = [quote(placed("19.43")), quote(placed(), percent="1")]
    others.append(quote(placed(quantity="73")))

    assert again.digest == first.digest
    assert len({one.digest for one in (first, *others)}) == 4


def test_a_discount_up_to_the_limit_needs_nobody():
    assert pricing.over_limit(quote(percent="5")) == ""
    assert "12 % discount" in pricing.over_limit(quote(percent="12"))


@pytest.mark.parametrize(
    ("last", "held"), [("19.42", 0), ("16.30", 0), ("16.00", 1), ("25", 1)]
)
def test_a_price_far_from_the_last_quoted_one_is_told(last, held):
    """By more than a fifth, up or down; the first time there is none to compare."""
    assert len(pricing.jumps(quote(placed(last=Decimal(last))))) == held
    assert pricing.jumps(quote(placed(last=None))) == []


def test_what_became_too_old_is_not_used():
    made = quote()

    assert not pricing.is_old(made, NOW + timedelta(hours=23))
    assert pricing.is_old(made, NOW + timedelta(hours=25))


# -- delivery, validity and revisions --------------------------------------------------


def test_a_quote_holds_no_longer_than_its_prices():
    short = quote(placed(valid_until=NOW + timedelta(days=2)))

    assert quote().valid_until == NOW + timedelta(days=14)
    assert short.valid_until == NOW + timedelta(days=2)


def test_a_day_is_promised_only_of_what_is_in_stock():
    """Two lines of one part need it together."""
    there, short = (
        quote(placed(free="72")),
        quote(placed(free="100"), placed(free="100")),
    )

    assert pricing.arrives(there, NOW.date()) == date(2026, 12, 1)
    assert pricing.arrives(short, NOW.date()) is None
    assert pricing.short_of(short) == ["100 of 144 m HOS-100001"]


def test_a_revision_keeps_its_number_and_says_what_changed():
    before = {
        "number": "Q-000007",
        "revision": 2,
        "total": "1398.24",
        "discount_percent": "0",
        "lines": [
            {"line": 1, "part": "HOS-100001", "quantity": "72", "price": "18.00"},
            {"line": 2, "part": "FIT-2", "quantity": "1", "price": "3.00"},
        ],
    }

    made = quote(placed(quantity="60"), before=before)

    assert (made.number, made.revision) == ("Q-000007", 3)
    assert pricing.changes(made) == [
        "line 1: HOS-100001: quantity 60 instead of 72",
        "line 1: HOS-100001: unit price 19.42 instead of 18.00",
        "line 2: FIT-2 is left out",
        "total: 1165.20 instead of 1398.24",
    ]
