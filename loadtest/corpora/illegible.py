"""
Pages that nobody can read, and blank ones: what a reader must not make words of.

Each is drawn on A5 by a `random.Random` that the caller seeds.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from PIL import Image, ImageDraw, ImageFilter

from loadtest.corpora.noise import (
    A5,
    HAND,
    TYPED,
    blank,
    grainy,
    inked,
    shaded,
    smudged,
)

Draw = Callable[[str, random.Random], Image.Image]


# -- unreadable -----------------------------------------------------------------------


def soaked(text: str, rng: random.Random) -> Image.Image:
    """A letter left in the rain and scribbled over."""
    return smudged(text, rng.choice(HAND), A5, rng)


def blurred(text: str, rng: random.Random) -> Image.Image:
    """Out of focus beyond repair."""
    drawn = inked(text, rng.choice(TYPED), A5, rng)
    return grainy(drawn.filter(ImageFilter.GaussianBlur(rng.uniform(11, 15))), 6, rng)


def tiny(text: str, rng: random.Random) -> Image.Image:
    """Photographed from across the room: letters of two pixels."""
    drawn = inked(text, rng.choice(TYPED), A5, rng)
    small = drawn.resize((A5.width // 11, A5.height // 11), Image.Resampling.BOX)
    return grainy(small.resize(drawn.size, Image.Resampling.BICUBIC), 6, rng)


def struck(text: str, rng: random.Random) -> Image.Image:
    """Every line struck out with a thick pen, several times."""
    drawn = inked(text, rng.choice(TYPED), A5, rng)
    draw = ImageDraw.Draw(drawn)
    for y in range(A5.pitch, A5.height, 13):
        wave = [(x, y + rng.uniform(-9, 9)) for x in range(40, A5.width - 40, 23)]
        draw.line(wave, fill=(30, 30, 60), width=rng.randint(6, 9))
    return grainy(drawn, 8, rng)


def scribble(_text: str, rng: random.Random) -> Image.Image:
    """Lines of joined loops: handwriting in no alphabet."""
    sheet = Image.new("RGB", (A5.width, A5.height), (246, 243, 236))
    draw = ImageDraw.Draw(sheet)
    for y in range(A5.margin, A5.height - A5.margin, A5.pitch):
        x = float(A5.margin)
        while x < A5.width - A5.margin - 90:
            long = rng.uniform(40, 190)
            points, at = [], x
            while at < x + long:
                points.append((at, y + rng.choice((-22, -9, -8, 8, 9)) * rng.random()))
                at += rng.uniform(2, 8)
            draw.line(points, fill=(40, 42, 80), width=3, joint="curve")
            x += long + rng.uniform(14, 30)
    return grainy(shaded(sheet, 0.85, rng), 8, rng)


def speckled(_text: str, rng: random.Random) -> Image.Image:
    """A copier's nightmare: black specks of every size, and nothing else."""
    sheet = Image.new("RGB", (A5.width, A5.height), "white")
    draw = ImageDraw.Draw(sheet)
    for _ in range(5200):
        x, y, r = rng.randrange(A5.width), rng.randrange(A5.height), rng.randint(1, 5)
        draw.ellipse((x, y, x + r, y + r * rng.uniform(0.5, 2)), fill="black")
    return sheet


def drawing(_text: str, rng: random.Random) -> Image.Image:
    """A child's picture: a house, a sun, no word."""
    sheet = Image.new("RGB", (A5.width, A5.height), "white")
    draw = ImageDraw.Draw(sheet)
    for _ in range(rng.randint(6, 11)):
        x, y = rng.randrange(80, A5.width - 380), rng.randrange(80, A5.height - 380)
        w, h = rng.randint(80, 300), rng.randint(80, 300)
        shape = rng.choice((draw.rectangle, draw.ellipse))
        shape((x, y, x + w, y + h), outline=(60, 40, 120), width=rng.randint(4, 9))
        draw.line((x, y + h, x + w, y), fill=(160, 60, 30), width=5)
    return grainy(sheet, 6, rng)


UNREADABLE: tuple[Draw, ...] = (
    soaked,
    blurred,
    tiny,
    struck,
    scribble,
    speckled,
    drawing,
)

# -- blank ----------------------------------------------------------------------------


def photographed(_text: str, rng: random.Random) -> Image.Image:
    """An empty sheet by lamplight."""
    return blank(A5, rng)


def shadowed(_text: str, rng: random.Random) -> Image.Image:
    """The shadow of a hand across it."""
    sheet = Image.new("RGB", (A5.width, A5.height), (238, 234, 226))
    dark = Image.new("L", sheet.size, 255)
    draw = ImageDraw.Draw(dark)
    x, y = rng.randrange(A5.width), rng.randrange(A5.height)
    draw.ellipse((x - 400, y - 500, x + 400, y + 500), fill=150)
    dark = dark.filter(ImageFilter.GaussianBlur(90))
    return grainy(Image.composite(sheet, sheet.point(lambda v: v * 0.6), dark), 8, rng)


def scanned(_text: str, rng: random.Random) -> Image.Image:
    """A scanner's grain and the dark edge of its lid."""
    sheet = Image.new("RGB", (A5.width, A5.height), "white")
    draw = ImageDraw.Draw(sheet)
    edge = rng.randint(6, 20)
    draw.rectangle((0, 0, edge, A5.height), fill=(20, 20, 20))
    return grainy(sheet, 10, rng)


def dusty(_text: str, rng: random.Random) -> Image.Image:
    """Specks of dust, each smaller than a full stop."""
    sheet = Image.new("RGB", (A5.width, A5.height), (250, 249, 245))
    draw = ImageDraw.Draw(sheet)
    for _ in range(40):
        x, y = rng.randrange(A5.width), rng.randrange(A5.height)
        draw.point((x, y), fill=(90, 90, 90))
    return grainy(sheet, 6, rng)


def grey(_text: str, rng: random.Random) -> Image.Image:
    """Recycled paper, unevenly grey."""
    tone = rng.randint(150, 205)
    return grainy(
        shaded(Image.new("RGB", (A5.width, A5.height), (tone,) * 3), 0.9, rng), 12, rng
    )


BLANK: tuple[Draw, ...] = (photographed, shadowed, scanned, dusty, grey)
