"""
Quotes beside a second implementation: every verdict and every sum, computed twice.

Requests are read, their parts chosen, checked and priced by what `examples/quotes`
runs, in this process, without ERP, jail and printing.  The baseline of the same run
judges all pairings of the same candidates and adds the same lines up, by tables and
whole cents of its own.  The checker's word on all pairings is taken outside the time.
"""

from __future__ import annotations

import random
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import product
from typing import Any, NamedTuple

from loadtest.corpora.enquiries import Truth, sound
from loadtest.scenarios.fitting import JOINED, RULES, SIGNS, duty_of, rule_files
from loadtest.scenarios.fitting_second import Asked, verdict
from loadtest.scenarios.quotes_second import faults_of
from loadtest.vendors.catalogue import REGIONS, Ware, catalogue
from stages.fitting.checker import check
from stages.fitting.parts import Assembly, Part
from stages.fitting.rulebook import RuleBook, load
from stages.quoting.choosing import chosen_of
from stages.quoting.forms import Chosen, Customer, Enquiry, Found, Price, Stock
from stages.quoting.matching import searches
from stages.quoting.prices import PricingSettings, policy_of
from stages.quoting.pricing import break_count, position, quantities, quote_of
from stages.quoting.reading import enquiry_of
from stages.quoting.record import record

LINES_MAX = 3
TELL_EVERY = 100
EXAMPLES_MAX = 5
SUMS = (
    *("totals_wrong", "prices_guessed", "parts_invented", "quantities_wrong"),
    *("lines_wrong", "unsafe"),
)
BROKEN = ("verdicts_wrong", "not_quoted", *SUMS)
Pool = dict[str, tuple[Part, ...]]  # of a line, by the place
Verdicts = dict[tuple[str, str], str]  # of a hose and an end, by their numbers


class House(NamedTuple):
    """What quotes are made by: the parts there are, the rules, what is preferred."""

    wares: Mapping[str, Ware]
    parts: Mapping[str, Part]
    rules: RuleBook
    prefer: Sequence[str]


class Made(NamedTuple):
    """A quote, and what each line was chosen from; no record: none could be made."""

    record: dict[str, Any]
    pools: list[Pool]


def measure(
    tell: Callable[[str], None],
    *,
    quotes: int,
    seed: int,
    files: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """
    Make quotes, and recompute each right after it.

    Args:
        seed: Of the catalogue's numbers and prices, and of the requests.
        files: Other rule files than those of the example.

    Returns:
        `quotes_per_s`, `baseline_per_s` and their `ratio`; how many verdicts and quotes
        were recomputed; and what differs, by the names of `BROKEN`.
    """
    wares = catalogue(seed)
    manifest = tomllib.loads((RULES.parent / "pipeline.toml").read_text("utf-8"))
    house = House(
        wares,
        {number: Part.model_validate(ware.part) for number, ware in wares.items()},
        load(rule_files() if files is None else files),
        manifest["stage"]["fitting"]["prefer"],
    )
    dice = random.Random(f"bench quotes/{seed}")
    wrong: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    examples: list[str] = []
    ours = theirs = 0.0
    for number in range(1, quotes + 1):
        text, customer, truths = sound(dice, dice.randint(1, LINES_MAX))
        began = time.perf_counter()
        made = _quoted(number, text, customer, house)
        between = time.perf_counter()
        second = [_tabled(pool, truth, house) for pool, truth in _by_line(made, truths)]
        found = faults_of(made.record, customer, truths, wares) if made.record else {}
        ours += between - began
        theirs += time.perf_counter() - between
        first = [_checked(pool, truth, house) for pool, truth in _by_line(made, truths)]
        counts["lines"] += len(truths)
        counts["verdicts"] += sum(map(len, second))
        wrong.update(found)
        wrong["not_quoted"] += not made.record
        for one, other in zip(first, second, strict=True):
            apart = [pair for pair in one if one[pair] != other[pair]]
            wrong["verdicts_wrong"] += len(apart)
            examples += [f"{h} + {e}: {one[h, e]}{other[h, e]}" for h, e in apart]
        if number % TELL_EVERY == 0:
            tell(f"{number} of {quotes} quotes")
    return {
        "quotes": quotes,
        "lines": counts["lines"],
        "verdicts": counts["verdicts"],
        **{name: wrong[name] for name in BROKEN},
        "examples": examples[:EXAMPLES_MAX],
        "quotes_per_s": round(quotes / ours, 1),
        "baseline_per_s": round(quotes / theirs, 1),
        "ratio": round(theirs / ours, 4),
    }


def _by_line(made: Made, truths: Sequence[Truth]) -> Iterator[tuple[Pool, Truth]]:
    return zip(made.pools, truths, strict=False)  # a line too few is in `lines_wrong`


def _quoted(number: int, text: str, buyer: Mapping[str, str], house: House) -> Made:
    """What `examples/quotes` makes of a request, between its text and its page."""
    now = datetime.now(UTC)
    enquiry = enquiry_of(text, house.rules, date.today(), {})
    pools: list[Pool] = []
    chosen: list[Chosen] = []
    for line in enquiry.lines if not enquiry.open else ():
        pool = {place: _there(asked, house) for place, asked in searches(line).items()}
        pools.append(pool)
        found = Found(line=line.number, parts=pool)
        made = chosen_of(line, found, house.rules, house.prefer, {}).chosen
        chosen += [made] if made else []
    if not pools or len(chosen) < len(pools):
        return Made({}, pools)
    customer = Customer.model_validate(buyer)
    return Made(_written(number, enquiry, chosen, customer, house, now), pools)


def _there(asked: Mapping[str, str], house: House) -> tuple[Part, ...]:
    """What an ERP would answer to a search."""
    of_end = {"thread": "thread", "gender": "gender", "end_size": "size"}
    return tuple(
        house.parts[number]
        for number, ware in house.wares.items()
        if all(
            any(str(end[of_end[key]]) == said for end in ware.part.get("ends", ()))
            if key in of_end
            else str(ware.part.get(key)) == said
            for key, said in asked.items()
        )
    )


def _written(
    number: int,
    enquiry: Enquiry,
    chosen: Sequence[Chosen],
    customer: Customer,
    house: House,
    now: datetime,
) -> dict[str, Any]:
    """The quote as JSON, by prices and stocks of the catalogue."""
    policy = policy_of(PricingSettings())
    lines = []
    for line, parts in zip(enquiry.lines, chosen, strict=True):
        placed = []
        for part, places, needed in quantities(line, parts):
            ware = house.wares[part.number]
            price, stock = _priced(ware, customer, break_count(needed), now)
            placed.append(position(part, places, needed, price, stock))
        lines.append((line.number, placed))
    quote = quote_of(f"Q-{number:06d}", customer, lines, Decimal(0), policy, now)
    return record(quote, enquiry, chosen, {}, {"house": {}, "terms": []})


def _priced(
    ware: Ware, customer: Customer, count: int, now: datetime
) -> tuple[Price, Stock]:
    region, number = customer.region, ware.part["number"]
    price = Price(
        number=number,
        region=region,
        tier=customer.tier,
        count=count,
        unit=ware.unit,
        currency=REGIONS[region][0],
        price=ware.price(region, customer.tier, count),
        as_of=now,
        valid_until=now + timedelta(days=14),
    )
    free = Decimal(ware.stock[region])
    stock = Stock(number=number, region=region, free=free, unit=ware.unit, as_of=now)
    return price, stock


def _pairs(pool: Pool) -> Iterator[tuple[Part, Part]]:
    ends = {end.number: end for end in (*pool["one end"], *pool["other end"])}
    return product(pool["hose"], ends.values())


def _checked(pool: Pool, truth: Truth, house: House) -> Verdicts:
    """Each hose that was found with each end, by the checker and the rule files."""
    duty = duty_of(Asked(truth.medium, truth.celsius, truth.bar))
    return {
        (hose.number, end.number): SIGNS[
            check(Assembly({"one": hose, "other": end}, JOINED), duty, house.rules).fits
        ]
        for hose, end in _pairs(pool)
    }


def _tabled(pool: Pool, truth: Truth, house: House) -> Verdicts:
    """The same by the second implementation."""
    asked = Asked(truth.medium, truth.celsius, truth.bar)
    wares = house.wares
    return {
        (hose.number, end.number): verdict(
            wares[hose.number].part, wares[end.number].part, asked
        )
        for hose, end in _pairs(pool)
    }
