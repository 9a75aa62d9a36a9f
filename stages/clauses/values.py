"""
Values that stand in a clause, in one form: dates, durations, amounts, places.

Each function reads a quote and returns the first value of its kind, or None.  What is
written in two ways at once (`thirty (30) days`) is read by its figures.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from stages.clauses.hits import lowered
from stages.clauses.rates import per_what

Kind = Literal[
    "none", "date", "end", "duration", "notice", "term", "money", "percent", "place",
    "text", "names",
]  # fmt: skip

MAX_FOUND = 500  # of one kind in one text


class Value(BaseModel):
    """
    A value in one form.

    Attributes:
        text: A date as ISO 8601 (`2016-05-17`), a duration as ISO 8601 (`P1Y`, `P30D`),
            an amount as figures and currency (`1000000.00 USD`), a share as figures
            (`12.5 %`), a place or a title as written, with single blanks.
        amount: The figures alone, of amounts and shares.
        currency: ISO 4217, of amounts.
        per: What an amount is paid for each of, as `year`; None where nothing says.
    """

    model_config = ConfigDict(frozen=True)

    kind: Kind
    text: str
    amount: Decimal | None = None
    currency: str | None = None
    per: str | None = None


class Place(NamedTuple):
    """`[start, end)` of a text, and the value that stands there."""

    start: int
    end: int
    value: Value


def form_of(kind: Kind) -> Kind:
    """The form that a value of a kind is written in: of notice, that of a duration."""
    if kind == "end":
        return "date"
    return "duration" if kind in ("notice", "term") else kind


def value_of(kind: Kind, text: str) -> Value | None:
    """The first value of `kind` in `text`; None where there is none."""
    return next((place.value for place in values_of(kind, text)), None)


def values_of(kind: Kind, text: str) -> Iterator[Place]:
    """Every value of `kind` in `text`; none of a kind that is no value."""
    if kind not in ("none", "text", "names"):
        yield from _FINDERS[kind](text)


_PARTS = re.compile(
    r"(?i)[;:]|,(?=\s)"
    r"|\b(?:although|though|but|provided|except|unless|however|whereas|while)\b"
)


def part_of(text: str, place: Place) -> str:
    """The part of a sentence that a value stands in: between commas, or such words."""
    before = [m.end() for m in _PARTS.finditer(text, 0, place.start)]
    after = _PARTS.search(text, place.end)
    return text[before[-1] if before else 0 : after.start() if after else len(text)]


# -- dates -----------------------------------------------------------------------------

_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            ("january", "jan"),
            ("february", "feb"),
            ("march", "mar"),
            ("april", "apr"),
            ("may",),
            ("june", "jun"),
            ("july", "jul"),
            ("august", "aug"),
            ("september", "sept", "sep"),
            ("october", "oct"),
            ("november", "nov"),
            ("december", "dec"),
        ),
        start=1,
    )
    for name in names
}
_MONTH = rf"(?P<month>{'|'.join(sorted(_MONTHS, key=len, reverse=True))})\b\.?"
# Scans tear an ordinal from its figure: `20t h`.
_DAY = r"(?P<day>\d{1,2})[ ]?(?:s[ ]?t|n[ ]?d|r[ ]?d|t[ ]?h)?"
_YEAR = r"(?P<year>(?:19|20)\d\d)(?!\d)"
_B = r"[\s,]{0,6}"
_BEFORE_YEAR = r"[\s,]{0,60}+"  # a table's column may end behind the day
_DATES = (
    re.compile(rf"(?i)\b{_MONTH}{_B}{_DAY}\b{_BEFORE_YEAR}(?:of{_B})?{_YEAR}"),
    re.compile(
        rf"(?i)(?<![\d/.]){_DAY}\b{_B}(?:day{_B}of{_B}|of{_B})?{_MONTH}{_B}{_YEAR}"
    ),
    re.compile(
        r"(?<![\d/.-])(?P<month>\d{1,2})/(?P<day>\d{1,2})/(?P<year>(?:19|20)?\d\d)(?![\d/])"
    ),
    re.compile(
        r"(?<![\d/.-])(?P<year>(?:19|20)\d\d)-(?P<month>\d{2})-(?P<day>\d{2})(?![\d-])"
    ),
)


def dates(text: str) -> list[Place]:
    """Dates with day, month and year, in the text's order."""
    found: dict[int, Place] = {}
    for pattern in _DATES:
        for match in pattern.finditer(text):
            if len(found) >= MAX_FOUND:
                break
            if (day := _date(match)) is not None:
                value = Value(kind="date", text=day.isoformat())
                found.setdefault(match.start(), Place(*match.span(), value))
    places: list[Place] = []
    for start in sorted(found):
        if not places or start >= places[-1].end:
            places.append(found[start])
    return places


# What makes a date the end of something: `expiring on February 29, 2024`.
_AT_THE_END = re.compile(
    r"(?i)\b(?:expir\w{0,5}|until|through|thru|ending|ends?|terminat\w{0,4}|conclud\w{0,4})"
    r"\b[^.;]{0,30}\Z"
)
END_CHARS = 45
# And what makes it the beginning: `begins on 04/02/2018 and continues for 2 years`.
_AT_THE_START = re.compile(
    r"(?i)\b(?:begin\w{0,4}|began|commenc\w{0,5}|start\w{0,3}|from|dated|as\s{1,3}of)"
    r"\b[^.;]{0,30}(?<!\bto\s)\Z"
)


def ends(text: str) -> list[Place]:
    """
    Dates at which something ends, by the words before them.

    Where no words say so it is the last one, unless something begins with that.
    """
    found = dates(text)
    said = [
        place
        for place in found
        if _AT_THE_END.search(text[max(0, place.start - END_CHARS) : place.start])
    ]
    if said or not found:
        return said
    last, since = found[-1], found[-2].end if len(found) > 1 else 0
    before = text[max(since, last.start - END_CHARS) : last.start]
    return [] if _AT_THE_START.search(before) else [last]


def _date(match: re.Match[str]) -> date | None:
    month, year = lowered(match["month"]), int(match["year"])
    number = int(month) if month.isdigit() else _MONTHS[month]
    if year < 100:
        year += 1900 if year >= 50 else 2000
    try:
        return date(year, number, int(match["day"]))
    except ValueError:
        pass
    try:  # 24/10/2011, as most of the world writes it
        return date(year, int(match["day"]), number) if month.isdigit() else None
    except ValueError:
        return None


# -- durations -------------------------------------------------------------------------

_ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen"),
    *("seventeen", "eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_FIGURES = (
    {word: number for number, word in enumerate(_ONES)}
    | {word: 20 + 10 * place for place, word in enumerate(_TENS)}
    | {
        f"{ten}-{_ONES[one]}": 20 + 10 * place + one
        for place, ten in enumerate(_TENS)
        for one in range(1, 10)
    }
    | {"one hundred": 100, "hundred": 100}
    | {
        f"one hundred {link}{ten}": 120 + 10 * place
        for place, ten in enumerate(_TENS)
        for link in ("", "and ")
    }
)
_NUMBER_WORD = "|".join(
    re.escape(word).replace(r"\ ", r"\s").replace(r"\-", r"[-\s]")
    for word in sorted(_FIGURES, key=len, reverse=True)
)
_DURATION = re.compile(
    rf"(?i)\b(?:(?P<word>{_NUMBER_WORD})\s{{0,3}}(?:\(\s?(?P<inner>\d{{1,4}})\s?\))?"
    r"|(?P<figure>\d{1,4})(?:st|nd|rd|th)?(?:\s?\([a-z -]{3,40}\))?)"
    r"[\s-]{0,3}(?:(?:full|calendar|business|working|consecutive|contract)[\s-]{1,3})?"
    r"(?P<unit>year|month|week|day|hour)s?\b"
)
_UNITS = {
    "year": "P{}Y",
    "month": "P{}M",
    "week": "P{}W",
    "day": "P{}D",
    "hour": "PT{}H",
}


def durations(text: str) -> Iterator[Place]:
    """Durations in years, months, weeks, days or hours, in the text's order."""
    for match in _DURATION.finditer(text):
        figure = match["inner"] or match["figure"]
        if figure is None:
            figure = str(_figure(lowered(match["word"])))
        written = _UNITS[lowered(match["unit"])].format(int(figure))
        yield Place(*match.span(), Value(kind="duration", text=written))


# What makes a duration the time before something: `ninety (90) days' prior notice`.
_BEFORE = re.compile(
    r"(?i)['’]?s?[\s,]{0,3}(?:written\s|prior\b|before\b|preceding\b|notice\b|in\s+advance"
    r"|advance\b|or\s+more\b)"
)


def notices(text: str) -> Iterator[Place]:
    """Durations of notice."""
    return (found for found in durations(text) if _BEFORE.match(text, found.end))


def terms(text: str) -> Iterator[Place]:
    """Durations that are none of notice."""
    return (found for found in durations(text) if not _BEFORE.match(text, found.end))


def _figure(word: str) -> int:
    spaced = re.sub(r"\s", " ", word)
    return _FIGURES.get(spaced) or _FIGURES[spaced.replace(" ", "-")]


# -- amounts ---------------------------------------------------------------------------

_CURRENCIES: Mapping[str, str] = {
    "$": "USD", "us$": "USD", "u.s.$": "USD", "usd": "USD", "dollars": "USD",
    "€": "EUR", "eur": "EUR", "euro": "EUR", "euros": "EUR",
    "£": "GBP", "gbp": "GBP", "pounds": "GBP",
    "¥": "JPY", "jpy": "JPY", "yen": "JPY",
    "rmb": "CNY", "cny": "CNY", "cad": "CAD", "c$": "CAD", "cdn$": "CAD",
    "aud": "AUD", "a$": "AUD", "chf": "CHF", "inr": "INR", "hk$": "HKD", "hkd": "HKD",
}  # fmt: skip
_SIGN = (
    r"(?:us\$|u\.s\.\$|hk\$|cdn\$|c\$|a\$|\$|€|£|¥"
    r"|\b(?:usd|eur|euro|gbp|jpy|rmb|cny|cad|aud|chf|inr|hkd)\b)"
)
_SUM = r"\d{1,3}(?:,\d{3}){1,5}(?:\.\d{1,4})?|\d{1,15}(?:\.\d{1,4})?"
_AMOUNTS = re.compile(
    rf"(?i)(?P<sign>{_SIGN})\s{{0,3}}(?P<sum>{_SUM})(?:\s{{0,2}}(?P<scale>million|billion|thousand|m|k)\b)?"
    rf"|(?<![\d.,$])(?P<sum2>{_SUM})(?:\s{{0,2}}(?P<scale2>million|billion|thousand))?"
    r"\s{0,3}(?:u\.?s\.?\s{0,2})?(?P<name>dollars|euros?|pounds|yen|usd|eur|gbp|rmb|cad|chf)\b"
)
_SCALES = {"": 0, "million": 6, "m": 6, "billion": 9, "thousand": 3, "k": 3}


def amounts(text: str) -> Iterator[Place]:
    """Amounts of money, in the text's order; `$` is read as US dollars."""
    for match in _AMOUNTS.finditer(text):
        sign = lowered(match["sign"] or match["name"])
        figures = (match["sum"] or match["sum2"]).replace(",", "")
        scale = lowered(match["scale"] or match["scale2"] or "")
        amount = Decimal(figures).scaleb(_SCALES[scale])
        try:
            cents = amount.quantize(Decimal("0.01"))
        except InvalidOperation:
            continue  # of more digits than money has
        amount = cents if amount == cents else amount
        currency = _CURRENCIES[sign]
        value = Value(
            kind="money",
            text=f"{amount:f} {currency}",
            amount=amount,
            currency=currency,
            per=per_what(text, *match.span()),
        )
        yield Place(*match.span(), value)


_PERCENT = re.compile(
    r"(?<![\d.])(?P<sum>\d{1,3}(?:\.\d{1,4})?)\)?\s{0,3}(?:%|per\s?cent\b)",
    re.IGNORECASE,
)


def percents(text: str) -> Iterator[Place]:
    """Shares in per cent, in the text's order."""
    for match in _PERCENT.finditer(text):
        amount = Decimal(match["sum"])
        value = Value(kind="percent", text=f"{amount} %", amount=amount)
        yield Place(*match.span(), value)


# -- places ----------------------------------------------------------------------------

_LAW_OF = re.compile(
    r"(?i:\blaws?\b.{0,40}?\bof\s{1,3}(?:the\s{1,3})?"
    r"(?:(?:state|commonwealth|province|republic|kingdom|people'?s\srepublic)\s{1,3}of\s{1,3})?"
    r"(?:the\s{1,3})?)"
    r"(?P<place>[A-Z][A-Za-z.]{1,24}(?:\s(?:of\s|and\s)?[A-Z][A-Za-z.]{1,24}){0,3})",
    re.DOTALL,
)
_ADJECTIVE = re.compile(
    r"\b(?P<place>English|German|Swiss|French|Dutch|Israeli|Japanese|Chinese|Indian"
    r"|Canadian|Australian|Danish|Swedish|New York|Delaware|California|Texas)"
    r"\s{1,3}law\b"
)
_NO_PLACE = frozenset(("State", "Party", "Agreement", "Law", "Contract"))


def places(text: str) -> Iterator[Place]:
    """Whose law it is: a state or a country, as written."""
    for match in (*_LAW_OF.finditer(text), *_ADJECTIVE.finditer(text)):
        written = " ".join(match["place"].split()).rstrip(".")
        if written.split()[0] in _NO_PLACE:
            continue
        yield Place(*match.span("place"), Value(kind="place", text=written))


_FINDERS: dict[str, Callable[[str], list[Place] | Iterator[Place]]] = {
    "date": dates,
    "end": ends,
    "duration": durations,
    "notice": notices,
    "term": terms,
    "money": amounts,
    "percent": percents,
    "place": places,
}
