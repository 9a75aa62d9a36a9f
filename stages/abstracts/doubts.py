"""
What of a contract a lawyer must look at, and what is laid before them.

Doubtful is what no reader is sure of, what two readers see differently, what is
required and was not found, and a check that failed.  What a person has ruled on is
doubtful no more; a check is made anew with what that person said.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from stages.abstracts.forms import MODEL, Check, Cited, Clause, Gap
from stages.clauses.rulebook import ClauseType

AROUND_CHARS = 90  # of the document on either side of a quote
BLANK = re.compile(r"\s")
QUOTES_SHOWN = 3  # of one clause
CHECK_QUOTES = 4  # of a check that failed
TEXT_CHARS_MAX = 700  # of a quote on a screen; the record has all of it
NAMED_MAX = 6  # doubts in one sentence
PAGES_MAX = 12  # in question, as files on the desk


class Doubt(NamedTuple):
    """A type of clause, or a check, that a person must rule on."""

    name: str
    why: str


def doubts_of(
    clauses: Mapping[str, Clause],
    types: Sequence[ClauseType],
    checks: Sequence[Check],
    ruled: Collection[str],
    below: float,
) -> list[Doubt]:
    """
    What is doubtful: types in the order of their files, then checks.

    Args:
        ruled: Types that a person has ruled on.
        below: Confidence of a verdict under which it is doubtful.
    """
    found = [
        Doubt(one.name, why)
        for one in types
        if one.name in clauses
        and one.name not in ruled
        and (why := _why(clauses[one.name], one, below))
    ]
    failed = [one for one in checks if one.ok is False and not one.accepted]
    return [*found, *(Doubt(check.name, check.why) for check in failed)]


def _why(clause: Clause, of: ClauseType, below: float) -> str:
    if clause.disputed:
        said = ", ".join(f"{name}: {v}" for name, v in clause.opinions.items())
        return f"its readers disagree ({said})"
    if clause.verdict == "unclear" and not clause.quotes:
        if MODEL in clause.opinions:
            return "the model is not sure, and no rule found it"
        return "the contract is too long to be read to its end; so far it has none"
    if clause.verdict == "unclear":
        return "something was found that the rules do not trust"
    if clause.verdict == "absent" and of.required:
        return "it is required, and no reader found it"
    if clause.confidence < below:
        return f"its confidence is {clause.confidence:.2f}"
    return ""


def sentence(found: Sequence[Doubt], gaps: int) -> str:
    """Why the contract is held, in one line without a word of it."""
    names = [doubt.name for doubt in found]
    more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
    said = f"{', '.join(names[:NAMED_MAX])}{more}"
    unread = f"; {gaps} types could not be read" if gaps else ""
    return f"{len(found)} to rule on: {said}{unread}."


def evidence(
    found: Sequence[Doubt],
    clauses: Mapping[str, Clause],
    types: Sequence[ClauseType],
    checks: Sequence[Check],
    text: str,
    *,
    gaps: Sequence[Gap] = (),
    refused: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """What a reviewer is shown: each doubt with its quotes, their pages and boxes."""
    titles = {one.name: one for one in types}
    failed = {one.name: one.about for one in checks}
    shown: list[dict[str, Any]] = []
    pages: list[int] = []
    for name, why in found:
        clause = clauses.get(name)
        if clause is None:
            about = failed.get(name, ())
            placed = _by_place(about, clauses)
            pages += [quote.page for quote, _ in placed]
            shown.append(
                {
                    "rule_on": name,
                    "check": why,
                    "about": ", ".join(about),
                    "quotes": [
                        {"of": ", ".join(types_), **_shown(quote, text)}
                        for quote, types_ in placed[:CHECK_QUOTES]
                    ],
                }
            )
            continue
        pages += [quote.page for quote in clause.quotes]
        shown.append(
            {
                "rule_on": name,
                "title": titles[name].title,
                "why": why,
                "verdict": clause.verdict,
                **({"value": clause.value.text} if clause.value else {}),
                "quotes": [_shown(q, text) for q in clause.quotes[:QUOTES_SHOWN]],
            }
        )
    laid: dict[str, Any] = {"doubts": shown}
    if refused:
        laid["refused"] = dict(refused)
    if gaps:
        laid["gaps"] = [gap.model_dump(mode="json") for gap in gaps]
    others = sorted(titles.keys() - {doubt.name for doubt in found})
    laid["types"] = ", ".join(others)
    numbers = list(dict.fromkeys(pages))[:PAGES_MAX]
    laid["pages"] = [{"number": number} for number in numbers]
    return laid


def _by_place(
    about: Sequence[str], clauses: Mapping[str, Clause]
) -> list[tuple[Cited, list[str]]]:
    """The first quote of each type, each place once, with the types that it is of."""
    found: dict[tuple[int, int], tuple[Cited, list[str]]] = {}
    for name in about:
        for quote in clauses[name].quotes[:1]:
            _, types = found.setdefault((quote.start, quote.end), (quote, []))
            types.append(name)
    return list(found.values())


def _shown(quote: Cited, text: str) -> dict[str, Any]:
    """A quote among its neighbours, marked; its boxes are for who draws them."""
    start, end = max(0, quote.start - AROUND_CHARS), quote.end + AROUND_CHARS
    cut = min(quote.end, quote.start + TEXT_CHARS_MAX)
    end = min(len(text), end, cut + AROUND_CHARS)
    # Neighbours begin and end with whole words.
    if start and not text[start - 1].isspace():
        gap = BLANK.search(text, start, quote.start)
        start = gap.end() if gap else quote.start
    if end < len(text) and not text[end].isspace():
        last = max(text.rfind(" ", cut, end), text.rfind("\n", cut, end))
        end = max(last, cut)
    around = text[start:end]
    return {
        "page": quote.page,
        "readers": list(quote.readers),
        "text": around,
        "marked": [quote.start - start, cut - start],
        "boxes": list(_boxes(quote)),
    }


def _boxes(quote: Cited) -> Iterator[dict[str, Any]]:
    for spot in quote.spots:
        yield spot.model_dump(mode="json")
