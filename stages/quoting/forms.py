"""What a request for a quote becomes on its way: plain data, kept with the item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from stages.enquiries.forms import key_of
from stages.fitting.parts import End, Part

PLACES: tuple[str, ...] = ("hose", "one end", "other end")


class Form(BaseModel):
    """Frozen, and nothing in it that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Spot(Form):
    """
    Where a value was read.

    Attributes:
        text: As it stands there, with its mistakes; `mended` what it was taken for.
        start, end: Characters of the request's text.
        line: Of that text, from 1.
    """

    text: str
    start: int
    end: int
    line: int
    mended: str = ""


class Open(Form):
    """
    A question that keeps something from being quoted.

    Attributes:
        about: What is asked: a field of `Line`, `place`, `by`, `customer`, `quote`.
        line: Of the quote, from 1; 0: of all of it.
        choices: What it may mean; () of what is missing.
        spot: The words in question; None of what is missing.
    """

    about: str
    line: int
    why: str
    choices: tuple[str, ...] = ()
    spot: Spot | None = None

    @property
    def key(self) -> str:
        """By which it is answered: `1.medium`, `by`."""
        return key_of(self.line, self.about)


class Line(Form):
    """
    One line as it was read; None is what it does not say.

    Attributes:
        size: Of the hose, in sixteenths of an inch.
        named: Part numbers that the buyer wrote.
        both: It speaks of both ends, which are the same.
        spots: Where each value was read, by its field.
    """

    number: int
    count: int | None = None
    size: int | None = None
    length_mm: Decimal | None = None
    ends: tuple[End, ...] = ()
    medium: str | None = None
    celsius: Decimal | None = None
    bar: Decimal | None = None
    named: tuple[str, ...] = ()
    both: bool = False
    spots: Mapping[str, Spot] = Field(default_factory=dict)


class Enquiry(Form):
    """
    A request as rules read it.

    Attributes:
        received: The day on which it came: "the 14th" is the next one.
        customer: A customer's number that stands in it; `sender` an address.
        quote: The number of an earlier quote that it is about.
        discount: What the buyer asks for, in per cent; `discount_spot` where.
        open: What must be asked, in the order of the lines.
    """

    received: date
    lines: tuple[Line, ...] = ()
    place: str = ""
    by: date | None = None
    customer: str = ""
    sender: str = ""
    quote: str = ""
    discount: Decimal = Decimal(0)
    spots: Mapping[str, Spot] = Field(default_factory=dict)
    open: tuple[Open, ...] = ()

    @property
    def blocked(self) -> frozenset[int]:
        """The lines of which something must be asked first."""
        return frozenset(one.line for one in self.open)


class Customer(Form):
    """Who asks, as the ERP has them: only from there comes where a quote is sent."""

    number: str
    name: str
    mail: str
    region: str
    tier: str


class Found(Form):
    """
    What the ERP has for one line, by place.

    Attributes:
        size, ends: Of the line, or of the parts that it names.
        named: The parts that the buyer named, by place.
    """

    line: int
    parts: Mapping[str, tuple[Part, ...]]
    named: Mapping[str, str] = Field(default_factory=dict)


class Why(Form):
    """What one rule says of the parts of a line."""

    rule: str
    parts: tuple[str, ...]
    fits: str
    why: str
    at: str = ""


class Chosen(Form):
    """
    The parts of one line, and why these.

    Attributes:
        parts: By place.
        bar: What they bear together under these conditions.
        reasons: What each rule says, worst first.
        others: Parts that would do as well, each with what tells it apart.
        assumed: What nobody asked for and was taken all the same.
    """

    line: int
    parts: Mapping[str, Part]
    bar: Decimal | None
    reasons: tuple[Why, ...]
    others: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    assumed: tuple[str, ...] = ()


class Price(Form):
    """The ERP's price of one unit: of which part, for whom, of what time."""

    number: str
    region: str
    tier: str
    count: int
    unit: str
    currency: str
    price: Decimal = Field(gt=0)
    as_of: datetime
    valid_until: datetime


class Stock(Form):
    """What is free of a part in a region, and when that was so."""

    number: str
    region: str
    free: Decimal = Field(ge=0)
    unit: str
    as_of: datetime


class Position(Form):
    """
    One part of a line, priced.

    Attributes:
        quantity: In `unit`.
        total: `price.price` times `quantity`, rounded.
        last: What this customer was quoted for it the last time; None: nothing, or not
            in this currency.
    """

    part: Part
    places: tuple[str, ...]
    quantity: Decimal
    price: Price
    stock: Stock
    total: Decimal
    last: Decimal | None = None
    asked: int = 1


class Priced(Form):
    """A line of a quote, with its parts."""

    line: int
    positions: tuple[Position, ...]
    total: Decimal


class Policy(Form):
    """
    What a house allows, of `[stage.pricing]`.

    Attributes:
        price_age_h, stock_age_h: Older answers of the ERP are asked for again.
        jump: Share by which a price may differ from the one quoted last.
        discount_limit: Per cent that may be granted without a person.
        valid_days: A quote holds so long at the most.
        dispatch_days: Until what is in stock leaves the house.
        transit_days: From there to the buyer, by region.
    """

    price_age_h: float
    stock_age_h: float
    jump: Decimal
    discount_limit: Decimal
    valid_days: int
    dispatch_days: int
    transit_days: Mapping[str, int]


class Quote(Form):
    """
    A quote with its sum; `digest` is what a person grants, and is of exactly this.

    Attributes:
        policy: By which it was priced.
        before: The revision before this one, as the ERP has it; None: this is the
            first.
    """

    number: str
    revision: int
    customer: Customer
    currency: str
    lines: tuple[Priced, ...]
    subtotal: Decimal
    discount_percent: Decimal
    discount: Decimal
    total: Decimal
    priced_at: datetime
    valid_until: datetime
    policy: Policy
    before: Mapping[str, Any] | None = None
    digest: str = ""

    @property
    def positions(self) -> Sequence[Position]:
        """Of all lines."""
        return [one for line in self.lines for one in line.positions]
