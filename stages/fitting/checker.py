"""
Whether parts fit together and bear what is asked of them, with the reason of each rule.

A part bears what its standard allows at its size, less what heat takes; an assembly
bears what the least of its parts does.  Whatever no rule speaks of is `unknown`: then
there is no rating, and a person must look.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from stages.fitting.parts import Assembly, Duty, End, Part
from stages.fitting.rulebook import RuleBook, Said, said_of
from stages.fitting.units import inches, shown_down, shown_up


class Fits(StrEnum):
    """What is said of an assembly, and of each rule; the worst of several counts."""

    YES = "yes"
    UNKNOWN = "unknown"
    NO = "no"


RANK = {Fits.NO: 0, Fits.UNKNOWN: 1, Fits.YES: 2}
OF_SAID: dict[Said, Fits] = {
    "good": Fits.YES,
    "never": Fits.NO,
    "unknown": Fits.UNKNOWN,
}


@dataclass(frozen=True, slots=True)
class Reason:
    """
    What one rule says of one part, or of two that are joined.

    Attributes:
        rule: Kind and name, such as `hose 2SN`.
        at: File and line of the rule; "" where there is none to point at.
        parts: Places and numbers, such as `hose H-2SN-12`.
    """

    rule: str
    parts: tuple[str, ...]
    fits: Fits
    why: str
    at: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """
    What is known of an assembly.

    Attributes:
        bar: What it bears under these conditions, the least of its parts; None where a
            part's is not known.  0: it bears nothing when so hot.
        reasons: All of them, worst first, then by rule and part.
    """

    fits: Fits
    bar: Decimal | None
    reasons: tuple[Reason, ...]

    def against(self) -> tuple[Reason, ...]:
        """The reasons that speak against it, or leave it open."""
        return tuple(one for one in self.reasons if one.fits is not Fits.YES)


def check(assembly: Assembly, duty: Duty, rules: RuleBook) -> Finding:
    """
    Look at every part alone, at every joint, and at the whole.

    The order of the parts and of the joints changes nothing.
    """
    reasons: list[Reason] = []
    for place, part in assembly.parts.items():
        reasons += part_reasons(place, part, duty, rules)
    for joint in assembly.joints:
        reasons += joint_reasons(sorted(joint), assembly, rules)
    bar = rating(assembly.parts.values(), duty.celsius, rules)
    reasons.append(_pressure(assembly, duty, rules))
    reasons.sort(key=_worst_first)
    worst = min((one.fits for one in reasons), key=RANK.__getitem__)
    return Finding(worst, bar, tuple(reasons))


def _worst_first(one: Reason) -> tuple[object, ...]:
    return RANK[one.fits], one.rule, one.parts, one.why


# -- pressure --------------------------------------------------------------------------


def rating(
    parts: Iterable[Part], celsius: Decimal | None, rules: RuleBook
) -> Decimal | None:
    """
    What parts bear together, in bar: the least; None where one's is not known.

    Args:
        celsius: Not known: then there is no rating either.
    """
    each = [part_rating(part, celsius, rules) for part in parts]
    known = [bar for bar in each if bar is not None]
    return min(known) if known and len(known) == len(each) else None


def part_rating(part: Part, celsius: Decimal | None, rules: RuleBook) -> Decimal | None:
    """What one part bears so hot, in bar; None where a rule is missing."""
    allowed = list(_allowed(part, rules))
    materials = [rules.materials.get(name) for name in part.materials]
    if celsius is None or None in allowed or None in materials:
        return None
    bars = [bar for bar in allowed if bar is not None]
    shares = [one.share(celsius) for one in materials if one is not None]
    if not bars or not shares:
        return None
    return min(bars) * min(shares)


def _allowed(part: Part, rules: RuleBook) -> Iterator[Decimal | None]:
    """What the standards of a part, and its maker, allow when it is cold."""
    if part.bar is not None:
        yield part.bar
    if part.kind == "hose":
        hose = rules.hoses.get(part.standard)
        row = hose.at(part.size) if hose else None
        yield row.pressure if row else None
    elif not part.ends:
        yield None
    for end in part.ends:
        thread = rules.threads.get(end.thread)
        row = thread.at(end.size) if thread else None
        yield row.pressure if row else None


def _pressure(assembly: Assembly, duty: Duty, rules: RuleBook) -> Reason:
    """What the assembly bears against what is asked of it, and which part limits it."""
    rule = "pressure of the assembly"
    named = {place: _named(place, part) for place, part in assembly.parts.items()}
    bars = {
        place: part_rating(part, duty.celsius, rules)
        for place, part in assembly.parts.items()
    }
    open_ = sorted(named[place] for place, bar in bars.items() if bar is None)
    if open_ or not bars:
        return Reason(rule, tuple(open_), Fits.UNKNOWN, "not every part has a rating")
    least = min(bar for bar in bars.values() if bar is not None)
    weakest = tuple(sorted(named[place] for place, bar in bars.items() if bar == least))
    bears = f"it bears {shown_down(least)} bar"
    if duty.bar is None:
        return Reason(rule, weakest, Fits.UNKNOWN, f"{bears}; no pressure is asked")
    fits = Fits.YES if duty.bar <= least else Fits.NO
    why = f"{bears}, {shown_up(duty.bar)} bar are asked"
    return Reason(rule, weakest, fits, why)


def _named(place: str, part: Part) -> str:
    return f"{place} {part.number}"


# -- one part --------------------------------------------------------------------------


def part_reasons(
    place: str, part: Part, duty: Duty, rules: RuleBook
) -> Iterator[Reason]:
    """Of a part alone: its rating, its materials in this medium and heat, its bend."""
    name = (_named(place, part),)
    yield from _rated(name, part, rules)
    if not part.materials:
        yield Reason("material", name, Fits.UNKNOWN, "nothing is said of its material")
    for material in part.materials:
        yield _heat(name, material, duty, rules)
        yield _medium(name, material, duty, rules)
    if part.kind == "hose":
        yield from _bend(name, part, duty, rules)


def _rated(name: tuple[str, ...], part: Part, rules: RuleBook) -> Iterator[Reason]:
    """A reason for each thing by which a part is rated."""
    if part.kind == "hose":
        yield _row("hose", name, part.standard, part.size, rules)
    elif not part.ends:
        yield Reason("thread", name, Fits.UNKNOWN, "nothing is said of its thread")
    for end in part.ends:
        yield _row("thread", name, end.thread, end.size, rules)


def _row(
    kind: str, name: tuple[str, ...], called: str, size: int, rules: RuleBook
) -> Reason:
    rule, at = f"{kind} {called}", rules.where.get((kind, called), "")
    known = rules.hoses if kind == "hose" else rules.threads
    sized = known.get(called)
    row = sized.at(size) if sized else None
    if sized is None:
        return Reason(rule, name, Fits.UNKNOWN, f"no rule speaks of this {kind}")
    if row is None:
        why = f"it rates no size -{size}"
        return Reason(rule, name, Fits.UNKNOWN, why, at)
    why = f"{sized.source}: {shown_down(row.pressure)} bar at {inches(size)} in"
    return Reason(rule, name, Fits.YES, why, at)


def _heat(name: tuple[str, ...], material: str, duty: Duty, rules: RuleBook) -> Reason:
    rule, at = f"heat of {material}", rules.where.get(("material", material), "")
    known = rules.materials.get(material)
    if known is None:
        return Reason(rule, name, Fits.UNKNOWN, "no rule speaks of this material")
    if duty.celsius is None:
        return Reason(rule, name, Fits.UNKNOWN, "nobody said how hot it becomes", at)
    limits = f"from {known.low:f} to {known.high:f} °C"
    if duty.celsius > known.high:
        why = f"{known.title} is good {limits}, not at {shown_up(duty.celsius)} °C"
        return Reason(rule, name, Fits.NO, why, at)
    coldest = duty.celsius if duty.coldest is None else min(duty.coldest, duty.celsius)
    if coldest < known.low:
        why = f"{known.title} is good {limits}, not at {shown_down(coldest)} °C"
        return Reason(rule, name, Fits.NO, why, at)
    share = known.share(duty.celsius)
    left = (
        "" if share == 1 else f", with {(share * 100).normalize():f} % of its pressure"
    )
    return Reason(rule, name, Fits.YES, f"{known.title}: {limits}{left}", at)


def _medium(
    name: tuple[str, ...], material: str, duty: Duty, rules: RuleBook
) -> Reason:
    rule = f"{duty.medium or 'medium'} with {material}"
    medium = rules.media.get(duty.medium or "")
    if medium is None:
        why = "no rule speaks of this medium" if duty.medium else "nobody said of what"
        return Reason(rule, name, Fits.UNKNOWN, why)
    at = rules.where.get(("medium", medium.name), "")
    if duty.celsius is not None and duty.celsius > medium.high:
        why = f"{medium.title} is used up to {medium.high:f} °C"
        return Reason(rule, name, Fits.NO, why, at)
    fits = OF_SAID[said_of(medium, material)]
    why = f"{medium.title} {WORDS[fits]} {material}"
    return Reason(rule, name, fits, why, at)


WORDS = {
    Fits.YES: "does not attack",
    Fits.NO: "attacks",
    Fits.UNKNOWN: "was not tried with",
}


def _bend(
    name: tuple[str, ...], part: Part, duty: Duty, rules: RuleBook
) -> Iterator[Reason]:
    hose = rules.hoses.get(part.standard)
    row = hose.at(part.size) if hose else None
    if hose is None or row is None or row.bend is None:
        return  # said of its rating
    at = rules.where.get(("hose", part.standard), "")
    least = f"bends to {shown_up(row.bend)} mm and no tighter"
    if duty.bend_mm is None:
        yield Reason("bend", name, Fits.YES, f"{least}; no bend is asked", at)
    elif duty.bend_mm < row.bend:
        why = f"{least}, {shown_down(duty.bend_mm)} mm are asked"
        yield Reason("bend", name, Fits.NO, why, at)
    else:
        yield Reason("bend", name, Fits.YES, least, at)


# -- joints ----------------------------------------------------------------------------


def joint_reasons(
    places: list[str], assembly: Assembly, rules: RuleBook
) -> Iterator[Reason]:
    """Of two parts that are joined: pressed together, or screwed."""
    one, other = (assembly.parts[place] for place in places)
    names = (_named(places[0], one), _named(places[1], other))
    kinds = {one.kind, other.kind}
    if kinds == {"hose", "fitting"}:
        hose, fitting = (one, other) if one.kind == "hose" else (other, one)
        yield _bore(names, hose, fitting)
        yield _crimped(names, hose, fitting, rules)
    elif "hose" in kinds:
        yield Reason("joint", names, Fits.NO, "a hose is joined to a fitting alone")
    else:
        yield _screwed(names, one, other, rules)


def _bore(names: tuple[str, ...], hose: Part, fitting: Part) -> Reason:
    sizes = f"hose {inches(hose.size)} in, fitting for {inches(fitting.size)} in"
    fits = Fits.YES if hose.size == fitting.size else Fits.NO
    return Reason("bore", names, fits, sizes)


def _crimped(
    names: tuple[str, ...], hose: Part, fitting: Part, rules: RuleBook
) -> Reason:
    rule = f"crimp {fitting.series} on {hose.standard}"
    crimp = rules.crimps.get(fitting.series)
    if crimp is None:
        return Reason(rule, names, Fits.UNKNOWN, "no rule speaks of this series")
    fits = OF_SAID[said_of(crimp, hose.standard)]
    words = {
        Fits.YES: "is pressed on",
        Fits.NO: "is never pressed on",
        Fits.UNKNOWN: "was not tried on",
    }
    why = f"{crimp.title} {words[fits]} {hose.standard}"
    return Reason(rule, names, fits, why, rules.where.get(("crimp", crimp.name), ""))


def _screwed(names: tuple[str, ...], one: Part, other: Part, rules: RuleBook) -> Reason:
    """The best of what the ends of two parts can do with each other."""
    found = [
        mated(first, second, names, rules)
        for first in one.ends
        for second in other.ends
    ]
    none = Reason("mating", names, Fits.UNKNOWN, "nothing is said of their ends")
    return max(found, key=_worst_first, default=none)


def mated(one: End, other: End, names: tuple[str, ...], rules: RuleBook) -> Reason:
    """Whether two ends are screwed together: thread, seat, gender and size."""
    first, second = sorted((one, other), key=lambda end: (end.thread, end.gender))
    said = [f"{end.thread} {end.gender}" for end in (first, second)]
    rule = f"mating {said[0]} with {said[1]}"
    of = rules.mating_of(said[0], said[1])
    if of is None:
        return Reason(rule, names, Fits.UNKNOWN, "no rule speaks of these ends")
    fits = OF_SAID[of.says(*said)]
    at = rules.where.get(("mating", of.end), "")
    if fits is Fits.YES and one.size != other.size:
        sizes = " and ".join(f"{inches(end.size)} in" for end in (first, second))
        return Reason(rule, names, Fits.NO, f"two sizes, {sizes}", at)
    return Reason(rule, names, fits, of.why, at)
