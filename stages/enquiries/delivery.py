"""Where a request is sent to, and by which day."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date

from stages.enquiries.forms import Question, Read
from stages.enquiries.mending import Mended

MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july"),
    *("august", "september", "october", "november", "december"),
)
_MONTH = "|".join(f"{name[:3]}(?:{name[3:]})?" for name in MONTHS)
_NAME = r"[A-Z][\w'-]+(?: (?!By\b)[A-Z][\w'-]+){0,3}"
_PLACE = re.compile(
    rf"\b(?:[Dd]eliver(?:y|ed)? (?:to|at)|[Ss]hip(?:ped|ping)? to|to|TO) (?P<p>{_NAME})"
)
_BY = re.compile(
    r"\b(?:by|before|until|not? later than)(?: the)? (?:"
    r"(?P<iso>\d{4}-\d{2}-\d{2})"
    r"|(?P<a>\d{1,2})(?P<m>[/.])(?P<b>\d{1,2})[/.](?P<y>\d{4})"
    rf"|(?P<d>\d{{1,2}})(?:st|nd|rd|th)?(?: of)? (?P<mon>{_MONTH})\.?"
    r",?(?: (?P<yr>\d{4}))?"
    rf"|(?P<mon2>{_MONTH})\.? (?P<d2>\d{{1,2}})(?:st|nd|rd|th)?,?(?: (?P<yr2>\d{{4}}))?"
    r"|(?P<day>\d{1,2})(?:st|nd|rd|th))(?!\w)"
)


def delivery_of(
    page: Mended, received: date
) -> tuple[Read[str] | None, Read[date] | None, list[Question]]:
    """Place and day, and what must be asked of them."""
    questions: list[Question] = []
    place = _place(page, questions)
    return place, _by(page, received, questions), questions


def _place(page: Mended, questions: list[Question]) -> Read[str] | None:
    # Names are known by their capitals, which the mended text has none of.
    found = list(_PLACE.finditer(page.written))
    names = list(dict.fromkeys(one["p"] for one in found))
    if len(names) == 1:
        return Read(names[0], page.place(*found[0].span("p")))
    why = "several places are named" if names else "no place is named"
    words = page.place(*found[0].span("p")) if found else None
    questions.append(Question("place", 0, why, tuple(names), words))
    return None


def _by(page: Mended, received: date, questions: list[Question]) -> Read[date] | None:
    found = list(_BY.finditer(page.text))
    if not found:
        questions.append(Question("by", 0, "no day is said"))
        return None
    days = list(dict.fromkeys(day for one in found for day in _days(one, received)))
    words = page.words(*found[0].span())
    if len(days) == 1:
        return Read(days[0], words, page.slip(*found[0].span()))
    why = "it may be one of several days" if days else "there is no such day"
    choices = tuple(day.isoformat() for day in sorted(days))
    questions.append(Question("by", 0, why, choices, words))
    return None


def _days(found: re.Match[str], received: date) -> Iterator[date]:
    """The days that are meant: 04/05 is two, and the 14th, said on the 14th."""
    if found["iso"]:
        year, month, day = map(int, found["iso"].split("-"))
        yield from _day(year, month, day)
    elif found["a"]:
        a, b, year = int(found["a"]), int(found["b"]), int(found["y"])
        yield from _day(year, b, a)
        if found["m"] == "/":  # with points the day is first, with strokes who knows
            yield from _day(year, a, b)
    elif name := found["mon"] or found["mon2"]:
        month = next(n for n, m in enumerate(MONTHS, 1) if m[:3] == name[:3])
        day = int(found["d"] or found["d2"])
        if year_said := found["yr"] or found["yr2"]:
            yield from _day(int(year_said), month, day)
        else:
            coming = [*_day(received.year, month, day)]
            coming += _day(received.year + 1, month, day)
            yield from [one for one in coming if one >= received][:1]
    else:
        yield from _next(int(found["day"]), received)


def _next(day: int, received: date) -> Iterator[date]:
    """The next such day of a month; said on that day it is this one or the next."""
    months = [(received.year, received.month + more) for more in range(4)]
    places = [(year + (m - 1) // 12, (m - 1) % 12 + 1) for year, m in months]
    days = [one for year, month in places for one in _day(year, month, day)]
    coming = [one for one in days if one >= received]
    yield from coming[: 2 if coming[:1] == [received] else 1]


def _day(year: int, month: int, day: int) -> Iterator[date]:
    try:
        yield date(year, month, day)
    except ValueError:
        return
