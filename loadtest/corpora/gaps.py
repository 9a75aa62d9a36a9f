"""
Requests that leave something open, whose right quote and right answers are known.

Each is made of lines that can be quoted (`enquiries.SOUND`), of which one or two lose a
value, or get a second one.  What was taken out is what the buyer answers.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

from loadtest.corpora.enquiries import ASKED, LENGTHS, PLACES, SOUND, Truth
from loadtest.vendors.sales import customers

SIZE = r"(3/4 inch|DN 12|-6|1/2 in|-10|1/4 inch|1 inch)(?=[, ])"
MEDIUM = r"(hot oil|hydraulic oil|bio oil|water glycol|Skydrol|HLP 46|mineral oil) ?"
LENGTH = r", ([\d.]+) m(etres)?(?=,)"
# What becomes of a line, by what is asked then; `\1` of the first is the answer.
GAPS: tuple[tuple[str, str, str], ...] = (
    ("bar", r", ([\d,]+ (?:bar|psi))$", ""),
    ("bar", r"([\d,]+ (?:bar|psi))$", r"\1 or 60 bar"),
    ("celsius", r" at (\d+ °C)", ""),
    ("celsius", r"(\d+) °C", r"\1 degrees"),
    ("medium", MEDIUM, ""),
    ("length_mm", LENGTH, ""),
    ("length_mm", LENGTH, r", \1 m or 9 m"),
    ("size", SIZE, ""),
    ("size", SIZE, r"\1 or 1 1/4 inch"),
    ("ends", r"(?:NPT|BSPP|BSPT|ORFS) (male|female)(?! swivel)", ""),
)
UNITS = {"celsius": " °C", "length_mm": " m"}
# Who is asked, and what they do: a buyer answers the mail, answers a second time, never
# does, or says nothing by it; of who wrote from no address a clerk is asked.
Manner = Literal["answers", "repeats", "silent", "vague", "clerk"]
MANNERS: tuple[tuple[Manner, int], ...] = (
    *(("answers", 62), ("repeats", 10), ("silent", 7), ("vague", 6), ("clerk", 15)),
)
VAGUE = "as usual, please"


@dataclass(frozen=True, slots=True)
class Gapped:
    """
    A request, what it asks for in truth, and who will say what was left open.

    Attributes:
        shapes: Of each line, which of `enquiries.SOUND` it is.
        answers: By the keys of the questions that must be asked, and no others.
        after: Days from its coming to its answer.
    """

    text: str
    customer: dict[str, str]
    truths: tuple[Truth, ...]
    shapes: tuple[int, ...]
    answers: dict[str, str]
    manner: Manner
    after: float

    @property
    def open_lines(self) -> set[int]:
        """Lines, from 1, of which something is asked."""
        return {int(key.partition(".")[0]) for key in self.answers}


def gapped(dice: random.Random) -> Gapped:
    """A request of one to three lines with one or two gaps, in lines of their own."""
    customer, truths, asked = dice.choice(customers()), [], []
    shapes = dice.sample(range(len(SOUND)), dice.randint(1, 3))
    for shape in shapes:
        count, metres = dice.randint(2, 40), dice.choice(LENGTHS)
        asked.append(SOUND[shape].format(n=count, m=metres))
        truths.append(Truth(count, round(float(metres) * 1000), *ASKED[shape]))
    answers = {}
    gaps = min(len(asked), 1 + (dice.random() < 0.3))
    for at in sorted(dice.sample(range(len(asked)), gaps)):
        fitting = [gap for gap in GAPS if re.search(gap[1], asked[at])]
        about, pattern, instead = dice.choice(fitting)
        asked[at], answers[f"{at + 1}.{about}"] = _with_gap(
            asked[at], about, pattern, instead
        )
    [manner] = dice.choices([m for m, _ in MANNERS], [n for _, n in MANNERS])
    by = date.today() + timedelta(days=dice.randint(20, 60))
    text = [
        *[f"From: Purchasing <{customer['mail']}>"] * (manner != "clerk"),
        f"Customer {customer['number']}",
        "",
        *(f"{one}." for one in asked),
        f"Deliver to {dice.choice(PLACES)} by {by:%d.%m.%Y}.",
    ]
    after = dice.uniform(0.5, 4.5)  # before the five that a buyer has are over
    return Gapped(
        "\n".join(text),
        customer,
        tuple(truths),
        tuple(shapes),
        answers,
        manner,
        after,
    )


def _with_gap(line: str, about: str, pattern: str, instead: str) -> tuple[str, str]:
    """The line with its gap, and what fills it."""
    found = re.search(pattern, line)
    assert found is not None
    said = found[1]
    if about == "ends":  # the thread alone stays
        made = line[: found.start()] + found[0].split()[0] + line[found.end() :]
        return made, said
    unit = UNITS.get(about, "")
    said += unit if unit.strip() not in said.split() else ""
    return line[: found.start()] + found.expand(instead) + line[found.end() :], said
