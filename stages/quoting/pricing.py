"""
Sums of a quote, in `Decimal`, and what a person must grant before it goes out.

The rounding rule, which every quote prints: a part is its unit price times the
quantity, rounded half up to the cent; the discount is taken of the sum of all parts and
rounded the same way; the total is the sum less the discount.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from pipeline.errors import Permanent
from stages.fitting.parts import Part
from stages.quoting.forms import (
    PLACES,
    Chosen,
    Customer,
    Line,
    Policy,
    Position,
    Price,
    Priced,
    Quote,
    Stock,
)
from stages.quoting.wording import UNITS, shown

CENT = Decimal("0.01")
MM = Decimal(1000)  # of a metre
ROUNDING = (
    "Each part is its unit price times the quantity, rounded half up to the cent. The "
    "discount is taken of the sum of all parts and rounded the same way."
)


def rounded(amount: Decimal) -> Decimal:
    """An amount of money to the cent, half up."""
    return amount.quantize(CENT, ROUND_HALF_UP)


def quantities(
    line: Line, chosen: Chosen
) -> list[tuple[Part, tuple[str, ...], Decimal]]:
    """
    Each part of a line once, the places where it stands, and how much of it is needed.

    A hose is in metres, of the overall length; all else in pieces.
    """
    assert line.count is not None
    assert line.length_mm is not None
    found: dict[str, tuple[Part, tuple[str, ...], Decimal]] = {}
    for place in PLACES:
        part = chosen.parts[place]
        each = line.length_mm / MM if part.kind == "hose" else Decimal(1)
        _, places, before = found.get(part.number, (part, (), Decimal(0)))
        needed = before + each * line.count
        found[part.number] = (part, (*places, place), needed)
    return list(found.values())


def break_count(quantity: Decimal) -> int:
    """The quantity that a price is asked for: a break that is not reached is none."""
    return max(1, int(quantity))


def position(
    part: Part,
    places: tuple[str, ...],
    quantity: Decimal,
    price: Price,
    stock: Stock,
    last: Decimal | None = None,
    asked: int = 1,
) -> Position:
    """
    A part of a line with its total.

    Raises:
        Permanent: UNIT_DIFFERS, the ERP's price is of another unit than the quantity.
    """
    unit = "m" if part.kind == "hose" else "piece"
    if {price.unit, stock.unit} != {unit}:
        raise Permanent(
            f"{part.number} is needed by the {unit}, and the ERP has another unit",
            code="UNIT_DIFFERS",
            hint="mend the unit of this part in the ERP",
        )
    total = rounded(price.price * quantity)
    return Position(
        part=part,
        places=places,
        quantity=quantity,
        price=price,
        stock=stock,
        total=total,
        last=last,
        asked=asked,
    )


def quote_of(
    number: str,
    customer: Customer,
    lines: Sequence[tuple[int, Sequence[Position]]],
    percent: Decimal,
    policy: Policy,
    now: datetime,
    before: Mapping[str, Any] | None = None,
) -> Quote:
    """
    The quote with its sums, and the digest of all that is promised in it.

    Raises:
        Permanent: CURRENCIES_DIFFER.
    """
    priced = tuple(
        Priced(
            line=n, positions=tuple(of), total=sum((p.total for p in of), Decimal(0))
        )
        for n, of in lines
    )
    prices = [one.price for line in priced for one in line.positions]
    currencies = {one.currency for one in prices}
    if len(currencies) != 1:
        raise Permanent(
            f"the ERP has prices in {', '.join(sorted(currencies)) or 'no currency'}",
            code="CURRENCIES_DIFFER",
            hint="a quote has one currency: look at the customer's region",
        )
    subtotal = sum((line.total for line in priced), Decimal(0))
    discount = rounded(subtotal * percent / 100)
    until = min(
        now + timedelta(days=policy.valid_days), *(one.valid_until for one in prices)
    )
    quote = Quote(
        number=number,
        revision=int((before or {}).get("revision", 0)) + 1,
        customer=customer,
        currency=currencies.pop(),
        lines=priced,
        subtotal=subtotal,
        discount_percent=percent,
        discount=discount,
        total=subtotal - discount,
        priced_at=now,
        valid_until=until,
        policy=policy,
        before=before,
    )
    return quote.model_copy(update={"digest": digest_of(quote)})


def digest_of(quote: Quote) -> str:
    """16 hex digits of all that is promised: for whom, which parts, which sums."""
    said = {
        "quote": [quote.number, quote.revision, quote.customer.number, quote.currency],
        "lines": [
            [
                line.line,
                one.part.number,
                str(one.quantity.normalize()),
                str(one.price.price),
            ]
            for line in quote.lines
            for one in line.positions
        ],
        "sums": [str(quote.subtotal), str(quote.discount), str(quote.total)],
    }
    text = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# -- what a person must grant ----------------------------------------------------------


def jumps(quote: Quote) -> list[str]:
    """Prices that are further from the last quoted one than the policy allows."""
    found = []
    for one in quote.positions:
        if one.last is None or one.last == 0:
            continue
        share = (one.price.price - one.last) / one.last
        if abs(share) > quote.policy.jump:
            percent = (share * 100).quantize(Decimal("0.1"), ROUND_HALF_UP)
            found.append(
                f"{one.part.number}: {one.price.price} {quote.currency}, last quoted "
                f"{one.last} ({percent:+f} %)"
            )
    return found


def over_limit(quote: Quote) -> str:
    """Why the discount needs a person; "" where it needs none."""
    limit = quote.policy.discount_limit
    if quote.discount_percent <= limit:
        return ""
    return (
        f"{quote.discount_percent:f} % discount is asked for, {limit:f} "
        f"% may be granted: {quote.discount} of {quote.subtotal} {quote.currency}"
    )


def is_old(quote: Quote, now: datetime) -> bool:
    """Whether a price or a stock in it is older than the policy allows by now."""
    prices = now - timedelta(hours=quote.policy.price_age_h)
    stocks = now - timedelta(hours=quote.policy.stock_age_h)
    return quote.valid_until <= now or any(
        one.price.as_of < prices or one.stock.as_of < stocks for one in quote.positions
    )


# -- delivery and revisions ------------------------------------------------------------


def short_of(quote: Quote) -> list[str]:
    """Parts of which less is free than all lines need together."""
    needed: dict[str, Decimal] = {}
    free: dict[str, Stock] = {}
    for one in quote.positions:
        number = one.part.number
        needed[number] = needed.get(number, Decimal(0)) + one.quantity
        free[number] = one.stock
    return [
        f"{shown(free[number].free)} of {shown(count)} "
        f"{UNITS[free[number].unit]} {number}"
        for number, count in needed.items()
        if free[number].free < count
    ]


def arrives(quote: Quote, today: date) -> date | None:
    """When it is there, if it is ordered today and all is in stock; None: not known."""
    transit = quote.policy.transit_days.get(quote.customer.region)
    if transit is None or short_of(quote):
        return None
    return today + timedelta(days=quote.policy.dispatch_days + transit)


def changes(quote: Quote) -> list[str]:
    """What a revision changes, of the one before it."""
    if quote.before is None:
        return []
    was = _by_part(quote.before.get("lines") or ())
    now = _by_part(record_lines(quote))
    said = []
    for key in sorted(was.keys() | now.keys()):
        line, number = key
        if key not in now:
            said.append(f"line {line}: {number} is left out")
        elif key not in was:
            said.append(f"line {line}: {number} is new, {now[key][0]} of it")
        else:
            names = ("quantity", "unit price")
            said += [
                f"line {line}: {number}: {name} {new} instead of {old}"
                for name, old, new in zip(names, was[key], now[key], strict=True)
                if Decimal(old) != Decimal(new)
            ]
    for name, now_ in (
        ("discount_percent", quote.discount_percent),
        ("total", quote.total),
    ):
        old = str(quote.before.get(name, ""))
        if old and Decimal(old) != now_:
            said.append(f"{name.replace('_percent', ' %')}: {now_} instead of {old}")
    return said or ["nothing but its date"]


def _by_part(lines: Iterable[Any]) -> dict[tuple[int, str], tuple[str, str]]:
    return {
        (int(one["line"]), str(one["part"])): (str(one["quantity"]), str(one["price"]))
        for one in lines
    }


def record_lines(quote: Quote) -> list[dict[str, Any]]:
    """The parts of a quote as the ERP keeps them."""
    return [
        {
            "line": line.line,
            "part": one.part.number,
            "quantity": shown(one.quantity),
            "unit": one.price.unit,
            "price": str(one.price.price),
            "total": str(one.total),
        }
        for line in quote.lines
        for one in line.positions
    ]
