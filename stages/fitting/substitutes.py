"""Parts of a catalogue that may stand in for those that do not fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from stages.fitting.checker import Finding, Fits, check, joint_reasons
from stages.fitting.parts import Assembly, Duty, Part
from stages.fitting.rulebook import RuleBook

CHOICES_MAX = 200  # of a place, after those that do not bear it alone are left out
TRIED_MAX = 20_000  # assemblies looked at, most of them at their joints alone


@dataclass(frozen=True, slots=True)
class Substitute:
    """An assembly that passes, and the places that were filled anew."""

    assembly: Assembly
    changed: tuple[str, ...]
    finding: Finding


def substitutes(
    assembly: Assembly,
    duty: Duty,
    catalogue: Sequence[Part],
    rules: RuleBook,
    most: int = 3,
) -> list[Substitute]:
    """
    Assemblies that do what this one was meant to do, and pass.

    A hose stands in for a hose of its bore, and a fitting for one with the same ends
    for that bore.  Fewest parts are changed; then the one that bears least is taken,
    for it costs least; then the first by number.

    Args:
        most: At most so many.

    Returns:
        None of them is unknown; [] where the catalogue has nothing that passes.
    """
    places = sorted(assembly.parts)
    choices = [
        list(_choices(place, assembly, duty, catalogue, rules)) for place in places
    ]
    found: list[Substitute] = []
    for number, chosen in enumerate(product(*choices)):
        if number >= TRIED_MAX:
            break
        parts = dict(zip(places, chosen, strict=True))
        tried = Assembly(parts, assembly.joints)
        if not _joined(tried, rules):
            continue
        finding = check(tried, duty, rules)
        if finding.fits is Fits.YES:
            changed = tuple(p for p in places if parts[p] != assembly.parts[p])
            found.append(Substitute(tried, changed, finding))
    return sorted(found, key=lambda one: _rank(one, places))[:most]


def _rank(one: Substitute, places: Sequence[str]) -> tuple[object, ...]:
    numbers = [one.assembly.parts[place].number for place in places]
    return (len(one.changed), one.finding.bar, numbers)


def _choices(
    place: str,
    assembly: Assembly,
    duty: Duty,
    catalogue: Sequence[Part],
    rules: RuleBook,
) -> Iterator[Part]:
    """What may stand at a place, itself first: what bears it alone."""
    own = assembly.parts[place]
    others = sorted(
        (part for part in catalogue if part != own and _same(part, own)),
        key=lambda part: part.number,
    )
    bears = [part for part in (own, *others) if _bears(place, part, duty, rules)]
    yield from bears[:CHOICES_MAX]


def _same(part: Part, own: Part) -> bool:
    return (part.kind, part.size, part.ends) == (own.kind, own.size, own.ends)


def _bears(place: str, part: Part, duty: Duty, rules: RuleBook) -> bool:
    alone = check(Assembly({place: part}), duty, rules)
    return alone.fits is Fits.YES


def _joined(assembly: Assembly, rules: RuleBook) -> bool:
    """The quick half of `check`: most combinations fail at a joint."""
    return all(
        reason.fits is Fits.YES
        for joint in assembly.joints
        for reason in joint_reasons(sorted(joint), assembly, rules)
    )
