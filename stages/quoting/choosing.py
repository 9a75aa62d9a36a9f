"""
Which parts an assembly is made of: the least that bears it, with each rule's reason.

A hose is chosen first, then each of its ends for that hose; none of the two ends knows
of the other.  What is told apart by nothing that was asked for, nor by what the house
prefers, is asked, and no part is taken by its number alone.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from stages.fitting.checker import Finding, Fits, Reason, check, part_rating
from stages.fitting.parts import Assembly, Duty, Part, assembled
from stages.fitting.rulebook import RuleBook, load
from stages.fitting.substitutes import substitutes
from stages.fitting.units import inches, shown_down
from stages.quoting.forms import PLACES, Chosen, Found, Line, Open, Why

AGAINST_MAX = 20
OTHERS_MAX = 5
JOINED = frozenset({frozenset({"hose", "end"})})


@dataclass(frozen=True, slots=True)
class Choice:
    """
    What came of choosing for one line: one of these.

    Attributes:
        open: What a person must say first.
        against: Why nothing can be quoted, and `instead` what would pass.
        unsure: An assembly of which no rule says everything.
    """

    chosen: Chosen | None = None
    open: tuple[Open, ...] = ()
    against: tuple[Why, ...] = ()
    instead: tuple[str, ...] = ()
    unsure: Chosen | None = None


def choose(
    lines: str, rules: str, prefer: Sequence[str], answers: dict[str, str]
) -> list[dict[str, Any]]:
    """
    The jailed side of `fitting`: a choice for each line, as JSON.

    Args:
        lines, rules: Paths of artifacts: pairs of `Line` and `Found`; the rule files.
        prefer: Materials and series, those that are taken first.
        answers: Part numbers, by the keys of questions.
    """
    book = load(json.loads(Path(rules).read_text(encoding="utf-8")))
    made = []
    for line, found in json.loads(Path(lines).read_text(encoding="utf-8")):
        choice = chosen_of(
            Line.model_validate(line),
            Found.model_validate(found),
            book,
            prefer,
            answers,
        )
        made.append(
            {
                "chosen": _dumped(choice.chosen),
                "unsure": _dumped(choice.unsure),
                "open": [one.model_dump(mode="json") for one in choice.open],
                "against": [one.model_dump(mode="json") for one in choice.against],
                "instead": list(choice.instead),
            }
        )
    return made


def _dumped(chosen: Chosen | None) -> dict[str, Any] | None:
    return None if chosen is None else chosen.model_dump(mode="json")


def chosen_of(
    line: Line,
    found: Found,
    rules: RuleBook,
    prefer: Sequence[str],
    answers: Mapping[str, str],
) -> Choice:
    """What is chosen for one line, of the parts that the ERP has for it."""
    duty = Duty(line.medium, line.celsius, line.bar)
    for place in PLACES:
        if not found.parts.get(place):
            why = Why(
                rule="the ERP", parts=(place,), fits="no", why="it has no such part"
            )
            return Choice(against=(why,))
    if len(found.named) == len(PLACES):
        return _as_named(line, found, duty, rules)
    pools = {place: _pool(place, found, line, answers) for place in PLACES}
    tried: list[Finding] = []
    hoses = _passing_hoses(pools, duty, rules, {Fits.YES}, tried)
    if not hoses:
        return _nothing(line, pools, duty, rules, tried)
    ranked = sorted(hoses, key=lambda one: _hose_rank(one[0], duty, rules, prefer))
    same = _told_apart_by_nothing(
        [hose for hose, _ in ranked], lambda p: _hose_rank(p, duty, rules, prefer)
    )
    if len(same) > 1:
        return Choice(open=(_which(line, "hose", same),))
    hose, ends = ranked[0]
    parts, others, open_ = {"hose": hose}, {}, []
    if also := [one for one, _ in ranked[1:]]:
        others["hose"] = tuple(map(apart, also[:OTHERS_MAX]))
    for place in PLACES[1:]:
        order = sorted(ends[place], key=lambda part: _end_rank(part, prefer))
        same = _told_apart_by_nothing(order, lambda part: _end_rank(part, prefer))
        if len(same) > 1:
            open_.append(_which(line, place, same))
        parts[place] = order[0]
        if order[1:]:
            others[place] = tuple(map(apart, order[1 : 1 + OTHERS_MAX]))
    if open_:
        return Choice(open=tuple(open_))
    return Choice(chosen=_made(line, parts, duty, rules, others))


def _pool(
    place: str, found: Found, line: Line, answers: Mapping[str, str]
) -> tuple[Part, ...]:
    """What may stand at a place: what was named or answered, else all there is."""
    said = answers.get(f"{line.number}.{place}", "").partition(":")[0].strip()
    named = found.named.get(place) or said
    own = tuple(part for part in found.parts[place] if part.number == named)
    return own or tuple(found.parts[place])


def _passing_hoses(
    pools: Mapping[str, tuple[Part, ...]],
    duty: Duty,
    rules: RuleBook,
    good: Collection[Fits],
    tried: list[Finding],
) -> list[tuple[Part, dict[str, list[Part]]]]:
    """Hoses of which the rules say this, each with the ends that are as good on it."""
    passing = []
    for hose in pools["hose"]:
        alone = check(Assembly({"hose": hose}), duty, rules)
        if alone.fits not in good:
            tried.append(alone)
            continue
        ends: dict[str, list[Part]] = {}
        for place in PLACES[1:]:
            ends[place] = []
            for end in pools[place]:
                on_it = check(Assembly({"hose": hose, "end": end}, JOINED), duty, rules)
                if on_it.fits in good:
                    ends[place].append(end)
                else:
                    tried.append(on_it)
        if all(ends.values()):
            passing.append((hose, ends))
    return passing


def _as_named(line: Line, found: Found, duty: Duty, rules: RuleBook) -> Choice:
    """The buyer named all three: they pass as they are, or nothing is taken instead."""
    parts = {
        place: next(p for p in found.parts[place] if p.number == found.named[place])
        for place in PLACES
    }
    made = assembled(*(parts[place] for place in PLACES))
    finding = check(made, duty, rules)
    if finding.fits is Fits.YES:
        return Choice(chosen=_made(line, parts, duty, rules, {}))
    if finding.fits is Fits.UNKNOWN:
        return Choice(unsure=_made(line, parts, duty, rules, {}))
    catalogue = list({p.number: p for ps in found.parts.values() for p in ps}.values())
    instead = [
        ", ".join(apart(one.assembly.parts[place]) for place in one.changed)
        for one in substitutes(made, duty, catalogue, rules)
    ]
    return Choice(against=_whys(finding.against()), instead=tuple(instead))


def _nothing(
    line: Line,
    pools: Mapping[str, tuple[Part, ...]],
    duty: Duty,
    rules: RuleBook,
    tried: Sequence[Finding],
) -> Choice:
    """Nothing passes: a person sees what no rule forbids, and nobody what one does."""
    unsure = _passing_hoses(pools, duty, rules, {Fits.YES, Fits.UNKNOWN}, [])
    if unsure:
        hose, ends = unsure[0]
        parts = {"hose": hose} | {place: some[0] for place, some in ends.items()}
        return Choice(unsure=_made(line, parts, duty, rules, {}))
    # First what came furthest: it is refused for one thing, and others for several.
    nearest = sorted(tried, key=lambda one: len(one.against()))
    reasons = [reason for finding in nearest for reason in finding.against()]
    once: dict[tuple[str, str], Reason] = {}
    for reason in reasons:
        once.setdefault((reason.rule, reason.why), reason)
    return Choice(against=_whys(list(once.values())[:AGAINST_MAX]))


def _made(
    line: Line,
    parts: Mapping[str, Part],
    duty: Duty,
    rules: RuleBook,
    others: Mapping[str, tuple[str, ...]],
) -> Chosen:
    finding = check(assembled(*(parts[place] for place in PLACES)), duty, rules)
    named = set(line.named)
    assumed = [
        f"{place}: {part.title}"
        for place, part in parts.items()
        if others.get(place) and part.number not in named
    ]
    return Chosen(
        line=line.number,
        parts=dict(parts),
        bar=finding.bar,
        reasons=_whys(finding.reasons),
        others=dict(others),
        assumed=tuple(assumed),
    )


def _whys(reasons: Iterable[Reason]) -> tuple[Why, ...]:
    return tuple(
        Why(rule=r.rule, parts=r.parts, fits=str(r.fits), why=r.why, at=r.at)
        for r in reasons
    )


# -- which is taken, and what tells parts apart ----------------------------------------


def _hose_rank(
    hose: Part, duty: Duty, rules: RuleBook, prefer: Sequence[str]
) -> tuple[Any, ...]:
    """The least that bears it first: it is lighter, bends tighter and costs less."""
    bar = part_rating(hose, duty.celsius, rules) or Decimal(0)
    return bar, _preferred(hose, prefer)


def _end_rank(end: Part, prefer: Sequence[str]) -> tuple[int, ...]:
    return _preferred(end, prefer)


def _preferred(part: Part, prefer: Sequence[str]) -> tuple[int, ...]:
    """Places in the house's list, of what the part is made of and its series."""
    last = len(prefer)
    names = (*part.materials, part.series or part.standard)
    return tuple(
        sorted(prefer.index(name) if name in prefer else last for name in names)
    )


def _told_apart_by_nothing(order: Sequence[Part], rank: Any) -> list[Part]:
    return [part for part in order if rank(part) == rank(order[0])]


def _which(line: Line, place: str, same: Sequence[Part]) -> Open:
    choices = tuple(apart(part) for part in same)
    return Open(
        about=place,
        line=line.number,
        why=f"{len(same)} parts do; which is meant?",
        choices=choices,
    )


def apart(part: Part) -> str:
    """A part in a line, with what tells it from others: `HOS-123456: 2SN, NBR, 3/4`."""
    said = [part.standard or f"series {part.series}", *part.materials]
    if part.size:
        said.append(f"{inches(part.size)} in")
    said += [f"{end.thread} {end.gender} {inches(end.size)} in" for end in part.ends]
    if part.bar is not None:
        said.append(f"at most {shown_down(part.bar)} bar")
    return f"{part.number}: {', '.join(said)}"
