"""
Scoring: what was found against what is known, as rates with their intervals.

A finding is right when its type is in the document and one of its quotes has half the
words of a labelled span (labels.py).  What is `unclear`, and what an item that failed
never said, is neither present nor absent: it was not found.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from waybill.evals.findings import Found
from waybill.evals.labels import Label, same_value, touches

Z = 1.959964  # of 95 %
LINE_END = re.compile(r"\r\n|\r|\f")


@dataclass(slots=True)
class Tally:
    """
    What was counted, of one type or of all.

    Attributes:
        labelled, unlabelled: Documents in which the type is, and is not.
        right, wrong: Found in one that has it: there, or elsewhere.
        fabricated: Found in one that has it not.
        wrongly_absent: Said to be absent, or not said at all, where it is.
        unclear: Said to be unclear, wherever.
        unanswered: Where it is, and the item failed.
        quotes, exact: Quotes given, and those that stand in the document word for word.
        valued, values_right: Right ones that have a labelled value, and found it.
    """

    labelled: int = 0
    unlabelled: int = 0
    right: int = 0
    wrong: int = 0
    fabricated: int = 0
    wrongly_absent: int = 0
    unclear: int = 0
    unanswered: int = 0
    quotes: int = 0
    exact: int = 0
    valued: int = 0
    values_right: int = 0

    def add(self, other: Tally) -> None:
        """Count what the other has counted too."""
        for name in NAMES:
            setattr(self, name, getattr(self, name) + getattr(other, name))


NAMES = tuple(f.name for f in fields(Tally))


class Share(NamedTuple):
    """So many of so many."""

    hits: float
    of: float

    @property
    def rate(self) -> float | None:
        """None of nothing."""
        return self.hits / self.of if self.of else None


def graded(label: Label, found: Found | None, document: str | None) -> Tally:
    """
    One type in one document, counted.

    Args:
        found: None: nothing was said of it.
        document: The text in which quotes are looked for; None: the item failed.
    """
    t = Tally(labelled=int(label.present), unlabelled=int(not label.present))
    if document is None:
        t.unanswered = int(label.present)
        return t
    if found is None or found.verdict == "absent":
        t.wrongly_absent = int(label.present)
        return t
    t.quotes = len(found.quotes)
    t.exact = sum(quote in document for quote in map(plain, found.quotes))
    if found.verdict == "unclear":
        t.unclear = 1
    elif not label.present:
        t.fabricated = 1
    elif not any(touches(quote, label.spans) for quote in found.quotes):
        t.wrong = 1
    else:
        t.right = 1
        if label.value is not None:
            t.valued = 1
            t.values_right = int(any(same_value(label.value, v) for v in found.values))
    return t


def plain(text: str) -> str:
    """
    The same, its lines ended in one way.

    A form feed is a line's end too: one stands between the pages of `text`, where a
    document that is a text has an ordinary line break.
    """
    return LINE_END.sub("\n", text)


def shares(t: Tally) -> dict[str, Share]:
    """The rates of a tally, by name."""
    found = t.right + t.wrong + t.fabricated
    return {
        "precision": Share(t.right, found),
        "recall": Share(t.right, t.labelled),
        "f1": f1(t.right, found, t.labelled),
        "exact_quote": Share(t.exact, t.quotes),
        "wrong": Share(t.wrong, t.labelled),
        "fabricated": Share(t.fabricated, t.unlabelled),
        "wrongly_absent": Share(t.wrongly_absent, t.labelled),
        "unclear": Share(t.unclear, t.labelled + t.unlabelled),
        "values_right": Share(t.values_right, t.valued),
    }


def f1(right: int, found: int, labelled: int) -> Share:
    """As if it were a share: of right ones among them and half of all mistakes."""
    return Share(right, (found + labelled) / 2)


def as_data(named: Mapping[str, Share]) -> dict[str, Any]:
    """Rates as data: a number each, and beside them their intervals."""
    return {
        **{name: rounded(share.rate) for name, share in named.items()},
        "intervals": {
            name: [rounded(end) for end in wilson(*share)]
            for name, share in named.items()
            if share.of
        },
    }


def rounded(rate: float | None) -> float | None:
    """To four places: what is finer is noise of thousands of cases."""
    return None if rate is None else round(rate, 4)


def wilson(hits: float, of: float) -> tuple[float, float]:
    """
    Wilson's interval of a share, at 95 %; of nothing everything.

    Honest where the plain one is not: of few, and near 0 and 1.
    """
    if of <= 0:
        return 0.0, 1.0
    rate = hits / of
    middle = rate + Z * Z / (2 * of)
    half = Z * math.sqrt(rate * (1 - rate) / of + Z * Z / (4 * of * of))
    scale = 1 + Z * Z / of
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def spread(rates: Iterable[float | None]) -> list[float] | None:
    """The least, the greatest and the standard deviation of repeats; None of none."""
    known = [rate for rate in rates if rate is not None]
    if not known:
        return None
    mean = sum(known) / len(known)
    deviation = math.sqrt(sum((rate - mean) ** 2 for rate in known) / len(known))
    return [round(x, 4) for x in (min(known), max(known), deviation)]


def agreement(said: Iterable[list[str]]) -> Share:
    """Of the pairs of repeats of one question, those that answered the same."""
    same = pairs = 0
    for a, b in _pairs(said):
        pairs += 1
        same += a == b
    return Share(same, pairs)


def _pairs(said: Iterable[list[str]]) -> Iterator[tuple[str, str]]:
    for answers in said:
        for at, answer in enumerate(answers):
            for other in answers[at + 1 :]:
                yield answer, other
