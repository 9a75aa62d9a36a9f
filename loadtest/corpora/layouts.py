"""
Pages whose words must be read in an order: columns of prose, and forms.

The truth is the text in the order a person reads it.  Drawn from a seed; lengths are
pixels.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageDraw, ImageFont

from loadtest.corpora.degrade import CLAUSES, INK, PAPER, crooked, money
from loadtest.corpora.letters import NAMES
from loadtest.corpora.noise import TYPED, grainy, load

WIDE, HIGH, DPI = 1654, 2339, 200  # A4
MARGIN, PITCH, GUTTER = 130, 34, 60
HEADLINES = (
    "Harbour opens its new quay",
    "Annual report of the library",
    "Members elect a new chair",
    "Notes on the spring flood",
)
FIELDS = (
    ("Family name", ("Okafor", "Lindqvist", "Marchetti", "Novak")),
    ("Given name", NAMES),
    ("Date of birth", ("12.04.1961", "03.11.1987", "28.02.1974", "19.09.1990")),
    ("Street and number", ("Mill Lane 14", "Harbour Road 203", "Church Square 7")),
    ("Postcode", ("20457", "8004", "1010", "75011")),
    ("Town", ("Hamburg", "Lisbon", "Graz", "Tromso", "Ghent")),
    ("Telephone", ("+44 20 7946 0301", "+49 30 5550 118", "+33 1 5550 9021")),
    ("Account number", ("DE02120300000000202051", "70-9481-3312", "55-1180-2207")),
    ("Amount paid", ("1,204.50", "87.95", "310.00", "12.40")),
    ("Reference", ("KX-48213", "ZB-90077", "QA-11846")),
)


@dataclass(frozen=True, slots=True)
class Laid:
    """One page as a JPEG, and its text as it is read."""

    kind: str  # `columns` or `forms`
    dpi: int
    truth: str
    data: bytes


def pages(count: int, seed: int) -> Iterator[Laid]:
    """`count` pages of each kind; every other one is worn as a scan is."""
    for kind, draw in KINDS.items():
        for number in range(count):
            rng = random.Random(f"laid:{seed}:{kind}:{number}")
            page, truth = draw(rng)
            if number % 2:
                page = grainy(crooked(page, rng.uniform(-1.5, 1.5)), 10, rng)
            file = BytesIO()
            page.save(file, "JPEG", quality=80, dpi=(DPI, DPI))
            yield Laid(kind, DPI, truth, file.getvalue())


def columns(rng: random.Random) -> tuple[Image.Image, str]:
    """A headline across two or three columns of prose, as in a newsletter."""
    count, font = rng.choice((2, 2, 3)), load(TYPED[rng.randint(0, 1)], 13)
    headline = rng.choice(HEADLINES)
    page = Image.new("RGB", (WIDE, HIGH), PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((MARGIN, 190), headline, font=load(TYPED[0], 26), fill=INK, anchor="ls")
    wide = (WIDE - 2 * MARGIN - (count - 1) * GUTTER) / count
    said = [headline]
    lines_max = rng.randint(18, 46)
    for number in range(count):
        prose = " ".join(
            clause.format(n=rng.randint(2, 9), m=rng.randint(10, 90))
            for clause in rng.sample(CLAUSES, 10)
        )
        lines = wrapped(prose, font, wide)[: lines_max - rng.randint(0, 3)]
        x = MARGIN + number * (wide + GUTTER)
        for row, line in enumerate(lines):
            at = (x, 270 + row * PITCH)
            draw.text(at, line, font=font, fill=INK, anchor="ls")
        said += lines
    return page, "\n".join(said)


def forms(rng: random.Random) -> tuple[Image.Image, str]:
    """Fields two in a row, each a label and what was filled in beside it."""
    label, filled = load(TYPED[1], 12), load(TYPED[2], 15)
    page = Image.new("RGB", (WIDE, HIGH // 2), PAPER)
    draw = ImageDraw.Draw(page)
    title = f"Application form {rng.randint(100, 999)}"
    draw.text((MARGIN, 130), title, font=load(TYPED[1], 22), fill=INK, anchor="ls")
    fields = rng.sample(FIELDS, rng.randint(6, 10))
    fields = fields[: len(fields) // 2 * 2]
    said, half = [title], (WIDE - 2 * MARGIN) // 2
    for number, (name, values) in enumerate(fields):
        x, y = MARGIN + number % 2 * half, 240 + number // 2 * 90
        value = rng.choice(values)
        draw.text((x, y), f"{name}:", font=label, fill=INK, anchor="ls")
        draw.text((x + 250, y), value, font=filled, fill=(40, 40, 130), anchor="ls")
        draw.line((x + 240, y + 10, x + half - 40, y + 10), fill=(120, 120, 124))
        said.append(f"{name}: {value}")
    y = 240 + len(fields) // 2 * 90 + 60
    total = f"Total due: {money(rng.randint(1000, 99_999))}"
    draw.text((MARGIN, y), total, font=label, fill=INK, anchor="ls")
    return page, "\n".join([*said, total])


KINDS: dict[str, Callable[[random.Random], tuple[Image.Image, str]]] = {
    "columns": columns,
    "forms": forms,
}


def wrapped(text: str, font: ImageFont.FreeTypeFont, wide: float) -> list[str]:
    """Lines of words that are at most `wide`."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= wide:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
