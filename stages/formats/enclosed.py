"""
What a bundle encloses: its parts, one after another, as plain descriptions.

`archive.py` and `mail.py` find parts, `bundle.py` writes them
out.  A part's name is text for people; nothing is ever opened under it.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pipeline.errors import Unacceptable

NAME_CHARS_MAX = 120  # two levels and the bundle's own name fit a line of a list
TAIL_CHARS = 40  # of a longer name: its extension and the number before it
LISTED_MAX = 50  # names of what was left out
ALL = slice(None)
# Categories of characters that act on a terminal or turn the direction of text.
INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


@dataclass(frozen=True, slots=True)
class Enclosed:
    """
    One part of a bundle, not yet read.

    Attributes:
        size_bytes: As declared; reading ends there, whatever comes.
        read: Its bytes, piece by piece; raises `Unacceptable` when they are bad.
        pages: Over 0 for the bundle's own text: so many pages, read from the
            bundle itself, and no bytes of its own.
        nests: Whether it looks like a bundle itself and will need room for its
            parts; asked of every part once, for it reads the first bytes.
        code: Why it is refused, as a stable word; "" for a part that is taken.
    """

    name: str
    size_bytes: int
    read: Callable[[], Iterator[bytes]]
    pages: int = 0
    nests: Callable[[], bool] = bool
    code: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Contents:
    """
    The parts of an opened bundle, and what was passed over.

    Attributes:
        skipped: Word to count.
        left_out: Of them what a person might miss: `logo.png (decoration)`.
    """

    parts: list[Enclosed]
    skipped: Counter[str] = field(default_factory=Counter)
    left_out: list[str] = field(default_factory=list)

    def leave_out(self, word: str, name: str) -> None:
        """Count something that is no part, and list its name."""
        self.skipped[word] += 1
        if len(self.left_out) < LISTED_MAX:
            self.left_out.append(f"{visible(name)} ({word})")


def visible(name: str) -> str:
    """`name` fit to be stored and shown: what is invisible in it is escaped."""
    shown = "".join(
        char.encode("unicode_escape").decode("ascii")
        if unicodedata.category(char) in INVISIBLE
        else char
        for char in unicodedata.normalize("NFC", name[: 8 * NAME_CHARS_MAX])
    ).strip()
    return shortened(shown, NAME_CHARS_MAX) or "unnamed"


def shortened(name: str, chars: int) -> str:
    """`name` with its middle left out when it has more than `chars` characters."""
    if len(name) <= chars:
        return name
    return f"{name[: chars - TAIL_CHARS - 1]}…{name[-TAIL_CHARS:]}"


def too_many_parts(parts_max: int) -> Unacceptable:
    """The error for a bundle of more than `parts_max` parts."""
    return Unacceptable(
        f"the bundle has more than {parts_max:,} parts",
        code="BUNDLE_TOO_MANY",
        hint="send it in several, or raise max_parts of the intake stage",
    )
