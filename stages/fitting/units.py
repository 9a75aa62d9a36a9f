"""
Quantities as people write them, in `Decimal`: sizes, pressures, temperatures, lengths.

Inside, a pressure is in bar, a temperature in °C, a length in mm and a size in
sixteenths of an inch, as SAE J517 and J846 count them: -12 is 12/16, which is 3/4 in.
A number without a unit is refused, for it means two things.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation

# Of one unit, in bar, °C (after its zero is taken off), mm.  A psi is a pound-force,
# 4.4482216152605 N, on a square inch of 645.16 mm²; both are exact (ISO 80000-4, -3).
PRESSURES: Mapping[str, Decimal] = {
    "bar": Decimal(1),
    "mbar": Decimal("0.001"),
    "kPa": Decimal("0.01"),
    "MPa": Decimal(10),
    "psi": Decimal("4.4482216152605") / Decimal("64.516"),
}
LENGTHS: Mapping[str, Decimal] = {
    "mm": Decimal(1),
    "cm": Decimal(10),
    "m": Decimal(1000),
    "in": Decimal("25.4"),
    "ft": Decimal("304.8"),
}
TEMPERATURES = ("°C", "°F", "K")
INCH_MM = Decimal("25.4")
SIXTEENTHS = 16
DASH_MAX = 64  # 4 in: no hose of these standards is larger
NUMBER_CHARS_MAX = 20
_QUANTITY = re.compile(r"([+-]?\d+(?:\.\d+)?) ?([^\d\s.]+)", re.ASCII)
_DASH = re.compile(r"-0?(\d{1,2})", re.ASCII)
_FRACTION = re.compile(r"(?:(\d{1,2})[ -])?(\d{1,2})/(\d{1,2}) ?in", re.ASCII)
_WHOLE = re.compile(r"(\d{1,2}) ?in", re.ASCII)


def quantity(text: str) -> tuple[Decimal, str]:
    """
    Number and unit of `215 bar`.

    Raises:
        ValueError: it is no number with a unit.
    """
    found = _QUANTITY.fullmatch(text.strip())
    if found is None or len(found[1]) > NUMBER_CHARS_MAX:
        raise ValueError("write a number and its unit, such as 215 bar")
    return Decimal(found[1]), found[2]


def pressure(text: str) -> Decimal:
    """`215 bar`, `3000 psi` or `21 MPa`, in bar; raises ValueError."""
    return to_bar(*_unit_of(text, PRESSURES))


def length(text: str) -> Decimal:
    """`240 mm`, `6 m` or `20 ft`, in mm; raises ValueError."""
    return to_mm(*_unit_of(text, LENGTHS))


def temperature(text: str) -> Decimal:
    """`120 °C`, `250 °F` or `390 K`, in °C; raises ValueError."""
    return to_celsius(*_unit_of(text, dict.fromkeys(TEMPERATURES, Decimal(1))))


def factor(text: str) -> Decimal:
    """A share from 0 to 1, without a unit; raises ValueError."""
    try:
        found = Decimal(text)
    except InvalidOperation:
        found = Decimal(-1)
    if not 0 <= found <= 1:
        raise ValueError('write a share from 0 to 1, such as "0.85"')
    return found


def _unit_of(text: str, known: Mapping[str, Decimal]) -> tuple[Decimal, str]:
    number, unit = quantity(text)
    if unit not in known:
        raise ValueError(f"the unit is one of {', '.join(known)}")
    return number, unit


# -- conversion, both ways ------------------------------------------------------------


def to_bar(number: Decimal, unit: str) -> Decimal:
    """A pressure in bar; `unit` is one of `PRESSURES`."""
    return number * PRESSURES[unit]


def from_bar(bar: Decimal, unit: str) -> Decimal:
    """A pressure in `unit`, one of `PRESSURES`."""
    return bar / PRESSURES[unit]


def to_mm(number: Decimal, unit: str) -> Decimal:
    """A length in mm; `unit` is one of `LENGTHS`."""
    return number * LENGTHS[unit]


def from_mm(mm: Decimal, unit: str) -> Decimal:
    """A length in `unit`, one of `LENGTHS`."""
    return mm / LENGTHS[unit]


def to_celsius(number: Decimal, unit: str) -> Decimal:
    """A temperature in °C; `unit` is one of `TEMPERATURES`."""
    match unit:
        case "°C":
            return number
        case "°F":
            return (number - 32) * 5 / 9
        case _:
            return number - Decimal("273.15")


def from_celsius(celsius: Decimal, unit: str) -> Decimal:
    """A temperature in `unit`, one of `TEMPERATURES`."""
    match unit:
        case "°C":
            return celsius
        case "°F":
            return celsius * 9 / 5 + 32
        case _:
            return celsius + Decimal("273.15")


# -- sizes -----------------------------------------------------------------------------


def dash_of(text: str) -> int:
    """
    A size that is written `-12` or `3/4 in`, in sixteenths of an inch.

    A size in mm is nominal, and known by the rule files: see `RuleBook.size`.

    Raises:
        ValueError: it is no such size, or no whole number of sixteenths.
    """
    said = text.strip()
    if found := _DASH.fullmatch(said):
        return _dash(int(found[1]) * SIXTEENTHS, SIXTEENTHS)
    if found := _WHOLE.fullmatch(said):
        return _dash(int(found[1]) * SIXTEENTHS, 1)
    found = _FRACTION.fullmatch(said)
    if found is None:
        raise ValueError("write a size as -12 or 3/4 in")
    whole, above, below = int(found[1] or 0), int(found[2]), int(found[3])
    if below == 0:
        raise ValueError("nothing is divided by 0")
    return _dash((whole * below + above) * SIXTEENTHS, below)


def _dash(above: int, below: int) -> int:
    if above % below:
        raise ValueError("a size is a whole number of sixteenths of an inch")
    dash = above // below
    if not 0 < dash <= DASH_MAX:
        raise ValueError(f"sizes go from -1 to -{DASH_MAX}")
    return dash


def inches(dash: int) -> str:
    """A size as inches are written: 3/4, 1 1/4, 2."""
    whole, rest = divmod(dash, SIXTEENTHS)
    below = SIXTEENTHS
    while rest and rest % 2 == 0:
        rest, below = rest // 2, below // 2
    said = [str(whole)] * bool(whole) + [f"{rest}/{below}"] * bool(rest)
    return " ".join(said)


def mm_of(dash: int) -> Decimal:
    """A size in mm, exactly: -12 is 19.05."""
    return INCH_MM * dash / SIXTEENTHS


# -- as it is shown --------------------------------------------------------------------


def shown_down(number: Decimal, places: str = "1") -> str:
    """What may be promised, never more than it is: 206.8 is 206."""
    return f"{number.quantize(Decimal(places), ROUND_FLOOR):f}"


def shown_up(number: Decimal, places: str = "1") -> str:
    """What is asked, never less than it is: 206.8 is 207."""
    return f"{number.quantize(Decimal(places), ROUND_CEILING):f}"
