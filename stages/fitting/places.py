"""Where in a TOML file a key stands: `tomllib` does not say, and people ask."""

from __future__ import annotations

import re
from collections.abc import Sequence


def line_of(text: str, place: Sequence[str | int]) -> int:
    """
    The line, from 1, of what stands at a place: of the table where it is not found.

    A rule file has tables of `[[kind]]`, whose keys and rows have a line each, as
    `("hose", 2, "ratings", 3, "pressure")` is the fourth row of the third hose.

    Args:
        place: Names of keys and numbers of rows, as pydantic gives them.
    """
    lines = text.splitlines()
    if len(place) < 2:
        return 1
    kind, number, *rest = place
    header = re.compile(rf"\[\[\s*{re.escape(str(kind))}\s*\]\]")
    tables = [at for at, line in enumerate(lines) if header.match(line.strip())]
    if not isinstance(number, int) or number >= len(tables):
        return 1
    start = tables[number]
    ends = (at for at in range(start + 1, len(lines)) if lines[at].startswith("["))
    end = next(ends, len(lines))
    if not rest:
        return start + 1
    key = re.compile(rf"{re.escape(str(rest[0]))}\s*=")
    found = (at for at in range(start + 1, end) if key.match(lines[at].strip()))
    at = next(found, start)
    if len(rest) > 1 and isinstance(rest[1], int):
        rows = [row for row in range(at, end) if lines[row].strip().startswith("{")]
        if rest[1] < len(rows):
            return rows[rest[1]] + 1
    return at + 1
