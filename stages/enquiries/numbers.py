"""Numbers as buyers write them, and the two things that some of them mean."""

from __future__ import annotations

from decimal import Decimal

from stages.fitting import units

NUMBER = r"\d{1,3}(?:[,.]\d{3})+(?:[.,]\d{1,2})?|\d{1,7}(?:[.,]\d{1,4})?"
FRACTIONS = {"¼": "1/4", "½": "1/2", "¾": "3/4", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8"}
# What no hose has is no meaning: 3 psi of "3,000 psi".
PRESSURES = (Decimal("0.5"), Decimal(1000))  # bar
LENGTHS = (Decimal(50), Decimal(100_000))  # mm
HEATS = (Decimal(-60), Decimal(300))  # °C


def meanings(text: str) -> list[Decimal]:
    """
    What a number may be: 2,5 is one thing, 1,200 is 1.2 or 1200.

    Args:
        text: As `NUMBER` finds it.
    """
    marks = [char for char in text if char in ",."]
    if not marks:
        return [Decimal(text)]
    if len(marks) == 1:
        whole, _, rest = text.partition(marks[0])
        point = Decimal(f"{whole}.{rest}")
        thousands = len(rest) == 3 and not whole.startswith("0")
        return [point, Decimal(whole + rest)] if thousands else [point]
    if len(set(marks)) == 1:
        return [Decimal(text.replace(marks[0], ""))]
    head, _, tail = text.rpartition(marks[-1])
    return [Decimal(f"{head.replace(marks[0], '')}.{tail}")]


def within(
    values: list[Decimal], bounds: tuple[Decimal, Decimal]
) -> list[Decimal | None]:
    """Those that a hose can have, each once; None alone where it can have none."""
    low, high = bounds
    found = list(dict.fromkeys(v for v in values if low <= v <= high))
    return [*found] or [None]


def dash_of(text: str) -> int:
    """
    Inches as they are written, `3/4`, `1 1/4`, `1-1/4`, `¾`, `0.75`, as a size.

    Raises:
        ValueError: they are no whole number of sixteenths.
    """
    said = text.strip()
    for sign, fraction in FRACTIONS.items():
        said = said.replace(sign, f" {fraction}")
    said = " ".join(said.split())
    if "/" in said or said.isdecimal():
        return units.dash_of(f"{said} in")
    sixteenths = Decimal(said.replace(",", ".")) * units.SIXTEENTHS
    if sixteenths != sixteenths.to_integral_value():
        raise ValueError("a size is a whole number of sixteenths of an inch")
    return units.dash_of(f"{int(sixteenths)}/16 in")
