"""
What a vendor's headers say about how much more it will take.

    OpenAI       x-ratelimit-{limit,remaining,reset}-{requests,tokens}, "6m0s", "20ms"
    Anthropic    anthropic-ratelimit-{requests,tokens,…}-{…}, their moments RFC 3339
    Salesforce   Sforce-Limit-Info: api-usage=18/5000
    others       ratelimit-* and x-ratelimit-*: seconds, or seconds since 1970

Nothing here is believed further than it makes us slower: numbers are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal, NamedTuple

Of = Literal["requests", "tokens", "input-tokens", "output-tokens"]
OFS: tuple[Of, ...] = ("requests", "tokens", "input-tokens", "output-tokens")
RESETS_MAX_S = 86_400.0
COUNT_MAX = 1e12
EPOCH_FROM_S = 1e9  # a reset above is no duration but a moment


class Allowance(NamedTuple):
    """
    So much is left, of one thing.

    Attributes:
        limit: Of the vendor's window; None where it does not say.
        resets_in_s: Seconds until `remaining` is `limit` again; None: not known.
    """

    of: Of
    remaining: float
    limit: float | None = None
    resets_in_s: float | None = None


def allowances(headers: Mapping[str, str], now: datetime) -> tuple[Allowance, ...]:
    """What is left by these headers, whose names are in small letters."""
    found = [_one(headers, of, now) for of in OFS]
    if all(each is None for each in found):
        found = [_plain(headers, now), _salesforce(headers)]
    return tuple(each for each in found if each is not None)


def _one(headers: Mapping[str, str], of: Of, now: datetime) -> Allowance | None:
    for name in (f"x-ratelimit-{{}}-{of}", f"anthropic-ratelimit-{of}-{{}}"):
        left = _number(headers.get(name.format("remaining"), ""))
        if left is not None:
            limit = _number(headers.get(name.format("limit"), ""))
            reset = _until(headers.get(name.format("reset"), ""), now)
            return Allowance(of, left, limit, reset)
    return None


def _plain(headers: Mapping[str, str], now: datetime) -> Allowance | None:
    for name in ("x-ratelimit-{}", "ratelimit-{}"):
        left = _number(headers.get(name.format("remaining"), ""))
        if left is not None:
            limit = _number(headers.get(name.format("limit"), ""))
            reset = _until(headers.get(name.format("reset"), ""), now)
            return Allowance("requests", left, limit, reset)
    return None


def _salesforce(headers: Mapping[str, str]) -> Allowance | None:
    found = _API_USAGE.search(headers.get("sforce-limit-info", "")[:500])
    if found is None:
        return None
    used, limit = map(float, found.groups())
    return Allowance("requests", max(0.0, limit - used), limit)


_API_USAGE = re.compile(r"(?:^|[;,\s])api-usage=(\d{1,12})/(\d{1,12})\b", re.ASCII)
_NUMBER = re.compile(r"\d{1,12}(\.\d{1,9})?", re.ASCII)
_SPAN = re.compile(r"(?:\d{1,9}(?:\.\d{1,9})?(?:ms|us|µs|ns|h|m|s))+", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|h|m|s)", re.ASCII)
_UNIT_S = {
    "h": 3600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "ns": 1e-9,
}


def _number(value: str) -> float | None:
    value = value.strip()
    if not _NUMBER.fullmatch(value):
        return None
    return min(float(value), COUNT_MAX)


def _until(value: str, now: datetime) -> float | None:
    """Seconds until a reset, written as a duration, a number or a moment."""
    value = value.strip()[:64]
    number = _number(value)
    if number is not None:
        wait_s = number - now.timestamp() if number > EPOCH_FROM_S else number
    elif _SPAN.fullmatch(value):
        wait_s = sum(float(n) * _UNIT_S[unit] for n, unit in _PART.findall(value))
    else:
        moment = _moment(value)
        if moment is None:
            return None
        wait_s = (moment - now).total_seconds()
    return min(max(wait_s, 0.0), RESETS_MAX_S)


def _moment(value: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
