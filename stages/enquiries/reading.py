"""
A request for a quote, read by rules: lines with values, and questions.

What is missing, or means two things, is a question and never a default.  Each value
keeps the words and the place that it came from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from decimal import Decimal
from typing import Any

from stages.enquiries import numbers
from stages.enquiries.delivery import delivery_of
from stages.enquiries.ends import mentions_of, read_ends
from stages.enquiries.forms import WANTED, Asked, Question, Read, Request
from stages.enquiries.mending import Mended, mended
from stages.fitting.rulebook import RuleBook
from stages.fitting.units import LENGTHS, PRESSURES, inches, to_bar, to_celsius, to_mm

Reader = Callable[[re.Match[str]], Iterable[Any]]
Found = tuple[Read[Any] | None, Question | None]
LINES_MAX = 200
PIECES = (
    *("assemblies", "assembly", "hoses", "pieces", "hydraulic", "lines"),
    *("pcs", "pc", "off", "hose", "sets", "nos", "ea"),
)
ONE_TO_TWELVE = (
    *("one", "two", "three", "four", "five", "six"),
    *("seven", "eight", "nine", "ten", "eleven", "twelve"),
)
SPOKEN = {name: number for number, name in enumerate(ONE_TO_TWELVE, 1)}
# Words that are mended; of media and threads their own are beside them.
VOCABULARY = {
    *("assemblies", "assembly", "hoses", "pieces", "hydraulic", "swivel", "female"),
    *("metres", "meters", "inches", "degrees", "celsius", "fahrenheit", "other"),
    *("quantity",),
}
N = numbers.NUMBER
_COUNT = re.compile(
    rf"(?<![\w./,-])(?<!dn )(?<!dash )(?<!size )"
    rf"(?P<n>\d{{1,5}}|{'|'.join(SPOKEN)})(?: ?[x×](?![a-z])| (?:"
    rf"{'|'.join(PIECES)})\b(?! ends?))|\b(?:quantity|qty)[.:]? ?(?P<q>\d{{1,5}})\b"
)
_LENGTH = re.compile(
    rf"(?<![\w./,-])(?P<n>{N}) ?(?P<u>mm|cm|metres?|meters?|mtrs?|m|feet|foot|ft)\b"
    r"(?! ?(?:bore|id\b|i\.d|hose\b))"
)
_HEAT = re.compile(
    rf"(?<![\w./,-])(?P<n>[-−]?(?:{N})) ?(?:(?P<u>°|º|degrees?|deg\.?)? ?"
    r"(?P<s>celsius|fahrenheit|[cf]\b)|(?P<d>°|º|degrees?\b|deg\b\.?))"
)
_BAR = re.compile(rf"(?<![\w./,-])(?P<n>{N}) ?(?P<u>bars?|psi|mpa|kpa|mbar)\b")
_SIZE = re.compile(
    r"(?<![\w./,])(?:(?P<dash>(?:dash ?|size ?)-?\d{1,2}|-\d{1,2})(?![\w./])"
    r"(?! ?(?:[°º]|deg|[cf]\b|to\b))"
    r"|(?P<i>(?:\d{1,2}[ -])?\d{1,2}/\d{1,2}|\d?[¼½¾⅛⅜⅝]|\d{1,2}(?:[.,]\d{1,4})?)"
    r" ?(?:\"|″|”|''|in\b|inch(?:es)?\b)"
    r"|(?P<b>(?:\d{1,2}[ -])?\d{1,2}/\d{1,2}|\d?[¼½¾⅛⅜⅝]) (?=hose|bore|id\b|hydraulic)"
    r"|dn ?(?P<dn>\d{1,3})(?!\w)|(?P<mm>\d{1,2}) ?mm\b)"
)
UNITS = {u.lower(): u for u in PRESSURES} | {"bars": "bar"}
LENGTH_UNITS = {"feet": "ft", "foot": "ft"} | {u: u for u in LENGTHS}
SIZE_MM_MAX = 99  # up to here mm are a bore, and from there a length
NAMES = {
    "count": "how many",
    "size": "the bore of the hose",
    "length_mm": "the length",
    "celsius": "how hot it becomes",
    "bar": "the working pressure",
}
SHOWN: dict[str, Callable[[Any], str]] = {
    "count": str,
    "size": lambda dash: f"{inches(dash)} in",
    "length_mm": lambda mm: f"{mm.normalize():f} mm",
    "celsius": lambda heat: f"{heat.quantize(Decimal('0.1')).normalize():f} °C",
    "bar": lambda bar: f"{bar.quantize(Decimal('0.1')).normalize():f} bar",
}


def read_request(text: str, rules: RuleBook, received: date) -> Request:
    """
    Read a request.

    Args:
        text: As it came; what is far too long is left unread.
        rules: Whose threads, media and sizes are known.
        received: The day on which it came: "the 14th" is the next one.

    Returns:
        At most `LINES_MAX` lines, and a question for each value that is missing or
        means two things.
    """
    media = {word for one in rules.media.values() for word in one.words}
    spoken = {part for word in media for part in word.split() if len(part) > 4}
    page = mended(text, VOCABULARY | spoken)
    starts = [found.start() for found in _COUNT.finditer(page.text)][:LINES_MAX]
    if not starts:
        why = "no line says how many of what are asked for"
        return Request(questions=(Question("lines", 0, why),))
    ends = [*starts[1:], len(page.text)]
    lines: list[Asked] = []
    questions: list[Question] = []
    for number, (start, end) in enumerate(zip(starts, ends, strict=True), 1):
        line, open_ = _line(number, page, start, end, rules)
        lines.append(line)
        questions += open_
    place, by, open_ = delivery_of(page, received)
    return Request(tuple(lines), place, by, (*questions, *open_))


def _line(
    number: int, page: Mended, start: int, end: int, rules: RuleBook
) -> tuple[Asked, list[Question]]:
    """The values of one line, and what must be asked of it."""
    mentions = list(mentions_of(page, start, end, rules))

    def found(pattern: re.Pattern[str]) -> Iterator[re.Match[str]]:
        """Where it stands, but for the names of threads: 37° is no heat."""
        for one in pattern.finditer(page.text, start, end):
            within = (m.start < one.end() and one.start() < m.end for m in mentions)
            if not any(within):
                yield one

    patterns: dict[str, tuple[re.Pattern[str], Reader]] = {
        "count": (_COUNT, _counts),
        "size": (_SIZE, lambda one: _sizes(one, rules)),
        "length_mm": (_LENGTH, _lengths),
        "celsius": (_HEAT, _heats),
        "bar": (_BAR, _bars),
    }
    read: dict[str, Any] = {}
    questions: dict[str, Question | None] = {}
    for about, (pattern, meanings) in patterns.items():
        options = [(v, one) for one in found(pattern) for v in meanings(one)]
        read[about], questions[about] = _only(about, number, page, options)
    read["medium"], questions["medium"] = _medium(number, page, (start, end), rules)
    size = read["size"].value if read["size"] else None
    read["ends"], questions["ends"] = read_ends(
        number, page, (start, end), mentions, size
    )
    asked = [questions[about] for about in WANTED]
    return Asked(number, **read), [one for one in asked if one is not None]


def _only(
    about: str, number: int, page: Mended, options: list[tuple[Any, re.Match[str]]]
) -> Found:
    """The one value that was said; a question for none, and for several."""
    values = list(dict.fromkeys(value for value, _ in options))
    if not options:
        return None, Question(about, number, NAMES[about] + " is not said")
    first = options[0][1]
    words = page.words(first.start(), first.end())
    if None in values:
        at = next(one for value, one in options if value is None)
        words = page.words(at.start(), at.end())
        why = f"{NAMES[about]}: there is none that is written so"
        return None, Question(about, number, why, words=words)
    if len(values) > 1:
        why = f"{NAMES[about]} may be one of {len(values)}"
        choices = tuple(SHOWN[about](value) for value in values)
        return None, Question(about, number, why, choices, words)
    slip = page.slip(first.start(), first.end())
    return Read(values[0], words, slip), None


def _medium(number: int, page: Mended, span: tuple[int, int], rules: RuleBook) -> Found:
    """What flows; a name that was written wrong is asked about, for it may harm."""
    called: dict[str, list[str]] = {}
    for medium in rules.media.values():
        for word in medium.words:
            called.setdefault(word, []).append(medium.name)
    longest = "|".join(re.escape(word) for word in sorted(called, key=len)[::-1])
    found = list(re.compile(rf"(?<!\w)(?:{longest})(?!\w)").finditer(page.text, *span))
    if not called or not found:
        return None, Question("medium", number, "what flows is not said")
    names = list(dict.fromkeys(name for one in found for name in called[one[0]]))
    place = found[0].span()
    slip = page.slip(*place)
    if len(names) == 1 and not slip:
        return Read(names[0], page.words(*place)), None
    why = f"is {slip} meant?" if slip else "several media are named"
    return None, Question("medium", number, why, tuple(names), page.words(*place))


# -- what a match may mean; None: there is none that is written so -------------------


def _counts(found: re.Match[str]) -> Iterator[int | None]:
    said = found["n"] or found["q"]
    yield SPOKEN.get(said) or int(said) or None


def _sizes(found: re.Match[str], rules: RuleBook) -> Iterator[int | None]:
    try:
        if found["dash"]:
            digits = "".join(char for char in found["dash"] if char.isdecimal())
            yield rules.size(f"-{digits}")
        elif found["dn"] or found["mm"]:
            yield rules.size(f"DN {found['dn'] or found['mm']}")
        else:
            yield numbers.dash_of(found["i"] or found["b"])
    except ValueError:
        yield None


def _lengths(found: re.Match[str]) -> Iterator[Decimal | None]:
    word = found["u"]
    unit = LENGTH_UNITS.get(word) or "m"  # metres, in any spelling
    said = numbers.meanings(found["n"])
    if unit == "mm" and max(said) <= SIZE_MM_MAX:
        return
    values = [to_mm(number, unit) for number in said]
    yield from numbers.within(values, numbers.LENGTHS)


def _heats(found: re.Match[str]) -> Iterator[Decimal | None]:
    sign = -1 if found["n"][0] in "-−" else 1
    said = numbers.meanings(found["n"].lstrip("-−"))
    scale = (found["s"] or "")[:1].upper()
    units = [f"°{scale}"] if scale else ["°C", "°F"]
    values = [to_celsius(number * sign, unit) for number in said for unit in units]
    yield from numbers.within(values, numbers.HEATS)


def _bars(found: re.Match[str]) -> Iterator[Decimal | None]:
    said = numbers.meanings(found["n"])
    values = [to_bar(number, UNITS[found["u"]]) for number in said]
    yield from numbers.within(values, numbers.PRESSURES)
