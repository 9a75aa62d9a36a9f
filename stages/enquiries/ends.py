"""What a line of a request says of the two ends: thread, gender, size."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stages.enquiries import numbers
from stages.enquiries.forms import Question, Read, Words
from stages.enquiries.mending import Mended
from stages.fitting.parts import End, Gender
from stages.fitting.rulebook import RuleBook

FORMS = r"male|female|swivel(?:ling)?|fixed|straight"
BOTH = re.compile(r"\b(?:both|each) (?:ends?|sides?)\b|\bon both\b")
SIZE = r"-\d{1,2}|(?:\d{1,2}[ -])?\d{1,2}/\d{1,2}|\d?[¼½¾⅛⅜⅝]"


@dataclass(frozen=True, slots=True)
class Mention:
    """
    A thread that a line names.

    Attributes:
        threads: Those that are called so; one, or it means several.
        genders: Those that are said, also by a swivel nut.
        size: Its own, in sixteenths of an inch; None: none is said.  0: none that is.
        start, end: In the mended text.
    """

    threads: tuple[str, ...]
    genders: tuple[Gender, ...]
    swivel: bool
    size: int | None
    start: int
    end: int


def mentions_of(
    page: Mended, start: int, end: int, rules: RuleBook
) -> Iterator[Mention]:
    """Every thread that is named between two places, in their order."""
    called: dict[str, list[str]] = {}
    for thread in rules.threads.values():
        for word in thread.words:
            called.setdefault(word, []).append(thread.name)
    if not called:
        return
    longest = sorted(called, key=len, reverse=True)
    names = "|".join(re.escape(word) for word in longest)
    pattern = re.compile(
        rf"(?:(?<![\w./,])(?P<size>{SIZE})(?: ?(?:\"|in\b|inch(?:es)?\b))? )?"
        rf"(?P<before>(?:(?:{FORMS}) )*)\b(?P<name>{names})(?!\w)°?"
        rf"(?P<after>(?: (?:{FORMS})\b)*)"
    )
    for found in pattern.finditer(page.text, start, end):
        threads = tuple(called[found["name"]])
        said = f"{found['before']} {found['after']}"
        swivel = "swivel" in said
        genders: list[Gender] = []
        if re.search(r"\bmale\b", said):
            genders.append("male")
        if "female" in said:
            genders.append("female")
        if not genders and swivel and len(threads) == 1:
            nut = rules.threads[threads[0]].swivel
            genders += [nut] if nut else []
        size = _size(found["size"])
        yield Mention(threads, tuple(genders), swivel, size, found.start(), found.end())


def _size(said: str | None) -> int | None:
    if said is None:
        return None
    try:
        return int(said[1:]) if said.startswith("-") else numbers.dash_of(said)
    except ValueError:
        return 0


def read_ends(
    number: int,
    page: Mended,
    span: tuple[int, int],
    mentions: Sequence[Mention],
    size: int | None,
) -> tuple[tuple[Read[End], ...], Question | None]:
    """
    The two ends, or what must be asked of them.

    Args:
        span: Where the line stands in the mended text.
        size: The hose's, which an end without one of its own has; None: not known.
    """
    both = BOTH.search(page.text, *span) is not None
    if not mentions:
        return (), Question("ends", number, "no end is named")
    wanted = 1 if both else 2
    if len(mentions) != wanted:
        why = {1: "only one end is named"}.get(
            len(mentions), f"{len(mentions)} ends are named"
        )
        if both:
            why = "both ends are spoken of, and several are named"
        return (), Question("ends", number, why, words=_words(page, mentions))
    for one in mentions:
        question = _open(number, page, one)
        if question is not None:
            return (), question
    read = [end for one in mentions if (end := _end(page, one, size)) is not None]
    if len(read) < len(mentions):
        return (), None  # the size is asked for already
    return tuple(read * 2 if both else read), None


def _open(number: int, page: Mended, one: Mention) -> Question | None:
    """What must be asked of one end."""
    words = page.words(one.start, one.end)
    if len(one.threads) > 1:
        why = "this name is that of several threads"
        return Question("ends", number, why, one.threads, words)
    if len(one.genders) != 1:
        why = "male or female is not said" if not one.genders else "both are said"
        return Question("ends", number, why, ("male", "female"), words)
    if one.size == 0:
        return Question("ends", number, "there is no such size", words=words)
    return None


def _end(page: Mended, one: Mention, size: int | None) -> Read[End] | None:
    own = size if one.size is None else one.size
    if own is None:
        return None
    end = End(thread=one.threads[0], size=own, gender=one.genders[0], swivel=one.swivel)
    words = page.words(one.start, one.end)
    return Read(end, words, page.slip(one.start, one.end))


def _words(page: Mended, mentions: Sequence[Mention]) -> Words:
    return page.words(mentions[0].start, mentions[-1].end)
