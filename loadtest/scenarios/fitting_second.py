"""
What fits together, a second time: an implementation that shares nothing with the first.

Tables are written here by hand, in whole numbers; neither the rule files nor
`stages/fitting` is looked at.  Whoever changes a rule changes it here as well, and is
asked to think twice.
"""

from __future__ import annotations

from typing import Any, NamedTuple

ALL = (4, 5, 6, 8, 10, 12, 16, 20, 24, 32)
NO_5 = (4, 6, 8, 10, 12, 16, 20, 24, 32)
PIPE = (4, 6, 8, 12, 16, 20, 24, 32)


def _by(sizes: tuple[int, ...], bars: str) -> dict[int, int]:
    return dict(zip(sizes, map(int, bars.split()), strict=True))


HOSE_BAR = {
    "1SN": _by(ALL, "225 215 180 160 130 105 88 63 50 40"),
    "2SN": _by(ALL, "400 350 330 275 250 215 165 125 90 80"),
    "2SC": _by(ALL[:7], "400 350 330 275 250 215 165"),
    "4SP": _by(NO_5, "450 445 415 350 350 280 210 185 165"),
    "4SH": _by(ALL[5:], "420 380 325 290 250"),
}
HOSE_BEND = {
    "1SN": _by(ALL, "100 115 130 180 200 240 300 420 500 630"),
    "2SN": _by(ALL, "100 115 130 180 200 240 300 420 500 630"),
    "2SC": _by(ALL[:7], "75 85 90 130 170 200 250"),
    "4SP": _by(NO_5, "150 180 230 250 300 340 460 560 660"),
    "4SH": _by(ALL[5:], "280 340 460 560 700"),
}
END_BAR = {
    "jic": _by(ALL, "350 350 350 310 240 240 210 170 140 105"),
    "sae45": _by(ALL[:6], "190 165 140 125 90 75"),
    "npt": _by(PIPE, "345 275 240 210 170 125 100 70"),
    "bspt": _by(PIPE, "345 275 240 210 170 125 100 70"),
    "bspp": _by(NO_5, "350 350 315 275 250 200 160 125 80"),
    "orfs": _by(NO_5[:8], "630 630 630 420 420 420 280 280"),
}
# Coldest, and what is left, in thousandths, up to each temperature.
HEAT: dict[str, tuple[int, list[tuple[int, int]]]] = {
    "NBR": (-40, [(100, 1000)]),
    "HNBR": (-30, [(100, 1000), (120, 900), (135, 800), (150, 650)]),
    "EPDM": (-40, [(100, 1000), (120, 800)]),
    "FKM": (-20, [(200, 1000)]),
    "steel": (-40, [(120, 1000)]),
    "stainless": (-60, [(20, 1000), (50, 955), (100, 890), (200, 800)]),
}
HOTTEST = {
    "mineral oil": 150,
    "water glycol": 60,
    "phosphate ester": 150,
    "synthetic ester": 100,
    "water": 70,
}
# y: not attacked, n: attacked, ?: not tried.
ATTACKS = {
    "mineral oil": "NBR y HNBR y FKM y steel y stainless y EPDM n",
    "water glycol": "NBR y HNBR y EPDM y stainless y FKM ? steel ?",
    "phosphate ester": "EPDM y steel y stainless y NBR n HNBR n FKM ?",
    "synthetic ester": "HNBR y FKM y steel y stainless y EPDM n NBR ?",
    "water": "NBR y HNBR y EPDM y stainless y steel n FKM ?",
}
PRESSED = {
    "B": {"1SN": "y", "2SN": "y", "2SC": "y", "4SP": "n", "4SH": "n"},
    "S": {"4SP": "y", "4SH": "y", "1SN": "n", "2SN": "?", "2SC": "?"},
}


class Asked(NamedTuple):
    """A condition: °C, bar and mm are whole numbers; a bend of 0 is none."""

    medium: str
    celsius: int
    bar: int
    bend: int = 0


def verdict(one: dict[str, Any], other: dict[str, Any], asked: Asked) -> str:
    """`y`, `n` or `?` of two joined parts of the catalogue."""
    signs = [*alone(one, asked), *alone(other, asked), joint(one, other)]
    return "n" if "n" in signs else "?" if "?" in signs else "y"


def alone(part: dict[str, Any], asked: Asked) -> list[str]:
    """A sign for everything that a part must bear by itself."""
    signs = []
    left = 1000
    for material in part["materials"]:
        coldest, steps = HEAT[material]
        shares = [share for to, share in steps if asked.celsius <= to] or [0]
        left = min(left, shares[0])
        signs.append("y" if coldest <= asked.celsius and shares[0] else "n")
        words = ATTACKS[asked.medium].split()
        signs.append(words[words.index(material) + 1])
    if part["kind"] == "hose":
        bar = HOSE_BAR[part["standard"]][part["size"]]
        least = HOSE_BEND[part["standard"]][part["size"]]
        signs.append("n" if 0 < asked.bend < least else "y")
    else:
        bar = min(END_BAR[end["thread"]][end["size"]] for end in part["ends"])
    signs.append("y" if asked.bar * 1000 <= bar * left else "n")
    signs.append("y" if asked.celsius <= HOTTEST[asked.medium] else "n")
    return signs


def joint(one: dict[str, Any], other: dict[str, Any]) -> str:
    """Pressed together, screwed together, or not to be joined at all."""
    kinds = {one["kind"]: one, other["kind"]: other}
    if one["kind"] == other["kind"] == "hose":
        return "n"
    if len(kinds) == 2:
        hose, end = kinds["hose"], kinds["fitting"]
        if hose["size"] != end["size"]:
            return "n"
        return PRESSED[end["series"]][hose["standard"]]
    signs = [screwed(a, b) for a in one["ends"] for b in other["ends"]]
    return next((sign for sign in "y?n" if sign in signs), "?")


def screwed(one: dict[str, Any], other: dict[str, Any]) -> str:
    """Male into female of one thread and size; taper into parallel: who knows."""
    said = {(end["thread"], end["gender"]) for end in (one, other)}
    if said == {("bspt", "male"), ("bspp", "female")}:
        return "?"
    same = one["thread"] == other["thread"] and one["size"] == other["size"]
    return "y" if same and one["gender"] != other["gender"] else "n"
