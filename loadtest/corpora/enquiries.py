"""
Requests for quotes, of the demo and of tests: what is asked, and what must come of it.

Ten of the demo: seven that can be quoted, one that leaves something open, one that asks
for a large discount, and one for parts that do not bear what flows through them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Literal
from xml.sax.saxutils import escape

from loadtest.corpora.letters import DemoFile, Expect
from loadtest.hostile.bundles import docx, paragraph
from loadtest.vendors.catalogue import catalogue
from loadtest.vendors.sales import customers

PLACES = ("Rotterdam", "Antwerp", "Gdansk", "Bilbao", "Trieste", "Hull", "Houston")
LENGTHS = ("0.8", "1.2", "1.5", "2", "2.4", "3", "4.5", "6")
Kind = Literal["txt", "eml", "pdf", "docx", "png"]
# What can be had and bears it, as buyers write it; counts, lengths and days are drawn.
SOUND = (
    "{n} assemblies of 3/4 inch, {m} m, JIC swivel one end, NPT male the other, "
    "hot oil at 120 °C, 200 bar",
    "{n} x DN 12 hose, {m} m, BSPP female swivel both ends, hydraulic oil at 80 °C, "
    "220 bar",
    "{n} hoses -6, {m} m, JIC female swivel one end, JIC male the other, bio oil "
    "at 70 °C, 180 bar",
    "{n} pcs 1/2 in, {m} metres, BSPP swivel one end, BSPT male the other, "
    "water glycol at 50 °C, 150 bar",
    "{n} assemblies -10, {m} m, JIC female swivel both ends, Skydrol at 80 °C, 120 bar",
    "{n} off 1/4 inch, {m} m, BSPP female both ends, HLP 46 at 60 °C, 4,350 psi",
    "{n} hydrualic hoses 1 inch, {m} m, ORFS female both ends, "
    "mineral oil at 90 °C, 240 bar",
)
# The same as numbers: medium, °C, bar.
ASKED = (
    *(
        ("mineral oil", 120, 200),
        ("mineral oil", 80, 220),
        ("synthetic ester", 70, 180),
    ),
    *(
        ("water glycol", 50, 150),
        ("phosphate ester", 80, 120),
        ("mineral oil", 60, 300),
    ),
    ("mineral oil", 90, 240),
)
OPEN = (
    "{n} assemblies of 1/2 inch, {m} m, JIC swivel one end, NPT the other, oil at 90 °C"
)
KINDS: tuple[Kind, ...] = ("txt", "eml", "pdf", "docx", "png")


@dataclass(frozen=True, slots=True)
class Made:
    """
    A request.

    Attributes:
        expect: How it ends; `code` of what it is held or refused with.
        missing: Keys of the questions that must be asked, and no others.
    """

    text: str
    sender: str
    kind: Kind
    expect: Expect
    code: str = ""
    missing: Sequence[str] = field(default=())

    def written(self) -> bytes:
        """As a file of its kind."""
        match self.kind:
            case "eml":
                return _mail(self)
            case "docx":
                lines = self.text.split("\n")
                return docx("".join(paragraph(escape(line)) for line in lines))
            case "pdf" | "png":
                return _page(self.text, self.kind)
            case _:
                return self.text.encode()


def enquiry_files(folder: Path, *, seed: int = 1) -> list[DemoFile]:
    """Write the ten requests into `folder`, and say what must become of each."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, made in enumerate(requests(seed), 1):
        path = folder / f"request-{number:02}.{made.kind}"
        path.write_bytes(made.written())
        files.append(DemoFile(path, made.expect, made.code or made.kind, made.text))
    return files


def requests(seed: int = 1) -> list[Made]:
    """The ten; the same seed writes the same."""
    dice = random.Random(f"enquiries/{seed}")
    made = [
        _request(dice, [line], KINDS[number % len(KINDS)], "done")
        for number, line in enumerate(SOUND)
    ]
    made.append(
        _request(
            *(dice, [OPEN], "eml", "held", "QUESTIONS_OPEN"),
            missing=("1.ends", "1.bar"),
        )
    )
    cheap = "As agreed with your office we expect 12 % discount."
    made.append(
        _request(dice, SOUND[1:3], "txt", "held", "DISCOUNT_OVER_LIMIT", more=cheap)
    )
    made.append(_request(dice, [_forbidden()], "eml", "rejected", "NOTHING_FITS"))
    return made


@dataclass(frozen=True, slots=True)
class Truth:
    """What a line asks for: assemblies, each so long in mm, and what it must bear."""

    count: int
    length_mm: int
    medium: str
    celsius: int
    bar: int


def sound(dice: random.Random, lines: int) -> tuple[str, dict[str, str], list[Truth]]:
    """A request that can be quoted: its text, the customer, and what it asks for."""
    customer, truths, asked = dice.choice(customers()), [], []
    for number in dice.sample(range(len(SOUND)), lines):
        count, metres = dice.randint(2, 40), dice.choice(LENGTHS)
        asked.append(SOUND[number].format(n=count, m=metres))
        truths.append(Truth(count, round(float(metres) * 1000), *ASKED[number]))
    day = date.today() + timedelta(days=dice.randint(20, 60))
    place = f"Deliver to {dice.choice(PLACES)} by {day:%d.%m.%Y}."
    text = [f"Customer {customer['number']}", "", *(f"{one}." for one in asked), place]
    return "\n".join(text), customer, truths


def _request(
    dice: random.Random,
    lines: Sequence[str],
    kind: Kind,
    expect: Expect,
    code: str = "",
    *,
    more: str = "",
    missing: Sequence[str] = (),
) -> Made:
    customer = dice.choice(customers())
    day = date.today() + timedelta(days=dice.randint(20, 60))
    place = dice.choice(PLACES)
    asked = [
        line.format(n=dice.randint(2, 12), m=dice.choice(LENGTHS)) for line in lines
    ]
    said = [
        "Dear sales team,",
        "",
        "please quote:",
        "",
        *(f"{one}." for one in asked),
        "",
        f"Deliver to {place} by {day:%d.%m.%Y}.",
        *[more] * bool(more),
        "",
        "Kind regards,",
        f"{customer['name']}, customer {customer['number']}",
    ]
    return Made("\n".join(said), customer["mail"], kind, expect, code, missing)


def _forbidden() -> str:
    """A hose of NBR, named with two ends, for what dissolves it."""
    wares = {n: ware.part for n, ware in catalogue().items()}
    hose = next(
        n
        for n, part in wares.items()
        if part.get("standard") == "2SN" and part["materials"] == ["NBR"]
        if part["size"] == 12
    )
    end = next(
        n
        for n, part in wares.items()
        if (part["kind"], part["size"], part.get("series")) == ("fitting", 12, "B")
        if part["materials"] == ["steel"]
        and part["ends"][0]["thread"] == "jic"
        and part["ends"][0]["size"] == 12
    )
    return (
        "{n} assemblies of hose " + hose + " with " + end + " both ends, {m} m, "
        "Skydrol at 60 °C, 100 bar"
    )


def _mail(made: Made) -> bytes:
    mail = EmailMessage()
    mail["From"] = made.sender
    mail["To"] = "sales@house.example"
    mail["Subject"] = "Request for a quote"
    mail.set_content(made.text)
    return mail.as_bytes()


PAGE = """
#set page(paper: "a4", margin: 25mm)
#set text(font: "Libertinus Serif", size: 12pt)
#set par(leading: 0.8em)
#for line in json(bytes(sys.inputs.data)) [#line \\ ]
"""


def _page(text: str, kind: Literal["pdf", "png"]) -> bytes:
    import typst

    fonts = typst.Fonts(include_system_fonts=False, include_embedded_fonts=True)
    compiler = typst.Compiler(PAGE.encode(), font_paths=fonts)
    given = {"data": json.dumps(text.split("\n"))}
    made = compiler.compile(PAGE.encode(), format=kind, ppi=200, sys_inputs=given)
    assert isinstance(made, bytes)
    return made
