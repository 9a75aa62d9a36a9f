"""
What an ERP of a distributor says of its parts: search, stock, price.

    GET /parts?kind=hose&size=12        parts by what they are, 50 at most, and how many
    GET /parts/NUMBER                   one part
    GET /parts/NUMBER/stock?region=EU   what is free there, with its time
    GET /parts/NUMBER/price?region=EU&tier=trade&count=12
                                        for one unit: currency, time, how long it holds

An answer says of which part it is and of what time: whoever reads it can see that it is
another part's (`other_part`), or that it is of the day before yesterday (`stale`).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from loadtest.vendors.catalogue import CENT, REGIONS, TIERS, Ware, catalogue

PART_FAULTS = frozenset({"other_part", "stale"})
LISTED_MAX = 50
COUNT_MAX = 1_000_000
STALE_S = 48 * 3600.0
HOLDS_S = 14 * 86_400.0
BEFORE = Decimal("0.93")  # a stale price, of what it is now
JUMP = Decimal("1.5")  # a price that changed between two questions
# What may be searched by: the part's own keys, and those of its end.
KEYS = ("number", "kind", "size", "standard", "series")
END_KEYS = ("thread", "gender", "end_size")


@dataclass(frozen=True, slots=True)
class Wrong:
    """A question that is refused."""

    status: int
    why: str


def of_parts(
    rest: Sequence[str],
    query: Mapping[str, str],
    fault: str,
    dice: random.Random,
    now: float,
) -> dict[str, Any] | Wrong:
    """
    The answer to a question about parts.

    Args:
        rest: The path below `/parts`.
        fault: One of `PART_FAULTS`, "price_changed", or one to ignore.
        now: Seconds since 1970.
    """
    if not rest:
        return _search(query)
    number, *about = rest
    wares = catalogue()
    if number not in wares:
        return Wrong(404, "no such part")
    if fault == "other_part":
        number = dice.choice([other for other in wares if other != number])
    ware = wares[number]
    stale = fault == "stale"
    match about:
        case []:
            return {"part": ware.part, "unit": ware.unit}
        case ["stock"]:
            return _stock(ware, query, now - STALE_S * stale, stale)
        case ["price"]:
            factor = BEFORE if stale else Decimal(1)
            factor = JUMP if fault == "price_changed" else factor
            return _price(ware, query, now - STALE_S * stale, factor)
        case _:
            return Wrong(404, "nothing is known of that")


def _search(query: Mapping[str, str]) -> dict[str, Any] | Wrong:
    """Parts that are all that was asked, in the order of their numbers."""
    known = {*KEYS, *END_KEYS, "material"}
    if not query or query.keys() - known:
        return Wrong(400, f"search by {', '.join(sorted(known))}")
    found = [
        ware.part for _, ware in sorted(catalogue().items()) if _is(ware.part, query)
    ]
    return {"total": len(found), "parts": found[:LISTED_MAX]}


def _is(part: dict[str, Any], query: Mapping[str, str]) -> bool:
    for key, wanted in query.items():
        if key == "material":
            met = wanted in part["materials"]
        elif key in END_KEYS:
            name = "size" if key == "end_size" else key
            met = any(str(end[name]) == wanted for end in part.get("ends", ()))
        else:
            met = str(part.get(key, "")) == wanted
        if not met:
            return False
    return True


def _stock(
    ware: Ware, query: Mapping[str, str], at: float, stale: bool
) -> dict[str, Any] | Wrong:
    region = query.get("region", "")
    if region not in REGIONS:
        return Wrong(400, "region: EU, UK or US")
    free = ware.stock[region] + 60 * stale  # sold since
    return {
        "number": ware.part["number"],
        "region": region,
        "free": free,
        "unit": ware.unit,
        "as_of": _time(at),
    }


def _price(
    ware: Ware, query: Mapping[str, str], at: float, factor: Decimal
) -> dict[str, Any] | Wrong:
    region, tier = query.get("region", ""), query.get("tier", "")
    said = query.get("count", "")
    count = int(said) if said.isascii() and said.isdecimal() and len(said) < 8 else 0
    if region not in REGIONS or tier not in TIERS or not 0 < count <= COUNT_MAX:
        return Wrong(400, f"region, tier ({', '.join(TIERS)}) and count are needed")
    price = (ware.price(region, tier, count) * factor).quantize(CENT)
    return {
        "number": ware.part["number"],
        "region": region,
        "tier": tier,
        "count": count,
        "unit": ware.unit,
        "currency": REGIONS[region][0],
        "price": f"{price:f}",
        "as_of": _time(at),
        "valid_until": _time(at + HOLDS_S),
    }


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
