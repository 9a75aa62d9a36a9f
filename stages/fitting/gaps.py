"""
What is wrong between rules: sizes left out, shares that rise, names of nothing, pairs
that nobody speaks of, and pairs of which two rules say two things.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations_with_replacement
from typing import Any

# A rule by kind and name, the keys of the line at fault, and what is wrong there.
Fault = tuple[str, str, Sequence[str | int], str]
Tables = Mapping[str, Mapping[str, Any]]
ANSWERS = ("good", "never", "unknown")


def faults_between(tables: Tables) -> Iterator[Fault]:
    """Everything that one file alone cannot show, in the order of the kinds."""
    yield from _sizes(tables)
    for kind in ("thread", "hose"):
        for name, one in tables[kind].items():
            for keys, said in _rated(one, tables, kind == "hose"):
                yield kind, name, keys, said
    for name, one in tables["material"].items():
        for keys, said in _derated(one):
            yield "material", name, keys, said
    for name, one in tables["medium"].items():
        for keys, said in _answers(one, set(tables["material"]), "material"):
            yield "medium", name, keys, said
    for name, one in tables["crimp"].items():
        for keys, said in _answers(one, set(tables["hose"]), "hose"):
            yield "crimp", name, keys, said
    yield from _matings(tables)


def _sizes(tables: Tables) -> Iterator[Fault]:
    seen: dict[int, str] = {}
    for name, one in tables["size"].items():
        first = seen.setdefault(one.dn, name)
        if first != name:
            yield "size", name, ("dn",), f"DN {one.dn} is size {first} already"


def _rated(
    one: Any, tables: Tables, bent: bool
) -> Iterator[tuple[Sequence[str | int], str]]:
    """Rows of ratings: each size once, in order, and none of those between left out."""
    known = sorted(size.size for size in tables["size"].values())
    sizes = [row.size for row in one.ratings]
    for at, row in enumerate(one.ratings):
        keys = ("ratings", at)
        if row.size not in known:
            yield keys, f"there is no size -{row.size}"
        elif row.size in sizes[:at]:
            yield keys, f"size -{row.size} is rated twice"
        elif at and row.size < sizes[at - 1]:
            yield keys, f"size -{row.size} stands after -{sizes[at - 1]}"
        elif at and row.pressure > one.ratings[at - 1].pressure:
            yield keys, f"size -{row.size} is rated above the smaller -{sizes[at - 1]}"
        if bent != (row.bend is not None):
            yield keys, "it has no bend" if bent else "a thread has no bend"
    for size in known:
        if min(sizes) < size < max(sizes) and size not in sizes:
            if size not in one.none:
                why = "name it in `none` if there is no such size"
                yield ("ratings",), f"nothing is said of size -{size}: {why}"
        elif size in one.none and size in sizes:
            yield ("none",), f"size -{size} is rated, and said not to be"


def _derated(one: Any) -> Iterator[tuple[Sequence[str | int], str]]:
    """Hotter is later in the list, and has no larger share; the first is 1."""
    rows = one.derating
    if rows[0].to < one.low:
        yield ("low",), "it is above where the derating begins"
    if rows[0].share != 1:
        yield ("derating", 0), "the first share is 1: ratings are those of the cold"
    for at in range(1, len(rows)):
        if rows[at].to <= rows[at - 1].to:
            yield ("derating", at), "it is no hotter than the row before: they overlap"
        if rows[at].share > rows[at - 1].share:
            yield ("derating", at), "a hotter one has a larger share"


def _answers(
    one: Any, known: set[str], kind: str
) -> Iterator[tuple[Sequence[str | int], str]]:
    """Each name stands in one of the three lists, and once; none is left out."""
    seen: dict[str, str] = {}
    for key in ANSWERS:
        for name in getattr(one, key):
            if name not in known:
                yield (key,), f"there is no {kind} {name}"
            if name in seen:
                yield (key,), f"{name} stands in {seen[name]} as well"
            seen[name] = key
    for name in sorted(known - seen.keys()):
        why = "put it into good, never or unknown"
        yield (), f"nothing is said of {kind} {name}: {why}"


def _matings(tables: Tables) -> Iterator[Fault]:
    """Each pair of ends is spoken of, and by two rules in one way."""
    ends = [f"{name} {g}" for name in tables["thread"] for g in ("male", "female")]
    said: dict[frozenset[str], tuple[str, str]] = {}
    for name, one in tables["mating"].items():
        if name not in ends:
            yield "mating", name, ("end",), f"there is no thread of {name}"
        for key in ANSWERS:
            for other in getattr(one, key):
                if other not in ends:
                    yield "mating", name, (key,), f"there is no thread of {other}"
                pair = frozenset({name, other})
                answer, by = said.setdefault(pair, (key, name))
                if answer != key or (by == name and other in _before(one, key)):
                    why = f"{by} says {answer} of this pair"
                    yield "mating", name, (key,), f"{other}: {why}"
    last = list(tables["mating"])[-1:]
    for one, other in combinations_with_replacement(ends, 2):
        if frozenset({one, other}) not in said and last:
            at = one if one in tables["mating"] else last[0]
            yield "mating", at, (), f"nothing is said of {one} with {other}"


def _before(one: Any, key: str) -> set[str]:
    """The names in the lists before that of `key`."""
    lists = ANSWERS[: ANSWERS.index(key)]
    return {name for each in lists for name in getattr(one, each)}
