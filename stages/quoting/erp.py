"""
What is asked of the ERP: each question a step of its own, kept with its answer.

An answer must be of the part, the region and the tier that were asked for, or it is
none and is asked for again.  A call that times out ends this try of its stage; the next
one finds every answer before it in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import Transient
from pipeline.stage import Answer, Context, Request
from stages.fitting.parts import Part
from stages.quoting.forms import Customer, Price, Stock

ERP = "erp"
ROUNDS_MAX = 50  # questions for one price of an item, over all of its time
FRESH_MAX = 3  # answers that are too old, of one try
AHEAD = timedelta(minutes=15)  # by which an ERP's clock may be before ours
M = TypeVar("M", bound=BaseModel)
Timed = TypeVar("Timed", Price, Stock)


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)


class Parts(_Said):
    """Parts that are what was asked for: so many, of which the first are listed."""

    total: int = Field(ge=0)
    parts: tuple[Part, ...] = Field(max_length=500)


class Customers(_Said):
    """Customers of a number or an address."""

    customers: tuple[Customer, ...] = Field(max_length=100)


class Quotes(_Said):
    """Quotes that the ERP has, newest first; of each what `record` wrote."""

    quotes: tuple[dict[str, Any], ...] = Field(max_length=100)


async def parts(ctx: Context, name: str, query: Mapping[str, str]) -> Parts:
    """Parts by what they are, or by number; `name` is the step's."""

    def fits(found: Parts) -> None:
        for part in found.parts:
            if not _is(part, query):
                raise _garbage("a part that was not asked for")

    return await _asked(ctx, f"{name}/{_digest(query)}", "parts", query, Parts, fits)


async def customers(ctx: Context, query: Mapping[str, str]) -> tuple[Customer, ...]:
    """Customers by `number` or `mail`."""

    def fits(found: Customers) -> None:
        for one in found.customers:
            wrong = any(getattr(one, k).lower() != v.lower() for k, v in query.items())
            if wrong:
                raise _garbage("a customer who was not asked for")

    step = f"customer/{_digest(query)}"
    found = await _asked(ctx, step, "customers", query, Customers, fits)
    return found.customers


async def quotes(ctx: Context, name: str, query: Mapping[str, str]) -> Quotes:
    """Quotes by `number`, or by `customer` and `part`."""
    step = f"{name}/{_digest(query)}"
    return await _asked(ctx, step, "quotes", query, Quotes, lambda found: None)


async def price(
    ctx: Context,
    name: str,
    number: str,
    query: Mapping[str, str],
    age: timedelta,
    now: datetime,
) -> tuple[Price, int]:
    """
    The price of one unit, no older than `age`, and how often it was asked for.

    Args:
        query: `region`, `tier` and `count`.

    Raises:
        Transient: VENDOR_GARBAGE, PRICE_STALE.
    """

    def fits(found: Price) -> None:
        said = {"region": found.region, "tier": found.tier, "count": str(found.count)}
        if found.number != number or said != dict(query):
            raise _garbage("the price of something else")

    def fresh(found: Price) -> bool:
        return found.as_of >= now - age and found.valid_until > now

    path = f"parts/{number}/price"
    return await _fresh(ctx, name, path, query, Price, fits, fresh, now)


async def stock(
    ctx: Context, name: str, number: str, region: str, age: timedelta, now: datetime
) -> tuple[Stock, int]:
    """What is free of a part, as it was no longer than `age` ago; raises as `price`."""

    def fits(found: Stock) -> None:
        if (found.number, found.region) != (number, region):
            raise _garbage("the stock of something else")

    def fresh(found: Stock) -> bool:
        return found.as_of >= now - age

    path, query = f"parts/{number}/stock", {"region": region}
    return await _fresh(ctx, name, path, query, Stock, fits, fresh, now)


async def _fresh(
    ctx: Context,
    name: str,
    path: str,
    query: Mapping[str, str],
    form: type[Timed],
    fits: Callable[[Timed], None],
    fresh: Callable[[Timed], bool],
    now: datetime,
) -> tuple[Timed, int]:
    """
    The first answer that is fresh; those that are not stay on record, and unused.

    An item that was held for a week finds its old answers in memory, and asks anew.
    """
    called = 0

    def checked(found: Timed) -> None:
        nonlocal called
        fits(found)
        if found.as_of > now + AHEAD:
            raise _garbage("an answer of tomorrow")
        called += 1

    for asked in range(1, ROUNDS_MAX + 1):
        found = await _asked(ctx, f"{name}-{asked}", path, query, form, checked)
        if fresh(found):
            return found, asked
        if called >= FRESH_MAX:
            break
    raise Transient(
        f"the ERP's answer is of {found.as_of.isoformat(timespec='minutes')}",
        code="PRICE_STALE",
        hint="it is asked again; look whether its cache is renewed",
    )


async def _asked(
    ctx: Context,
    step: str,
    path: str,
    query: Mapping[str, str],
    form: type[M],
    fits: Callable[[M], None],
) -> M:
    """One call, kept as the step of this name when its answer is what was asked for."""

    def check(answer: Answer) -> None:
        fits(_read(answer, form))

    request = Request(path, "GET", query=dict(query))
    answer = await ctx.vendor(ERP).call(step, request, check=check)
    return _read(answer, form)


def _read(answer: Answer, form: type[M]) -> M:
    try:
        return form.model_validate(answer.data)
    except ValidationError:
        raise _garbage("no answer of the form that was asked for") from None


def _garbage(what: str) -> Transient:
    return Transient(f"the ERP sent {what}", code="VENDOR_GARBAGE")


def _is(part: Part, query: Mapping[str, str]) -> bool:
    """Whether a part is what a search asked for."""
    alone = all(
        str(getattr(part, key)) == query[key]
        for key in ("number", "kind", "size", "standard", "series")
        if key in query
    )
    of_end = {"thread": "thread", "gender": "gender", "end_size": "size"}
    return alone and all(
        any(str(getattr(end, name)) == query[key] for end in part.ends)
        for key, name in of_end.items()
        if key in query
    )


def _digest(query: Mapping[str, str]) -> str:
    """Of a question: the same question is the same step, another one is another."""
    said = "\0".join(f"{key}={query[key]}" for key in sorted(query))
    return hashlib.sha256(said.encode()).hexdigest()[:12]


def now_utc() -> datetime:
    """The time by this machine's clock."""
    return datetime.now(UTC)
