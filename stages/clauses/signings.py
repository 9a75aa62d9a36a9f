"""
Where a contract is signed, and the places that say by whom.

One place for all who ask: readers of parties, dates and names, and the check that who
signs is a party.  Every expression is bounded and linear in the text: a stranger
wrote it.
"""

from __future__ import annotations

import re
import sys
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from stages.clauses.sections import Section

SIGNED_CHARS = 6_000  # of a block of signatures
SIGNER_CHARS = 120  # of a company's name beside the line it signs on
MAX_SIGNINGS = 40
CROWD_CHARS = 600  # in which three signs make a block

_SIGNS = re.compile(
    r"\b(?:By|BY|Name|NAME|Title|TITLE|Signature|SIGNATURE|Its|Date|DATE)[ \t]{0,9}:"
    r"|\b(?i:authori[sz]ed[ \t](?:signature|representative)|signed[ \t](?:by|for))\b"
)
# What a signer stands behind.  `Signed by` within a sentence signs nothing.
_PLACE = r"(?:(?<=[\n\f|])|(?<=[ \t]{2})|\A)[ \t]{0,60}"
_BEHALF = r"(?:and[ \t]{1,3})?on[ \t]{1,3}behalf[ \t]{1,3}of"
_FOR = re.compile(
    rf"{_PLACE}(?P<at>(?i:signed|executed)[ \t]{{1,3}}"
    rf"(?i:(?:for|by)(?:[ \t]{{1,3}}{_BEHALF})?|{_BEHALF}))[ \t\n:]{{1,40}}"
    # By: ____ for X
    r"|(?P<by>\b(?:By|BY)[ \t]{0,9}:[ \t]{0,9}_{2,60}[^\n_]{0,60}?"
    rf"\b(?:for|FOR)(?i:[ \t]{{1,3}}{_BEHALF})?[ \t]{{1,3}})"
)
# A company, a colon and a line; `Name of Company` is none.
_BLANK = re.compile(
    r"(?<!of )\b(?P<form>(?i:inc|corp|co|ltd|llc|llp|lp|plc|gmbh|ag|limited|company"
    r"|incorporated|corporation)|L\.L\.C|L\.P|S\.A|N\.V|B\.V)\b[.)]{0,2}"
    r"[ \t]{0,3}:[ \t]{0,9}_{3,60}"
)
_NAME_ENDS = re.compile(r"\n|__|[ \t]{3}|\b(?:By|BY|Name|NAME)\b")
_NAME_BEGINS = re.compile(r".*(?:[\n_:|]|[ \t]{3})", re.DOTALL)


def signings(text: str, sections: Sequence[Section]) -> list[tuple[int, int]]:
    """
    Where people sign: what is headed so, and where `By`, `Name`, `Date` crowd.

    Returns:
        `[start, end)`, code points; at most `MAX_SIGNINGS` of those that crowd.
    """
    found = [
        (section.start, min(section.end, section.start + SIGNED_CHARS))
        for section in sections
        if section.kind == "signature"
    ]
    for first, third in _crowds(text):
        if not (found and first < found[-1][1]):
            found.append((max(0, first - 400), min(len(text), third + 1_500)))
        if len(found) >= MAX_SIGNINGS:
            break
    return found


def signers(text: str, sections: Sequence[Section]) -> list[tuple[int, int]]:
    """
    The places that say for whom a contract is signed; of its exhibits none.

    Returns:
        `[start, end)`: from where signatures begin, for a name in capitals may head a
        section there; and the names beside lines to sign on, wherever they stand.
    """
    exhibits = sorted((s.start, s.end) for s in sections if s.kind == "exhibit")
    blocks = []
    for at in sorted(s.start for s in sections if s.kind == "signature"):
        behind = bisect_right(exhibits, (at, len(text)))
        until = exhibits[behind][0] if behind < len(exhibits) else len(text)
        blocks.append((at, min(at + SIGNED_CHARS, until)))
    found: list[tuple[int, int]] = []
    for _, start, end in _beside(text):
        if len(blocks) + len(found) >= MAX_SIGNINGS:
            break
        apart = not any(at <= start < until for at, until in found)
        if apart and not _within(blocks, start) and not _within(exhibits, start):
            found.append((start, end))
    return blocks + found


def _within(places: Sequence[tuple[int, int]], at: int) -> bool:
    """Whether one of these, whose ends are in the order of their starts, holds it."""
    last = bisect_right(places, (at, sys.maxsize))
    return last > 0 and at < places[last - 1][1]


def signed_from(text: str, sections: Sequence[Section], after: int) -> int:
    """Where the signatures begin that come first `after`; the end where there are none.

    A name that stands above its line is part of them.
    """
    places = [s.start for s in sections if s.kind == "signature"]
    places += [_line_above(text, first) for first, _ in _crowds(text)]
    places += [at for at, _, _ in _beside(text)]
    return min((at for at in places if at > after), default=len(text))


def _crowds(text: str) -> Iterator[tuple[int, int]]:
    """The first and the third of three signs that stand close together."""
    places = [match.start() for match in _SIGNS.finditer(text)]
    for first, third in zip(places, places[2:], strict=False):
        if third - first < CROWD_CHARS:
            yield first, third


def _beside(text: str) -> Iterator[tuple[int, int, int]]:
    """Names beside lines to sign on: where that begins, and the name's `[start, end)`.

    `SIGNED for X`, `Signed for and on behalf of X`, `By: ____ for X`, `X: ____`.
    """
    for match in _FOR.finditer(text):
        at = match.start("at" if match["at"] else "by")
        until = min(match.end() + SIGNER_CHARS, len(text))
        ends = _NAME_ENDS.search(text, match.end(), until)
        yield at, match.end(), ends.start() if ends else until
    for match in _BLANK.finditer(text):
        start = max(0, match.start() - SIGNER_CHARS)
        if begins := _NAME_BEGINS.match(text, start, match.start()):
            start = begins.end()
        yield start, start, match.end("form")


def _line_above(text: str, place: int) -> int:
    """The beginning of the line above the one that `place` stands in."""
    line = text.rfind("\n", 0, place)
    return text.rfind("\n", 0, line) + 1 if line > 0 else place
