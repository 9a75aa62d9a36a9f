"""
What became of requests that left something open: counted by whoever did not do it.

Which questions the ERP must be asked, and which of them wait for the buyer's answer, is
said here a second time, from what each request asks for in truth.  Nothing of
`stages/quoting` and `stages/enquiries` is looked at.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from loadtest.corpora.enquiries import Truth
from loadtest.corpora.gaps import Gapped

# Of each shape of a line, in order: its bore, and thread and gender of its two ends.
SHAPES: tuple[tuple[int, str], ...] = (
    *((12, "jic female, npt male"), (8, "bspp female, bspp female")),
    *((6, "jic female, jic male"), (8, "bspp female, bspt male")),
    *((10, "jic female, jic female"), (4, "bspp female, bspp female")),
    (16, "orfs female, orfs female"),
)
INCH = {4: "1/4", 6: "3/8", 8: "1/2", 10: "5/8", 12: "3/4", 16: "1"}
LOOKED_UP = ("lines", "lookup")  # stages that ask what there is
Question = tuple[str, frozenset[tuple[str, str]]]
SAID = re.compile(
    r"hose (?P<size>[\d /]+) in, (?P<m>[\d.]+) m, (?P<ends>.+); (?P<medium>.+) at up "
    r"to (?P<c>-?[\d.]+) °C, (?P<bar>[\d.]+) bar"
)


class Asked(NamedTuple):
    """A call in the ERP's book: when, its key, what for; good: it was answered."""

    at: float
    key: str
    path: str
    query: str
    good: bool

    @property
    def question(self) -> Question:
        """What was asked, in whatever order it was written."""
        said = parse_qs(self.query)
        return self.path.strip("/"), frozenset((k, v[-1]) for k, v in said.items())


class Step(NamedTuple):
    """Calls of one step in the service's ledger, and those that came to nothing."""

    item: int
    stage: str
    name: str
    void: int

    @property
    def key(self) -> str:
        """By which the ERP knows its calls."""
        said = f"{self.item}/{self.stage}/{self.name}/erp"
        return hashlib.sha256(said.encode()).hexdigest()[:32]


@dataclass(slots=True)
class Case:
    """
    One request, and what was asked of people and said by them.

    Attributes:
        mails: Keys of the questions of each mail that came.
        holds: The same of each hold.
        answered_at: When somebody first said something, in seconds since 1970.
        said: What counts of it, by key.
    """

    request: Gapped
    mails: list[set[str]] = field(default_factory=list)
    holds: list[set[str]] = field(default_factory=list)
    answered_at: float | None = None
    said: dict[str, str] = field(default_factory=dict)

    @property
    def holds_due(self) -> int:
        """A clerk is asked where the buyer got no mail, or did not answer it."""
        alone = self.request.manner in ("answers", "repeats") and self.mails
        return 0 if alone else 1


def needed(request: Gapped, lines: Iterable[int]) -> Counter[Question]:
    """What the ERP must be asked for these lines, from 1: a hose and two ends each."""
    found: Counter[Question] = Counter()
    for line in lines:
        bore, ends = SHAPES[request.shapes[line - 1]]
        found["parts", frozenset({("kind", "hose"), ("size", str(bore))})] += 1
        for end in ends.split(", "):
            thread, gender = end.split()
            asked = {("kind", "fitting"), ("size", str(bore)), ("end_size", str(bore))}
            asked |= {("thread", thread), ("gender", gender)}
            found["parts", frozenset(asked)] += 1
    return found


def of_customer(request: Gapped) -> Counter[Question]:
    """Who asks, by number; by the address too, before a mail goes there."""
    one = request.customer
    found = Counter({("customers", frozenset({("number", one["number"])})): 1})
    if request.manner != "clerk":
        found["customers", frozenset({("mail", one["mail"])})] += 1
    return found


def calls_of(
    asked: Sequence[Asked], steps: Sequence[Step], cases: Mapping[int, Case]
) -> Counter[str]:
    """
    `assumed` and `redone_needlessly`, by what the ERP was asked and when.

    Args:
        asked: The ERP's book, in its order.
        steps: The service's ledger, which says what is known by which key, and which
            calls had to be made again.
    """
    found: Counter[str] = Counter()
    by_key = {step.key: step for step in steps}
    calls: dict[int, list[tuple[Step, Asked]]] = defaultdict(list)
    for key, rows in _grouped(asked).items():
        step = by_key.get(key)
        if step is None:
            found["unattributed"] += len(rows)
            continue
        good = [row for row in rows if row.good]
        # Of calls that came to nothing, some had an answer that nobody kept: its worker
        # was killed, or it came too late.
        again = max(0, step.void - (len(rows) - len(good)))
        kept = good[min(again, max(0, len(good) - 1)) :]
        calls[step.item] += [(step, row) for row in kept]
    for item, of in cases.items():
        found += _of_item(of, calls[item])
    return found


def _of_item(of: Case, calls: Sequence[tuple[Step, Asked]]) -> Counter[str]:
    request, found = of.request, Counter[str]()
    numbers = set(range(1, len(request.truths) + 1))
    who = of_customer(request)
    all_of_it = needed(request, numbers) + who
    whole = needed(request, numbers - request.open_lines) + who
    at = of.answered_at
    lookups = [row for step, row in calls if step.stage in LOOKED_UP]
    priced = [(step, row) for step, row in calls if step.stage not in LOOKED_UP]
    early = [row.question for row in lookups if at is None or row.at < at]
    # Ahead of the answer: somebody took it for granted.
    found["assumed"] += sum((Counter(early) - whole).values())
    found["assumed"] += sum(at is None or row.at < at for _, row in priced)
    redone = Counter(row.question for row in lookups) - all_of_it
    found["redone_needlessly"] += sum(redone.values())
    steps = Counter(step for step, _ in priced)
    found["redone_needlessly"] += sum(steps.values()) - len(steps)
    found["lookups"] += len(lookups)
    found["lookups_after_the_answer"] += len(lookups) - len(early)
    return found


def asking_of(cases: Iterable[Case]) -> Counter[str]:
    """`asked_twice`, and `asked_wrong`: of what was said, or not of what was not."""
    found: Counter[str] = Counter()
    for of in cases:
        mails, holds = len(of.mails), len(of.holds)
        found["asked_twice"] += max(0, mails - 1) + max(0, holds - of.holds_due)
        found["never_asked"] += not mails and not holds
        found["asked_wrong"] += sum(
            keys != of.request.answers.keys() for keys in (*of.mails, *of.holds)
        )
        found["asked_by_mail"] += mails > 0
        found["asked_by_clerk"] += holds > 0
    return found


def values_assumed(record: Mapping[str, Any], of: Case) -> int:
    """How many values of a QUOTE.json are neither the request's nor the answer's."""
    wrong = len(record["answers"].items() ^ of.said.items())
    for line, truth, shape in zip(
        record["lines"], of.request.truths, of.request.shapes, strict=False
    ):
        said = SAID.fullmatch(line["asked"])
        if said is None:
            wrong += 1
            continue
        bore, ends = SHAPES[shape]
        read = [
            re.sub(r" swivel| [\d /]+ in$", "", end).lower()
            for end in said["ends"].split(" × ")
        ]
        wrong += sum(
            (
                line["count"] != truth.count,
                said["size"] != INCH[bore],
                ", ".join(read) != ends,
                *_figures(said, truth),
            )
        )
    return wrong


def _figures(said: re.Match[str], truth: Truth) -> tuple[bool, ...]:
    return (
        round(float(said["m"]) * 1000) != truth.length_mm,
        said["medium"] != truth.medium,
        round(float(said["c"])) != truth.celsius,
        abs(float(said["bar"]) - truth.bar) > 0.5,  # psi are not whole bar
    )


def _grouped(asked: Sequence[Asked]) -> dict[str, list[Asked]]:
    found: dict[str, list[Asked]] = defaultdict(list)
    for row in asked:
        found[row.key].append(row)
    return found
