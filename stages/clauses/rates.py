"""What an amount is paid for each of: `$78,000 per year`, `a monthly fee of $500`."""

from __future__ import annotations

import re

from stages.clauses.hits import lowered

_TIMES = {
    "annum": "year", "annual": "year", "annually": "year", "yearly": "year",
    "quarterly": "quarter", "monthly": "month", "weekly": "week", "daily": "day",
    "hourly": "hour",
}  # fmt: skip
_PER = re.compile(
    r"(?i)(?:\s{0,3}\([^()]{1,30}\))?(?:\s{1,3}(?:us\s)?dollars)?[\s,]{0,3}(?:"
    r"(?:\bper\s{1,3}|/\s?)(?:(?:calendar|contract|full|each)\s{1,3})?(?P<each>[a-z]{2,20})"
    r"|\b(?:an?|each|every|for\seach|for\severy)\s{1,3}"
    r"(?:(?:calendar|contract|full)\s{1,3})?(?P<time>year|quarter|month|week|day|hour)"
    r"|(?P<often>annually|yearly|quarterly|monthly|weekly|daily|hourly))\b"
)
_OFTEN = re.compile(
    r"(?i)\b(?P<often>annual|yearly|quarterly|monthly|weekly|daily|hourly)\s{1,3}"
    r"(?:[a-z]{3,20}\s{1,3}){1,3}(?:of|is|at|equal\sto|be)\s{1,3}\Z"
)
OFTEN_CHARS = 70  # before an amount


def per_what(text: str, start: int, end: int) -> str | None:
    """What the amount at `[start, end)` of `text` is for each of; None: for all."""
    if behind := _PER.match(text, end):
        said = lowered(behind["each"] or behind["time"] or behind["often"])
        return _TIMES.get(said, said)
    before = _OFTEN.search(text[max(0, start - OFTEN_CHARS) : start])
    return _TIMES[lowered(before["often"])] if before else None
