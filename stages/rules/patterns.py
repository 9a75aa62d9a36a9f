"""
Regular expressions on a leash: which of them could take long on some text.
"""

from __future__ import annotations

import re

MAX_PATTERN_COST = 2000  # tries a place: bounds the time a pattern takes

_PIECE = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\((?:\?[:=!]|\?<[=!])?|\)"
    r"|\{(\d*)(,?)(\d*)\}|[*+?]|.",
    re.DOTALL,
)


def too_slow(pattern: str, most: int = MAX_PATTERN_COST) -> str | None:
    """
    Why `pattern` could take long on some text; None when it cannot.

    `most` tries a place are allowed.
    """
    cost = 1
    groups: list[bool] = []  # does the open group contain a quantifier?
    closed = False  # did the last piece close a group that contains one?
    group = False  # was the last piece a group at all?
    for piece in _PIECE.finditer(pattern):
        part = piece[0]
        if part in ("*", "+") or (piece[2] and not piece[3]):
            return "unbounded; write {0,40} in the place of * or {1,40} of +"
        if part == "?" or piece[1] is not None:
            times = 2 if part == "?" else int(piece[3] or piece[1] or 1)
            if closed or (group and times > 4):
                return "a repeated group with a repetition in it"
            cost *= times if part == "?" or piece[2] else 1
            groups = [True] * len(groups)
        elif part.startswith("("):
            groups.append(False)
        closed = part == ")" and bool(groups) and groups.pop()
        group = part == ")"
    if cost > most:
        return f"too many repetitions: their product exceeds {most}"
    return None
