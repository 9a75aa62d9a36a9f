"""
The other half of a distributor's ERP: who buys, and what they were quoted.

    GET  /customers?number=K-1001   customers of a number or of an address (`mail`)
    GET  /quotes?number=Q-000001    the newest revision of each quote that is asked for;
    GET  /quotes?customer=K-1001&part=HOS-123456       newest first
    POST /quotes                    {"data": {…}}: a quote by its number and revision

A quote that comes again under its number and revision is the same record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HOUSES = (
    *("Aldermoor Cranes", "Brightwater Presses", "Cinderhall Quarries"),
    *("Dunmere Shipyard", "Eastlow Forestry", "Fernwick Machines"),
    *("Greystone Harbour", "Hollin Recycling", "Ironbridge Tunnels"),
    *("Juniper Farms", "Kestrel Mining", "Larkfield Foundry"),
)
REGIONS = ("EU", "UK", "US")
TIERS = ("list", "trade", "key")
ASKED_BY = ({"number"}, {"mail"})
FOUND_BY = ({"number"}, {"customer", "part"})
LISTED_MAX = 20


def customers() -> list[dict[str, str]]:
    """All there are: each of a region and a tier."""
    return [
        {
            "number": f"K-{1001 + at}",
            "name": name,
            "mail": f"purchasing@{name.split()[0].lower()}.example",
            "region": REGIONS[at % 3],
            "tier": TIERS[at // 3 % 3],
        }
        for at, name in enumerate(HOUSES)
    ]


def asked_for(query: Mapping[str, str]) -> dict[str, Any] | None:
    """Customers of a number or an address; None: that is no question."""
    if query.keys() not in ASKED_BY:
        return None
    found = [
        one
        for one in customers()
        if all(one[key].lower() == said.lower() for key, said in query.items())
    ]
    return {"customers": found}


class Quotes:
    """What was quoted, by number and revision."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, int], dict[str, Any]] = {}

    def take(self, quote: Any) -> bool:
        """Keep a quote; False where it is none."""
        if not isinstance(quote, dict):
            return False
        number, revision = quote.get("number"), quote.get("revision")
        lines, customer = quote.get("lines"), quote.get("customer")
        good = isinstance(number, str) and isinstance(revision, int) and customer
        if not good or not isinstance(lines, list):
            return False
        self._kept.pop((str(number), int(revision or 0)), None)
        self._kept[str(number), int(revision or 0)] = quote
        return True

    def found(self, query: Mapping[str, str]) -> dict[str, Any] | None:
        """The newest revisions of quotes, newest first; None: that is no question."""
        if query.keys() not in FOUND_BY:
            return None
        newest: dict[str, dict[str, Any]] = {}
        for (number, _), quote in reversed(self._kept.items()):
            if number not in newest and _is(quote, query):
                newest[number] = quote
        return {"quotes": list(newest.values())[:LISTED_MAX]}


def _is(quote: dict[str, Any], query: Mapping[str, str]) -> bool:
    if "number" in query:
        return bool(quote["number"] == query["number"])
    parts = {str(line.get("part")) for line in quote["lines"] if isinstance(line, dict)}
    return quote["customer"] == query["customer"] and query["part"] in parts
