"""What the ERP is asked for one line, and what the parts that it names say of it."""

from __future__ import annotations

from collections.abc import Sequence

from stages.fitting.parts import End, Part
from stages.fitting.units import inches
from stages.quoting.forms import PLACES, Line, Open


def settled(
    line: Line, named: Sequence[Part]
) -> tuple[Line, dict[str, str], list[Open]]:
    """
    A line with what the parts that it names say: bore and ends.

    Returns:
        The line; the number of each named part by its place; and what must be asked
        where they do not come to a line: two hoses, one fitting of two.
    """
    if not named:
        return line, {}, []
    hoses = [part for part in named if part.kind == "hose"]
    fittings = [part for part in named if part.kind == "fitting"]
    pair = fittings * 2 if len(fittings) == 1 and line.both else fittings
    size = hoses[0].size if hoses else line.size or (pair[0].size if pair else None)
    ends = tuple(end for one in pair for end in one.ends) or line.ends
    why = ""
    if len(hoses) > 1 or len(pair) > 2 or len(hoses) + len(fittings) < len(named):
        why = "these parts do not come to a hose with two ends"
    elif not size:
        why = "neither a hose nor its bore is named"
    elif len(pair) == 1 or len(ends) != 2:
        why = "a part is named for one end, and none for the other"
    elif line.size not in (None, size):
        why = f"{inches(line.size or 0)} in is asked for, the hose is {inches(size)} in"
    elif line.ends and not _same(line.ends, ends):
        why = "the ends that are asked for are not those of the parts"
    if why:
        return line, {}, [Open(about="parts", line=line.number, why=why)]
    places = {"hose": hoses[0].number} if hoses else {}
    places |= {at: one.number for at, one in zip(PLACES[1:], pair, strict=False)}
    return line.model_copy(update={"size": size, "ends": ends}), places, []


def _same(one: Sequence[End], other: Sequence[End]) -> bool:
    """Whether two pairs of ends are the same, but for their order."""
    return sorted(map(_named, one)) == sorted(map(_named, other))


def _named(end: End) -> tuple[str, int, str]:
    return end.thread, end.size, end.gender


def searches(line: Line) -> dict[str, dict[str, str]]:
    """What is searched for each place of a line that says its bore and its ends."""
    assert line.size is not None
    one, other = line.ends
    return {
        "hose": {"kind": "hose", "size": str(line.size)},
        "one end": _of_end(line.size, one),
        "other end": _of_end(line.size, other),
    }


def _of_end(size: int, end: End) -> dict[str, str]:
    return {
        "kind": "fitting",
        "size": str(size),
        "thread": end.thread,
        "gender": end.gender,
        "end_size": str(end.size),
    }
