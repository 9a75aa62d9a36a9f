"""
Documents that anybody can read, and that a reader may take for something else: strips
of one line, columns, forms, receipts, another language, digital pages with a photograph
or a barcode on them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from io import BytesIO
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFilter

from loadtest.corpora import degrade, layouts
from loadtest.corpora.letters import compose
from loadtest.corpora.noise import A5, TYPED, inked, load
from loadtest.corpora.pdf_writer import page, stream
from loadtest.corpora.slips import saved

GERMAN = (
    "Sehr geehrte Damen und Herren,\nhiermit möchte ich mich herzlich für die schöne"
    " Führung durch das Museum bedanken.\nDie Kinder fanden die großen Dampfmaschinen"
    " äußerst spannend und würden gerne bald wiederkommen.\nMit freundlichen Grüßen"
)
SAID = (
    "Invoice of the harbour office",
    "Please pay within thirty days of its date",
    "by transfer to the account named below",
    "and give the number of this invoice",
    "The goods remain ours until they are paid",
)


class Readable(NamedTuple):
    """A file, and the words on it."""

    name: str
    data: bytes
    truth: str


def documents(count: int, seed: int) -> Iterator[Readable]:
    """About `count`, of each kind in turn."""
    each = max(1, count // 6)
    for number, laid in enumerate(layouts.pages(each, seed)):
        yield Readable(f"{laid.kind}-{number:02}.jpg", laid.data, laid.truth)
    for number in range(each):
        rng = random.Random(f"readable:{seed}:{number}")
        yield strip(rng, number)
        drawn, truth, dpi = degrade.receipt(rng)
        data = saved(drawn, "png", dpi=(dpi, dpi))
        yield Readable(f"receipt-{number:02}.png", data, truth)
        yield digital(f"photograph-{number:02}.pdf", photograph(rng))
        yield digital(f"barcode-{number:02}.pdf", barcode(rng))
    german = inked(GERMAN, TYPED[0], A5, random.Random(seed))
    data = saved(german, "png", dpi=(A5.dpi, A5.dpi))
    yield Readable("german.png", data, GERMAN)


def strip(rng: random.Random, number: int) -> Readable:
    """One line, cut out of a letter: as high as its letters."""
    text = " ".join(compose(rng, "Ida", words=60).split()[5:12])
    image = Image.new("L", (1100, rng.randint(56, 90)), 252)
    font = load(TYPED[number % 2], 20)
    middle = image.height / 2
    ImageDraw.Draw(image).text((24, middle), text, font=font, fill=20, anchor="lm")
    return Readable(f"strip-{number:02}.png", saved(image, "png"), text)


def digital(name: str, picture: Image.Image) -> Readable:
    """A page of a PDF with its own text, and a picture over most of it."""
    file = BytesIO()
    picture.save(file, "JPEG", quality=80)
    lines = "".join(
        f"BT /F1 14 Tf 60 {780 - 22 * n} Td ({text}) Tj ET\n"
        for n, text in enumerate(SAID)
    )
    content = f"{lines}q 460 0 0 520 60 120 cm /Im Do Q".encode()
    entries = (
        f"/Type /XObject /Subtype /Image /Width {picture.width}"
        f" /Height {picture.height} /ColorSpace /DeviceGray /BitsPerComponent 8"
        " /Filter /DCTDecode"
    )
    data = page(
        content,
        box="[0 0 595 842]",
        resources="/XObject << /Im 6 0 R >>",
        more=[stream(file.getvalue(), entries)],
    )
    return Readable(name, data, "\n".join(SAID))


def photograph(rng: random.Random) -> Image.Image:
    """A landscape, more or less: hills, grain, and edges as sharp as letters'."""
    view = Image.effect_noise((920, 1040), 60).filter(ImageFilter.GaussianBlur(1.5))
    draw = ImageDraw.Draw(view)
    for _ in range(60):
        x, y, r = rng.randrange(920), rng.randrange(300, 1040), rng.randint(6, 70)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=rng.randint(20, 230))
    for _ in range(80):
        x, y = rng.randrange(920), rng.randrange(1040)
        draw.line((x, y, x + rng.randint(-60, 60), y - rng.randint(20, 90)), 30, 4)
    return view


def barcode(rng: random.Random) -> Image.Image:
    """Bars of a parcel's label, large."""
    label = Image.new("L", (920, 1040), 255)
    draw = ImageDraw.Draw(label)
    x = 40
    while x < 870:
        wide = rng.choice((3, 3, 6, 9))
        draw.rectangle((x, 60, x + wide, 980), fill=0)
        x += wide + rng.choice((3, 6, 9))
    return label
