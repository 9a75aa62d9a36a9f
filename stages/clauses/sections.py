"""
The sections of a contract: where each begins, its number, its heading, its page.

Found in plain text, whose headings may stand on lines of their own or within a
paragraph (`12.3 Assignment. Neither party may …`), as text taken from a PDF has them.
Every expression is bounded and linear in the text: a stranger wrote it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

MAX_SECTIONS = 4_000  # of 500 pages; what comes after belongs to the last
HEADING_CHARS = 120  # a longer one is a sentence in capitals

Kind = Literal["front", "section", "definitions", "exhibit", "signature"]


class Section(BaseModel):
    """
    One section: `[start, end)` of the text, code points; sections cover the text.

    Attributes:
        number: As written (`12.3`, `IV`, `B`), "" where there is none.
        heading: As written, without number and full stop; "" of the front.
        within: The headings of the sections that hold it, outermost first.
        page: 1-based, by form feeds; all is page 1 where there are none.
        kind: What part of a contract it is.
    """

    model_config = ConfigDict(frozen=True)

    number: str
    heading: str
    within: tuple[str, ...] = ()
    start: int
    end: int
    page: int
    kind: Kind = "section"


def sections_of(text: str) -> list[Section]:
    """
    The sections of `text`, in its order and without a gap; never empty.

    What stands before the first heading is a section of kind `front`.
    """
    text = spaced(text)
    breaks = page_breaks(text)
    marks = _marks(text)
    found: list[Section] = []
    above: list[tuple[int, str]] = []  # level and heading of the open sections
    outside: Kind = "section"  # an exhibit lasts until the next
    if not marks or marks[0].start > 0:
        end = marks[0].start if marks else len(text)
        found.append(
            Section(number="", heading="", start=0, end=end, page=1, kind="front")
        )
    for place, mark in enumerate(marks):
        end = marks[place + 1].start if place + 1 < len(marks) else len(text)
        kind = _kind(mark)
        if kind == "exhibit":
            above, outside = [], "exhibit"
        while above and above[-1][0] >= mark.level:
            above.pop()
        found.append(
            Section(
                number=mark.number,
                heading=mark.heading,
                within=tuple(heading for _, heading in above),
                start=mark.start,
                end=end,
                page=page_of(mark.start, breaks),
                kind=outside if kind == "section" else kind,
            )
        )
        above.append((mark.level, mark.heading))
    return found


# Blanks that are no space: pages written as HTML have them between all words.
_BLANKS = dict.fromkeys(
    (0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000), " "
)


def spaced(text: str) -> str:
    """`text` with a space for each kind of blank: every sign keeps its place."""
    return text if text.isascii() else text.translate(_BLANKS)


def page_breaks(text: str) -> list[int]:
    """The places of the form feeds of `text`, in order."""
    return [match.start() for match in re.finditer("\f", text)]


def page_of(place: int, breaks: Sequence[int]) -> int:
    """The page, 1-based, that the character at `place` stands on."""
    return bisect_right(breaks, place) + 1


class _Mark(NamedTuple):
    start: int
    number: str
    heading: str
    level: int  # 1 outermost


_SMALL = r"(?:of|and|to|the|for|by|in|on|or|with|a|an|as|at|from|upon|not|&|/|-|–)"
_CAPITAL = r"[A-Z][\w'’&/,-]{0,24}"
_WORDS = rf"{_CAPITAL}(?:[ \t]{{1,3}}(?:{_SMALL}[ \t]{{1,3}}){{0,3}}{_CAPITAL}){{0,8}}"
_CAPS = r"[A-Z][A-Z'’&/,()-]{1,24}(?:[ \t]{1,3}[A-Z&/-][A-Z'’&/,()-]{0,24}){0,10}"
_BEGINS = (
    r"(?:This|The|Each|Neither|Either|Any|If|In|No|All|Subject|Except|During|Upon|For"
    r"|Both|Notwithstanding|Unless|As|At|To|Nothing|Without|Other|It|You|We)"
)
_NUMBER = (
    r"(?:(?:ARTICLE|Article|SECTION|Section|CLAUSE|Clause|§)[ \t]{0,3}"
    r"(?:\d{1,3}|[IVXL]{1,6})(?:\.\d{1,3}){0,3}"
    r"|\d{1,3}(?:\.\d{1,3}){0,3}|[IVX]{1,5}(?=\.)|[A-Z](?=[.)])|\([a-zA-Z]\))"
)
# Where a heading may begin: a line, or after the end of a sentence.
_PLACE = r"(?:(?<=[\n\f])|(?<=[.;:)\]\"”][ \t])|(?<=[ \t]{2})|\A"
# Or after another heading: `ARTICLE III ASSIGNMENT 3.1 Consent`.
_PLACE += r"|(?<=[A-Z][ \t])(?=\d{1,3}\.\d))"
_NUMBERED = re.compile(
    rf"{_PLACE}(?P<number>{_NUMBER})[.):]{{0,2}}[ \t\n]{{1,12}}"
    rf"(?:(?:--|[-–—:])[ \t]{{0,3}})?[\"“]?"
    rf"(?P<heading>{_CAPS}(?=[ \t\n.:–—-])(?!\.[A-Z])"
    rf"|{_WORDS}(?=[.:]|[ \t]{{0,3}}(?:\n|--|[–—])|[ \t]{{3}}|[ \t]{{1,3}}{_BEGINS}\b)"
    r"|[A-Z][\w'’&/-]{1,24},?(?:[ \t][\w'’&/()-]{1,24},?){0,7}(?=[.:]\s|[ \t]{0,3}\n))"
)
_LINE = re.compile(
    rf"(?:(?<=\n)|(?<=\f)|\A)[ \t]{{0,60}}(?P<heading>{_CAPS}|{_WORDS})"
    r"(?P<after>[.:]?[ \t]{0,9}(?=\n|\Z)|[.:](?=[ \t]{1,9}[A-Z\"“(]))"
)
_EXHIBIT = re.compile(
    r"(?:(?<=[\n\f])|(?<=[ \t]{2})|\A)[ \t]{0,60}(?P<heading>"
    r"(?:EXHIBIT|Exhibit|SCHEDULE|Schedule|ANNEX|Annex|APPENDIX|Appendix|ATTACHMENT"
    r"|Attachment)[ \t]{1,3}['\"“‘]?(?P<number>[A-Z]{0,2}-?\d{0,3}(?:\.\d{1,3})?)"
    r"['\"”’]?)(?=[ \t]{0,9}(?:\n|\Z|[-–—:]|[ \t]{2}))"
)
_SIGNED = re.compile(r"(?i)\bin[ \t\n]{1,9}witness[ \t\n]{1,9}(?:whereof|thereof)\b")
_DEFINED = re.compile(r"(?i)\b(?:definition|defined terms|interpretation)")
# Words in capitals that head nothing.
_NO_HEADING = re.compile(
    r"(?i)^(?:by|name|title|date|its|and|or|between|whereas|source|page"
    r"|table of contents|witnesseth|(?:[a-z]\.?){1,2}|inc|llc|ltd|corp|the"
    r"|exhibit|schedule)[ .,:]*$"
)


# A short sentence, and no heading.
_SAYS = re.compile(r"\b(?:shall|will|may|must|is|are|agrees?|has|have|grants?)\b")


def _marks(text: str) -> list[_Mark]:
    """Where sections begin, at most one a place, in the text's order."""
    marks: dict[int, _Mark] = {}
    for mark in (*_signed(text), *_exhibits(text), *_numbered(text), *_lines(text)):
        marks.setdefault(mark.start, mark)
    return [marks[start] for start in sorted(marks)][:MAX_SECTIONS]


def _exhibits(text: str) -> Iterator[_Mark]:
    for match in _EXHIBIT.finditer(text):
        # The label that a filing sets above a contract is not an exhibit to it.
        if match.start("heading") < 200:
            continue
        yield _Mark(match.start("heading"), match["number"], match["heading"], 0)


def _numbered(text: str) -> Iterator[_Mark]:
    for match in _NUMBERED.finditer(text):
        heading = match["heading"].strip(" ,-")
        if len(heading) > HEADING_CHARS or _NO_HEADING.match(heading):
            continue
        if _SAYS.search(heading):
            continue
        number = re.sub(r"(?i)^(?:article|section|clause|§)\s*", "", match["number"])
        yield _Mark(match.start(), number.strip("().: "), heading, _level(match))


def _level(match: re.Match[str]) -> int:
    number = match["number"]
    if number[:7].upper() == "ARTICLE":
        return 1
    if number.startswith("("):
        return 5
    return 2 + number.rstrip(".").count(".")


def _lines(text: str) -> Iterator[_Mark]:
    for match in _LINE.finditer(text):
        heading = match["heading"].strip(" ,-")
        if len(heading) > HEADING_CHARS or len(heading) < 4:
            continue
        if _NO_HEADING.match(heading):
            continue
        yield _Mark(match.start("heading"), "", heading, 2)


def _signed(text: str) -> Iterator[_Mark]:
    matches = list(_SIGNED.finditer(text))
    for match in matches:
        yield _Mark(match.start(), "", "Signatures", 0)


def _kind(mark: _Mark) -> Kind:
    if mark.level == 0:
        return "signature" if mark.heading == "Signatures" else "exhibit"
    return "definitions" if _DEFINED.search(mark.heading) else "section"
