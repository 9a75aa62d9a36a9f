"""
A distributor's catalogue, made in code from a seed: hoses and fittings, with prices.

600 parts of our own; numbers are drawn, so that none can be guessed from its part, and
none is a maker's.  What stands here are facts of a warehouse and a price book.  What
fits together is nothing that it knows.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import Any

SEED = 14
PARTS = 600
CENT = Decimal("0.01")
SIZES = (4, 5, 6, 8, 10, 12, 16, 20, 24, 32)
INCHES = ("1/4", "5/16", "3/8", "1/2", "5/8", "3/4", "1", "1 1/4", "1 1/2", "2")
# Bores and tubes of a kind of hose, and euros a metre at -4.
HOSES: dict[str, tuple[tuple[int, ...], tuple[str, ...], str]] = {
    "1SN": (SIZES, ("NBR", "EPDM"), "3.10"),
    "2SN": (SIZES, ("NBR", "HNBR", "EPDM"), "4.40"),
    "2SC": (SIZES[:7], ("NBR", "HNBR"), "4.90"),
    "4SP": ((4, *SIZES[2:]), ("NBR", "HNBR"), "8.20"),
    "4SH": (SIZES[5:], ("NBR", "HNBR"), "9.60"),
}
# Ends of a thread: sizes, genders, seals, and euros at -4.
THREADS: dict[str, tuple[tuple[int, ...], tuple[str, ...], str, str]] = {
    "jic": (SIZES, ("female", "male"), "", "3.80"),
    "bspp": ((4, *SIZES[2:]), ("female", "male"), "", "3.60"),
    "npt": ((4, 6, 8, 12, 16, 20, 24, 32), ("male", "female"), "", "3.20"),
    "orfs": ((4, *SIZES[2:9]), ("female", "male"), "NBR FKM", "5.90"),
    "bspt": ((4, 6, 8, 12, 16, 20, 24, 32), ("male",), "", "3.30"),
    "sae45": (SIZES[:6], ("female",), "", "3.40"),
}
SWIVELS = {"jic", "bspp", "orfs", "sae45"}
SERIES = {"B": Decimal(1), "S": Decimal("1.45")}
METALS = {"steel": Decimal(1), "stainless": Decimal("3.20")}
TIERS = {"list": Decimal(1), "trade": Decimal("0.85"), "key": Decimal("0.72")}
REGIONS = {
    "EU": ("EUR", Decimal(1)),
    "UK": ("GBP", Decimal("0.88")),
    "US": ("USD", Decimal("1.12")),
}
BREAKS = (
    *((1, Decimal(1)), (10, Decimal("0.96"))),
    *((50, Decimal("0.92")), (200, Decimal("0.86"))),
)


@dataclass(frozen=True, slots=True)
class Ware:
    """
    A line of the catalogue.

    Attributes:
        part: What it is, as JSON has it: `number`, `kind`, `title`, `size` and so on.
        unit: "m" or "piece": what the price and the stock are of.
        euros: The list price.
        stock: In the warehouse of each region.
    """

    part: dict[str, Any]
    unit: str
    euros: Decimal
    stock: dict[str, int]

    def price(self, region: str, tier: str, count: int) -> Decimal:
        """
        For one unit, in the region's currency, rounded half up to the cent.

        Raises:
            KeyError: there is no such region or tier.
        """
        _, rate = REGIONS[region]
        share = max(at for at in BREAKS if at[0] <= count)[1]
        price = self.euros * rate * TIERS[tier] * share
        return price.quantize(CENT, ROUND_HALF_UP)


@lru_cache(maxsize=4)
def catalogue(seed: int = SEED) -> dict[str, Ware]:
    """The parts by their numbers; the same seed makes the same."""
    dice = random.Random(seed)
    all_of_them = list(_made())
    sure = [one for one in all_of_them if not _is_odd(one[0])]
    odd = [one for one in all_of_them if _is_odd(one[0])]
    chosen = sure + dice.sample(odd, PARTS - len(sure))
    numbers = dice.sample(range(100_000, 1_000_000), PARTS)
    wares: dict[str, Ware] = {}
    for (part, euros), drawn in zip(chosen, numbers, strict=True):
        head = "HOS" if part["kind"] == "hose" else "FIT"
        number = f"{head}-{drawn}"
        stock = {region: dice.choice((0, 4, 25, 120, 800)) for region in REGIONS}
        unit = "m" if part["kind"] == "hose" else "piece"
        price = (euros * Decimal(dice.randint(95, 105)) / 100).quantize(CENT)
        wares[number] = Ware({"number": number, **part}, unit, price, stock)
    return wares


def _is_odd(part: dict[str, Any]) -> bool:
    """A fitting whose end is larger than its hose; there are some of these."""
    return any(end["size"] != part["size"] for end in part.get("ends", ()))


def _made() -> Iterator[tuple[dict[str, Any], Decimal]]:
    """All that could be made, each with what it costs."""
    for standard, (sizes, tubes, euros) in HOSES.items():
        for tube in tubes:
            for size in sizes:
                title = f"Hose {standard}, {tube}, {INCHES[SIZES.index(size)]} in"
                part = {"kind": "hose", "title": title, "size": size}
                part |= {"standard": standard, "materials": [tube]}
                dearer = Decimal("1.3") if tube == "HNBR" else Decimal(1)
                yield part, _by_size(euros, size) * dearer
    for thread, (sizes, genders, seals, euros) in THREADS.items():
        for gender in genders:
            for size in sizes:
                for more in (0, 1):  # the end may be a size larger than the hose
                    at = SIZES.index(size) - more
                    if at >= 0:
                        end = {"thread": thread, "size": size, "gender": gender}
                        end |= {"swivel": thread in SWIVELS and gender == "female"}
                        yield from _fittings(SIZES[at], end, seals, euros)


def _fittings(
    bore: int, end: dict[str, Any], seals: str, euros: str
) -> Iterator[tuple[dict[str, Any], Decimal]]:
    for series, dearer in SERIES.items():
        for metal, rate in METALS.items():
            for seal in seals.split() or [""]:
                swivel = " swivel" * end["swivel"]
                sized = INCHES[SIZES.index(end["size"])]
                title = f"Fitting {series}, hose {INCHES[SIZES.index(bore)]} in, "
                title += f"{end['thread'].upper()} {end['gender']}{swivel} {sized} in"
                title += f", {metal}"
                title += f", {seal} seal" * bool(seal)
                part = {"kind": "fitting", "title": title, "size": bore}
                part |= {"series": series, "ends": [end]}
                part |= {"materials": [metal, *[seal] * bool(seal)]}
                yield part, _by_size(euros, end["size"]) * dearer * rate


def _by_size(euros: str, size: int) -> Decimal:
    return Decimal(euros) * (Decimal(size) / 4 + 1) / 2
