"""
Degraded pages whose text is known: what real paper and real cameras do to print.

Four kinds of page (a letter, a dense contract, a receipt with a column of prices, a
ruled table), each in nine states of wear.  Everything is drawn from a seed, and the
truth is the text that was drawn.  Lengths are pixels.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageDraw, ImageFilter, ImageFont

from loadtest.corpora.letters import NAMES, compose
from loadtest.corpora.noise import A5, TYPED, Sheet, grainy, inked, load, shaded

PAPER = (250, 248, 243)
INK = (36, 36, 42)
DENSE = Sheet(1654, 2339, dpi=200, pitch=38)  # A4
RECEIPT_WIDE = 760
TABLE = Sheet(1654, 1400, dpi=200, pitch=44)


@dataclass(frozen=True, slots=True)
class Degraded:
    """One page: its file's bytes (JPEG), and what stands on it."""

    kind: str
    wear: str
    dpi: int
    truth: str
    data: bytes

    @property
    def name(self) -> str:
        """A word for it, such as `receipt-shadow`."""
        return f"{self.kind}-{self.wear}"


def pages(count: int, seed: int) -> Iterator[Degraded]:
    """`count` pages; kinds and wears in turn, so that 36 have each pair once."""
    kinds, wears = list(KINDS), list(WEARS)
    for number in range(count):
        kind = kinds[number % len(kinds)]
        # The lists' lengths share no factor: each kind meets each wear.
        wear = wears[number % len(wears)]
        rng = random.Random(f"degraded:{seed}:{number}")
        drawn, truth, dpi = KINDS[kind](rng)
        worn, quality = WEARS[wear](drawn, rng)
        file = BytesIO()
        worn.save(file, "JPEG", quality=quality, dpi=(dpi, dpi))
        yield Degraded(kind, wear, dpi, truth, file.getvalue())


# -- what is printed ------------------------------------------------------------------

Drawn = tuple[Image.Image, str, int]  # the page, its text, its dpi

CLAUSES = (
    "The Supplier shall deliver the Goods to the address named in Schedule {n} within "
    "{m} working days of the date of the Order.",
    "Either party may terminate this Agreement by giving not less than {m} days of "
    "written notice to the other party.",
    "The Customer shall pay each undisputed invoice within {m} days of its receipt; "
    "interest accrues on late amounts at {n} per cent a year.",
    "Neither party is liable for any delay caused by events beyond its reasonable "
    "control, provided that it gives prompt notice of them.",
    "This Agreement is the entire agreement between the parties and replaces all "
    "earlier drafts, letters and understandings about its subject.",
    "No amendment of this Agreement is effective unless it is in writing and signed "
    "by an authorised person of each party.",
    "Confidential Information remains the property of the party that disclosed it and "
    "shall be returned or destroyed within {m} days of a request.",
    "The total liability of the Supplier under clause {n} shall not exceed the fees "
    "paid in the {m} months before the claim arose.",
    "If any provision is found to be void, the remaining provisions stay in force as "
    "if the void provision had never been included.",
    "The Goods remain at the risk of the Supplier until a person authorised by the "
    "Customer has signed the delivery note.",
    "Notices shall be sent by registered post and are deemed received on the {n}th "
    "working day after posting.",
    "The Supplier warrants that the Goods are free from defects in material and "
    "workmanship for {m} months after delivery.",
)
GOODS = (
    "Brown bread",
    "Oat milk 1L",
    "Green apples",
    "Paper towels",
    "Free range eggs",
    "Coffee beans",
    "Dish soap",
    "Orange juice",
    "Cheddar 400g",
    "Basmati rice",
    "Tomato soup",
    "Dark chocolate",
    "Hand cream",
    "Batteries AA",
    "Envelopes C5",
    "Printer paper",
    "Garden gloves",
    "Light bulb 9W",
    "Peppermint tea",
    "Sunflower oil",
)
SHOPS = (
    "HILLSIDE MARKET",
    "CORNER STORE 24",
    "RIVER BOOKS LTD",
    "NORTH GATE PHARMACY",
    "OLD MILL BAKERY",
    "STATION KIOSK",
)


def letter(rng: random.Random) -> Drawn:
    """A typed letter."""
    text = compose(rng, rng.choice(NAMES), words=rng.randint(120, 180))
    return inked(text, rng.choice(TYPED), A5, rng), text, A5.dpi


def contract(rng: random.Random) -> Drawn:
    """A full page of small print."""
    clauses = [
        f"{number}. " + clause.format(n=rng.randint(2, 9), m=rng.randint(10, 90))
        for number, clause in enumerate(rng.sample(CLAUSES * 2, 20), 1)
    ]
    text = "\n".join(["SUPPLY AGREEMENT", *clauses])
    return inked(text, rng.choice(TYPED[:2]), DENSE, rng), text, DENSE.dpi


def receipt(rng: random.Random) -> Drawn:
    """A till receipt: what was bought on the left, its price far on the right."""
    bought = [
        (f"{rng.randint(1, 4)} x {what}", rng.randint(89, 4999))
        for what in rng.sample(GOODS, rng.randint(8, 14))
    ]
    total = sum(cents for _, cents in bought)
    rows = [(what, money(cents)) for what, cents in bought]
    rows += [("TOTAL", money(total)), ("CASH", money(total + 500))]
    rows += [("CHANGE", money(500))]
    heads = [
        rng.choice(SHOPS),
        f"{rng.randint(1, 200)} Mill Street",
        f"Date: {rng.randint(10, 28)}/0{rng.randint(1, 9)}/2024 Till: 3",
    ]
    font, pitch = load(TYPED[2], rng.choice((14, 17, 20))), 48
    wide, margin = RECEIPT_WIDE, 40
    page = Image.new("RGB", (wide, (len(rows) + len(heads) + 6) * pitch), PAPER)
    draw = ImageDraw.Draw(page)
    y = 2 * pitch
    for head in heads:
        draw.text((wide / 2, y), head, font=font, fill=INK, anchor="ms")
        y += pitch
    for what, price in rows:
        y += pitch
        draw.text((margin, y), what, font=font, fill=INK, anchor="ls")
        draw.text((wide - margin, y), price, font=font, fill=INK, anchor="rs")
    lines = heads + [f"{what} {price}" for what, price in rows]
    return page, "\n".join(lines), 200


def table(rng: random.Random) -> Drawn:
    """A ruled table with a heading: goods, numbers and sums of money."""
    sheet = TABLE
    font = load(TYPED[rng.randint(0, 1)], 16)
    rows = [("Article", "Number", "Price", "Amount")]
    for what in rng.sample(GOODS, rng.randint(12, 18)):
        pieces, cents = rng.randint(2, 90), rng.randint(89, 4999)
        rows.append((what, str(pieces), money(cents), money(pieces * cents)))
    heading = f"Delivery note {rng.randint(10_000, 99_999)}"
    page = Image.new("RGB", (sheet.width, sheet.height), PAPER)
    draw = ImageDraw.Draw(page)
    left, right = sheet.margin, sheet.width - sheet.margin
    y = sheet.margin
    draw.text((left, y), heading, font=font, fill=INK, anchor="ls")
    y += sheet.pitch // 2
    draw.line((left, y, right, y), fill=INK, width=2)
    columns = (left + 20, left + 760, left + 1020, right - 20)
    for row in rows:
        y += sheet.pitch + 10
        place_row(draw, row, columns, y - 14, font)
        draw.line((left, y, right, y), fill=(120, 120, 124), width=2)
    lines = [heading, *(" ".join(row) for row in rows)]
    return page, "\n".join(lines), sheet.dpi


def place_row(
    draw: ImageDraw.ImageDraw,
    row: Sequence[str],
    columns: Sequence[int],
    y: int,
    font: ImageFont.FreeTypeFont,
) -> None:
    """The first cell begins at its column, the others end there."""
    for number, (cell, x) in enumerate(zip(row, columns, strict=True)):
        draw.text((x, y), cell, font=font, fill=INK, anchor="rs" if number else "ls")


def money(cents: int) -> str:
    """12.50"""
    return f"{cents // 100}.{cents % 100:02}"


# -- what happens to it ---------------------------------------------------------------

Worn = tuple[Image.Image, int]  # the page and the JPEG quality it is kept at


def shadow(page: Image.Image, rng: random.Random) -> Worn:
    """A photo in lamplight, with the photographer's shadow across a corner."""
    return cast_shadow(shaded(page, 0.5, rng), rng), 88


def noisy(page: Image.Image, rng: random.Random) -> Worn:
    """High ISO: grain as strong as pale ink."""
    return grainy(page, rng.randint(30, 45), rng), 85


def askew(page: Image.Image, rng: random.Random) -> Worn:
    """Laid crooked on the glass."""
    return crooked(page, rng.choice((-1, 1)) * rng.uniform(1.5, 4.0)), 88


def squeezed(page: Image.Image, rng: random.Random) -> Worn:
    """Sent through a messenger."""
    return page, rng.randint(10, 18)


def faint(page: Image.Image, rng: random.Random) -> Worn:
    """A thermal print after a summer, or the fifth carbon copy."""
    return grainy(pale(page, rng.uniform(0.22, 0.35)), 6, rng), 85


def unsharp(page: Image.Image, rng: random.Random) -> Worn:
    """A hand that shook, or a lens that did not find the page."""
    return page.filter(ImageFilter.GaussianBlur(rng.uniform(1.6, 2.3))), 85


def photo(page: Image.Image, rng: random.Random) -> Worn:
    """In a hurry: shadow, crooked, soft."""
    soft = page.filter(ImageFilter.GaussianBlur(rng.uniform(0.7, 1.2)))
    tilted = crooked(soft, rng.uniform(-2.5, 2.5))
    return cast_shadow(shaded(tilted, 0.45, rng), rng), 60


def night(page: Image.Image, rng: random.Random) -> Worn:
    """A phone in a dim room: shade, grain and a small file."""
    dim = shaded(pale(page, 0.7), 0.4, rng)
    return grainy(dim, rng.randint(14, 20), rng), 45


def copied(page: Image.Image, rng: random.Random) -> Worn:
    """A copy of a copy: pale, crooked, gritty, soft."""
    soft = pale(page, 0.5).filter(ImageFilter.GaussianBlur(1.0))
    return grainy(crooked(soft, rng.uniform(-2.0, 2.0)), 16, rng), 50


def cast_shadow(page: Image.Image, rng: random.Random) -> Image.Image:
    """A soft-edged shadow over a third of the page or more."""
    wide, high = page.size
    mask = Image.new("L", (wide // 8, high // 8), 255)
    x, y = rng.uniform(0.3, 0.7) * wide / 8, rng.uniform(0.3, 0.7) * high / 8
    lean = rng.uniform(-0.3, 0.3) * wide / 8
    side = rng.choice((0, wide // 8))
    corners = [(x - lean, 0), (x + lean, high / 8), (side, high / 8), (side, 0)]
    if rng.random() < 0.4:
        corners = [(0, y + lean), (wide / 8, y - lean), (wide / 8, high / 8)]
        corners.append((0, high / 8))
    ImageDraw.Draw(mask).polygon(corners, fill=round(255 * rng.uniform(0.4, 0.55)))
    mask = mask.filter(ImageFilter.GaussianBlur(rng.uniform(2, 7)))
    dark = Image.new("RGB", page.size)
    return Image.composite(page, dark, mask.resize(page.size, Image.Resampling.BICUBIC))


def crooked(page: Image.Image, degrees: float) -> Image.Image:
    """The page turned on paper of its own colour."""
    colour = page.getpixel((2, 2))
    assert isinstance(colour, tuple)
    return page.rotate(degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=colour)


def pale(page: Image.Image, contrast: float) -> Image.Image:
    """Ink brought closer to paper: `contrast` (0-1) is what is left between them."""
    table = [round(236 - (250 - min(v, 250)) * contrast) for v in range(256)]
    return page.point(table * 3)


KINDS: dict[str, Callable[[random.Random], Drawn]] = {
    "letter": letter,
    "contract": contract,
    "receipt": receipt,
    "table": table,
}
WEARS: dict[str, Callable[[Image.Image, random.Random], Worn]] = {
    "shadow": shadow,
    "grain": noisy,
    "skew": askew,
    "jpeg": squeezed,
    "faint": faint,
    "blur": unsharp,
    "photo": photo,
    "night": night,
    "copy": copied,
}
