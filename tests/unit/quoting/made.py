"""Requests, parts and an ERP for tests of quotes: the simulated one, in process."""

from __future__ import annotations

import json
import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import anyio.lowlevel

from loadtest.vendors.kinds import Call as Asked
from loadtest.vendors.settings import Play
from loadtest.vendors.shops import Erp
from pipeline.errors import Transient
from pipeline.vendors.hearing import Reply
from stages.fitting.parts import Part
from stages.fitting.rulebook import load
from stages.quoting.forms import (
    Chosen,
    Customer,
    Enquiry,
    Line,
    Position,
    Price,
    Quote,
    Stock,
)
from stages.quoting.prices import PricingSettings, policy_of
from stages.quoting.pricing import position, quote_of
from stages.quoting.reading import enquiry_of

QUOTES = Path(__file__).parents[3] / "examples" / "quotes"
BOOK = load(
    {
        f"rules/{path.name}": path.read_text(encoding="utf-8")
        for path in (QUOTES / "rules").glob("*.toml")
    }
)
TODAY = date(2026, 11, 27)
NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
WHOLE = (
    "Customer K-1001.\n12 assemblies of 3/4 inch, 6 m, JIC swivel one end, "
    "NPT male the other, hot oil at 120 °C, 200 bar, to Rotterdam by 14.12.2026"
)
POLICY = policy_of(PricingSettings(transit_days={"EU": 3}))
BUYER = Customer(
    number="K-1001",
    name="Aldermoor Cranes",
    mail="purchasing@aldermoor.example",
    region="EU",
    tier="list",
)
HOSE = Part(
    number="HOS-100001",
    kind="hose",
    title="Hose",
    size=12,
    standard="4SP",
    materials=("HNBR",),
)


def read(text: str, **answers: str) -> Enquiry:
    """A request by rules; answers by key, `_` for a point: `l1_bar`."""
    keys = {key.removeprefix("l").replace("_", ".", 1): v for key, v in answers.items()}
    return enquiry_of(text, BOOK, TODAY, keys)


def price(value: str, **more: Any) -> Price:
    given: dict[str, Any] = {
        "number": HOSE.number,
        "region": "EU",
        "tier": "list",
        "count": 72,
        "unit": "m",
        "currency": "EUR",
        "price": Decimal(value),
        "as_of": NOW,
        "valid_until": NOW + timedelta(days=14),
    }
    return Price(**given | more)


def stock(free: str = "1000", **more: Any) -> Stock:
    given = {"number": HOSE.number, "region": "EU", "unit": "m", "as_of": NOW}
    return Stock(**given | {"free": Decimal(free)} | more)


def placed(
    value: str = "19.42", quantity: str = "72", free: str = "1000", **more: Any
) -> Position:
    """A hose of one line."""
    last = more.pop("last", None)
    return position(
        HOSE, ("hose",), Decimal(quantity), price(value, **more), stock(free), last
    )


def quote(
    *positions: Position, percent: str = "0", before: dict[str, Any] | None = None
) -> Quote:
    """A quote of one line."""
    of = positions or (placed(),)
    return quote_of(
        *("Q-000007", BUYER, [(1, of)], Decimal(percent), POLICY, NOW), before
    )


def chosen(line: Line, parts: dict[str, Part]) -> Chosen:
    return Chosen(line=line.number, parts=parts, bar=Decimal(210), reasons=())


class Door:
    """
    The vendors' door to an ERP of its own.

    Args:
        faults: What goes wrong, in turn, with calls whose path begins so: a fault of
            the simulated ERP, or "timeout".

    Attributes:
        asked: Every call, as path and query.
    """

    def __init__(self, **faults: list[str]) -> None:
        self.asked: list[str] = []
        self.erp = Erp()
        self._faults = faults
        self._dice = random.Random(1)

    async def send(self, spec: Any, request: Any, **more: Any) -> Reply:
        """One call."""
        await anyio.lowlevel.checkpoint()
        if more.get("when") is not None:
            await more["when"]()
        path = f"/{request.path}?{urlencode(request.query)}"
        self.asked.append(path)
        kind = request.path.rpartition("/")[2]
        left = self._faults.get(kind) or []
        fault = left.pop(0) if left else "ok"
        if fault == "timeout":
            raise Transient("it took too long", code="VENDOR_TIMEOUT")
        call = Asked(request.method, path, {}, b"", "http://erp")
        answer = self.erp.answer(call, Play(kind="erp"), fault, self._dice)
        assert answer.status < 300, answer
        return Reply(200, json.loads(answer.body))
