"""
The jailed side of `lines`: the text of a request in, what rules read in it out.

Answers are the buyer's words to questions.  Each is put into the text where its
question arose, and the whole is read again: a bore that is answered gives ends a size.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from stages.enquiries.ends import BOTH
from stages.enquiries.forms import WANTED, Asked, Question, Read, Request, Words
from stages.enquiries.mending import TEXT_CHARS_MAX
from stages.enquiries.reading import LINES_MAX, read_request
from stages.fitting.parts import End
from stages.fitting.rulebook import RuleBook, load
from stages.fitting.units import inches
from stages.quoting.forms import Enquiry, Line, Open, Spot
from stages.quoting.scans import doubt_of

ANSWER_CHARS_MAX = 500
MENTIONS_MAX = 10  # of one value in a line
PART = re.compile(r"\b[A-Z]{3}-\d{6}\b", re.ASCII)
CUSTOMER = re.compile(r"\bK-\d{4,6}\b", re.ASCII)
QUOTE = re.compile(r"\bQ-\d{6,12}\b", re.ASCII)
SENDER = re.compile(
    r"^From: (?:[^\n<]{0,200}<)?([^\s<>@]{1,64}@[\w.-]{1,190}\w)>?\s*$", re.M
)
DISCOUNT = re.compile(
    r"(\d{1,2}(?:[.,]\d{1,2})?) ?(?:%|per ?cent)(?= ?(?:discount|off|rebate))"
    r"|(?:discount|rebate) of (\d{1,2}(?:[.,]\d{1,2})?) ?(?:%|per ?cent)",
    re.I,
)
# A line that goes on in the next one: as long as before, so that places stay.
WRAPPED = re.compile(r"(?<=[^\n.:;!?])\n(?=[^\nA-Z])|(?<=,)\n(?=[^\n])")
FIELDS = ("count", "size", "length_mm", "medium", "celsius", "bar")
# What a part that the buyer names says by itself.
BY_PARTS = frozenset({"size", "ends"})


def read(
    text: str,
    rules: str,
    received: str,
    answers: dict[str, Any],
    doubtful: dict[str, str],
) -> Any:
    """
    Read a request; arguments and result are JSON.

    Args:
        text, rules: Paths of artifacts: the text, and the rule files by name.
        received: ISO date.
        answers: What was answered, by the keys of questions.
        doubtful: Words of a scan that a reader is not sure of: see `scans`.

    Raises:
        Usage: RULES_INVALID.
    """
    import json

    files = json.loads(Path(rules).read_text(encoding="utf-8"))
    said = Path(text).read_text(encoding="utf-8")
    day = date.fromisoformat(received)
    found = enquiry_of(said, load(files), day, answers, doubtful)
    return found.model_dump(mode="json")


def enquiry_of(
    text: str,
    rules: RuleBook,
    received: date,
    answers: Mapping[str, str],
    doubtful: Mapping[str, str] | None = None,
) -> Enquiry:
    """A request as rules read it, with what was answered put into it."""
    answers = {key: said.strip()[:ANSWER_CHARS_MAX] for key, said in answers.items()}
    first = read_request(unwrapped(text), rules, received)
    doubts = list(doubts_of(first, text, doubtful or {}))
    asked = [*questions_of(first, received), *doubts]
    answered = [one for one in asked if one.about in FIELDS and answers.get(one.key)]
    cleared = text
    for one in answered:
        cleared = without(cleared, one, rules, received)
    said = amended(cleared, first, asked, answers)
    request = first
    if said != text:
        request = read_request(unwrapped(said), rules, received)
    if len(request.lines) != len(first.lines) and first.lines:
        request, said = first, text  # an answer that makes a line of its own is none
    starts = [line.count.words.start if line.count else 0 for line in request.lines]
    lines = tuple(
        _line(line, said, (start, end), answers)
        for line, start, end in zip(
            request.lines, starts, [*starts[1:], len(said)], strict=True
        )
    )
    named = {line.number for line in lines if line.named}
    left = [
        one
        for one in (
            *questions_of(request, received),
            *(one for one in doubts if not answers.get(one.key)),
            *_unread(said, request),
        )
        if not (one.line in named and one.about in BY_PARTS)
    ]
    lines, left = answered_ends(lines, left, answers, rules, received)
    open_ = [_open(one, said, answers) for one in left]
    spots = {
        name: _spot(said, value.words, value.mended)
        for name, value in (("place", request.place), ("by", request.by))
        if value is not None
    }
    discount = DISCOUNT.search(text)
    if discount is not None:
        line = text.count("\n", 0, discount.start()) + 1
        spots["discount"] = Spot(
            text=discount[0], start=discount.start(), end=discount.end(), line=line
        )
    return Enquiry(
        received=received,
        lines=lines,
        place=request.place.value if request.place else "",
        by=request.by.value if request.by else None,
        customer=_one(CUSTOMER.findall(answers.get("customer", "") or text)),
        sender=_one(SENDER.findall(text)).lower(),
        quote=_one(QUOTE.findall(answers.get("quote", "") or text)),
        discount=_percent(discount),
        spots=spots,
        open=tuple(open_),
    )


def unwrapped(text: str) -> str:
    """The text with its lines made whole; every character keeps its place."""
    return WRAPPED.sub(" ", text)


def without(text: str, one: Question, rules: RuleBook, received: date) -> str:
    """The text with blanks for all that a line says of this: the answer says it."""
    words = one.words
    for _ in range(MENTIONS_MAX):
        if words is None:
            break
        text = text[: words.start] + " " * len(words.text) + text[words.end :]
        request = read_request(unwrapped(text), rules, received)
        if len(request.lines) < one.line:
            break
        value = getattr(request.lines[one.line - 1], one.about)
        again = [q.words for q in request.questions if q.key == one.key]
        words = value.words if value else next(iter(again), None)
    return text


def questions_of(request: Request, received: date) -> list[Question]:
    """What the rules ask, and whether a day that is over is meant."""
    asked = list(request.questions)
    if request.by is not None and request.by.value < received:
        asked.append(Question("by", 0, "that day is over", words=request.by.words))
    return asked


def answered_ends(
    lines: tuple[Line, ...],
    questions: Sequence[Question],
    answers: Mapping[str, str],
    rules: RuleBook,
    received: date,
) -> tuple[tuple[Line, ...], list[Question]]:
    """
    Lines with the two ends that an answer names by itself, and what is still to ask.

    A line without two ends, of which nothing was asked, is asked about as well.
    """
    made, left = [], [one for one in questions if one.about != "ends"]
    of_ends = {one.line: one for one in questions if one.about == "ends"}
    for line in lines:
        one = of_ends.get(line.number)
        said = answers.get(f"{line.number}.ends", "")
        ends = _alone(said, line, rules, received) if one and said else line.ends
        sized = not any(q.line == line.number and q.about == "size" for q in left)
        if len(ends) == 2 or line.named:
            made.append(line.model_copy(update={"ends": ends}))
        else:
            made.append(line)
            if one or sized:
                left.append(one or Question("ends", line.number, "they are not clear"))
    return tuple(made), sorted(left, key=_in_order)


def _in_order(one: Question) -> tuple[bool, int, int]:
    """By line, in the order in which a line is asked; what is of all of it last."""
    place = WANTED.index(one.about) if one.about in WANTED else len(WANTED)
    return one.line == 0, one.line, place


def _alone(said: str, line: Line, rules: RuleBook, received: date) -> tuple[End, ...]:
    """The ends that an answer names, read by itself."""
    size = f"{inches(line.size)} inch, " if line.size else ""
    alone = read_request(f"1 x {size}{said}", rules, received)
    if len(alone.lines) != 1:
        return ()
    return tuple(one.value for one in alone.lines[0].ends)


def doubts_of(
    request: Request, text: str, doubtful: Mapping[str, str]
) -> Iterator[Question]:
    """Values whose words a reader of the scan is not sure of, each as a question."""
    read = [
        (name, line.number, one)
        for line in request.lines
        for name, one in (
            *((name, getattr(line, name)) for name in FIELDS),
            *(("ends", end) for end in line.ends),
        )
    ]
    for name, number, one in (
        *read,
        ("place", 0, request.place),
        ("by", 0, request.by),
    ):
        if one is not None and (why := doubt_of(_spot(text, one.words), doubtful)):
            yield Question(name, number, why, words=one.words)


def _unread(text: str, request: Request) -> Iterator[Question]:
    """What is left out of a request that is too long is not left out of the quote."""
    if len(text) > TEXT_CHARS_MAX or len(request.lines) >= LINES_MAX:
        why = "it is longer than is read at once: it is sent in parts"
        yield Question("lines", 0, why)


def amended(
    text: str,
    request: Request,
    questions: Sequence[Question],
    answers: Mapping[str, str],
) -> str:
    """The text with answers in the place of the words in question, or at the end."""
    puts: list[tuple[int, int, str]] = []
    for one in questions:
        said = " ".join(answers.get(one.key, "").split())
        if not said:
            continue
        if one.about == "by" and not said.lower().startswith(("by", "before")):
            said = f"by {said}"
        if one.about == "place" and not said.lower().startswith("to "):
            said = f"to {said}"
        if one.words is None or (one.about == "ends" and "only one" in one.why):
            end = _end_of(request.lines[one.line - 1]) if one.line else len(text)
            puts.append((end, end, f", {said}, "))
        elif one.about == "ends" and said in one.choices and "male" in said:
            puts.append((one.words.end, one.words.end, f" {said}"))
        else:
            puts.append((one.words.start, one.words.end, said))
    for start, end, said in sorted(puts, reverse=True):
        text = text[:start] + said + text[end:]
    return text


def _end_of(line: Asked) -> int:
    """Behind the last words that were read of a line."""
    values: list[Read[Any] | None] = [getattr(line, name) for name in FIELDS]
    return max(one.words.end for one in (*values, *line.ends) if one is not None)


def _line(
    line: Asked, text: str, span: tuple[int, int], answers: Mapping[str, str]
) -> Line:
    read = {name: getattr(line, name) for name in FIELDS}
    spots = {
        name: _spot(text, one.words, one.mended) for name, one in read.items() if one
    } | {
        f"end {number}": _spot(text, one.words, one.mended)
        for number, one in enumerate(line.ends, 1)
    }
    said = answers.get(f"{line.number}.parts")
    named = PART.findall(text, *span) if said is None else PART.findall(said)
    return Line(
        number=line.number,
        **{name: one.value if one else None for name, one in read.items()},
        ends=tuple(one.value for one in line.ends),
        named=tuple(dict.fromkeys(named)),
        both=BOTH.search(text[slice(*span)].lower()) is not None,
        spots=spots,
    )


def _open(one: Question, text: str, answers: Mapping[str, str]) -> Open:
    found = Open(
        about=one.about,
        line=one.line,
        why=one.why,
        choices=one.choices,
        spot=_spot(text, one.words) if one.words else None,
    )
    if answers.get(found.key):
        why = f"{one.why}; the answer was not understood"
        return found.model_copy(update={"why": why})
    return found


def _spot(text: str, words: Words, mended: str = "") -> Spot:
    return Spot(
        text=words.text,
        start=words.start,
        end=words.end,
        line=text.count("\n", 0, words.start) + 1,
        mended=mended,
    )


def _one(found: Iterable[str]) -> str:
    """What was found, where it is always the same; else nothing: it is asked."""
    names = list(dict.fromkeys(found))
    return names[0] if len(names) == 1 else ""


def _percent(found: re.Match[str] | None) -> Decimal:
    if found is None:
        return Decimal(0)
    return Decimal((found[1] or found[2]).replace(",", "."))
