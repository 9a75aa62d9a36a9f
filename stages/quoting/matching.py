"""What the ERP is asked for one line, and what the parts that it names say of it."""

from __future__ import annotations

from collections.abc import Sequence

from stages.fitting.parts import End, Part
from stages.quoting.forms import PLACES, Line, Open


def told(line: Line, named: Sequence[Part]) -> tuple[Line, dict[str, str], list[Open]]:
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
    if len(hoses) > 1 or len(fittings) > 2 or len(hoses) + len(fittings) < len(named):
        why = "these parts do not come to a hose with two ends"
        return line, {}, [Open(about="ends", line=line.number, why=why)]
    size = hoses[0].size if hoses else line.size or fittings[0].size
    places = {"hose": hoses[0].number} if hoses else {}
    ends = line.ends
    if fittings:
        pair = fittings if len(fittings) == 2 else fittings * 2
        places |= {at: one.number for at, one in zip(PLACES[1:], pair, strict=True)}
        ends = tuple(end for one in pair for end in one.ends)
    asks = []
    if not size:
        asks.append(Open(about="size", line=line.number, why="the bore is not said"))
    if len(ends) != 2:
        why = "the two ends are not said"
        asks.append(Open(about="ends", line=line.number, why=why))
    return line.model_copy(update={"size": size, "ends": ends}), places, asks


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
