"""How quantities, units and days are written, on paper and in QUOTE.json."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

UNITS = {"m": "m", "piece": "pcs"}


def shown(quantity: Decimal) -> str:
    """A quantity without zeros at its end."""
    return f"{quantity.normalize():f}"


def day(iso: str) -> str:
    """`14 December 2026` of an ISO date or time."""
    at = date.fromisoformat(iso[:10])
    return f"{at.day} {at:%B %Y}"
