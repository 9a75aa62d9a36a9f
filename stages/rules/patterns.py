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


class _Group:
    """An open group: does it repeat something, and how does each choice begin?"""

    def __init__(self) -> None:
        self.repeats = False
        self.begins = [""]  # the letters that a choice begins with, whatever follows
        self.plain = True  # nothing but letters so far in the last choice

    def add(self, part: str) -> None:
        """A piece of the last choice."""
        escaped = part[0] == "\\" and not part[-1].isalnum()
        letter = part[1:] if escaped else part
        bare = len(letter) == 1 and (escaped or letter not in ".^$")
        self.plain = self.plain and bare
        if self.plain:
            self.begins[-1] += letter.lower()

    def choose(self) -> None:
        """A `|`."""
        self.begins.append("")
        self.plain = True

    def repeat(self) -> None:
        """The last piece is repeated, and perhaps not there at all."""
        self.repeats = True
        if self.plain:
            self.begins[-1] = self.begins[-1][:-1]
        self.plain = False

    @property
    def ways(self) -> int:
        """How many choices one text may have begun with, at most."""
        return max(
            sum(a.startswith(b) or b.startswith(a) for b in self.begins)
            for a in self.begins
        )


def too_slow(pattern: str) -> str | None:
    """Why `pattern` could take long on some text; None when it cannot."""
    cost = 1
    groups = [_Group()]
    closed: _Group | None = None  # what the last piece closed
    for piece in _PIECE.finditer(pattern):
        part = piece[0]
        if part in ("*", "+") or (piece[2] and not piece[3]):
            return "unbounded; write {0,40} in the place of * or {1,40} of +"
        if part == "?" or piece[1] is not None:
            times = 2 if part == "?" else int(piece[3] or piece[1] or 1)
            if closed is not None and (closed.repeats or times > 4):
                return "a repeated group with a repetition in it"
            cost *= times if part == "?" or piece[2] else 1
            if closed is not None and part != "?":
                cost *= closed.ways ** max(times - 1, 0)
            for group in groups:
                group.repeats = True
            groups[-1].repeat()
            closed = None
        elif part == ")" and len(groups) > 1:
            closed = groups.pop()
            cost *= closed.ways
        elif part.startswith("("):
            groups[-1].add(part + "(")
            groups.append(_Group())
            closed = None
        else:
            if part == "|":
                groups[-1].choose()
            else:
                groups[-1].add(part)
            closed = None
    if cost > MAX_PATTERN_COST:
        most = MAX_PATTERN_COST
        return f"too many repetitions or choices: their product exceeds {most}"
    return None
