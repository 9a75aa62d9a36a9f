"""
`run honesty`: does the service say so where it cannot read?

Four sets of pages go through the real intake and OCR:

    cursive     handwriting of 1905-1918 from the samples folder, if it is there
    unreadable  generated: soaked, scribbled, blurred, far too small, only noise
    blank       generated: shade, grain, dust, punched holes, scanner edges
    readable    generated: typed pages, to show that holding everything is no pass

A page of the first two must end held or marked unreadable.  One that was taken
as read counts as invented, unless what it says is on the page.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFilter

from loadtest.corpora.letters import compose
from loadtest.corpora.noise import (
    A5,
    HAND,
    TYPED,
    blank,
    grainy,
    inked,
    page,
    shaded,
    smudged,
)
from loadtest.corpora.truth import precision
from loadtest.trial import Ended, Progress, trial

# Handwriting among the samples: two clear letters, one in faint pencil, a will.
CURSIVE = (
    "letters_stanford1905/Lettre251.jpg",
    "letters_stanford1905/Lettre252.jpg",
    "letters_stanford1905/SC0033B_s4_b01_f14_i082.jpg",
    "scanned_multipage_pdfs/poilus_AD78_0020.pdf",
)
PRECISION_MIN = 0.8  # of the words taken as read, so many are on the page
Draw = Callable[[str, random.Random], Image.Image]


def run(
    say: Progress, *, pages: int, engine: str, samples: Path, seed: int
) -> dict[str, Any]:
    """Run the four sets; `invented` and `blanks_missed` must be 0."""
    with trial() as it:
        inbox = it.folder / "pages"
        inbox.mkdir()
        truths = make(inbox, pages, seed)
        cursive = copy_cursive(samples, inbox)
        truths |= cursive
        if not cursive:
            say(f"no cursive samples at {samples}: generated pages only")
        it.pipeline(
            "reading", ["intake", "ocr"], more=f'[stage.ocr]\nengine = "{engine}"'
        )
        say(f"reading {len(truths)} documents")
        it.ingest(inbox, "reading")
        return figures(it.ended(), truths, bool(cursive))


def make(folder: Path, count: int, seed: int) -> dict[str, str]:
    """Write `count` pages of each generated set; file name -> what is on it."""
    truths = {}
    for kind, draws in (("unreadable", UNREADABLE), ("blank", BLANK), ("readable", ())):
        for number in range(count):
            rng = random.Random(f"{kind}:{seed}:{number}")
            name = f"{kind}-{number:03}.jpg"
            text = "" if kind == "blank" else compose(rng, "Ida", words=90)
            if draws:
                image = draws[number % len(draws)](text, rng)
            else:
                image = page(text, TYPED[number % len(TYPED)], A5, "scan", rng)
            image.convert("RGB").save(
                folder / name, quality=85, dpi=(A5.dpi, A5.dpi), subsampling=0
            )
            truths[name] = text
    return truths


def copy_cursive(samples: Path, folder: Path) -> dict[str, str]:
    """Handwritten pages of the samples and their transcription, by file name."""
    truths = {}
    for relative in CURSIVE:
        source = samples / relative
        if source.exists():
            name = f"cursive-{source.name}"
            shutil.copyfile(source, folder / name)
            truth = source.with_suffix(".gt.txt")
            truths[name] = truth.read_text(encoding="utf-8")
    return truths


def figures(
    ended: Sequence[Ended], truths: dict[str, str], cursive: bool
) -> dict[str, Any]:
    """The figures: what was invented, missed, and rightly read."""
    sets: dict[str, Counter[str]] = {}
    invented = blanks_missed = controls_read = 0
    liars: list[str] = []
    for item in ended:
        kind = item.name.partition("-")[0]
        end = item.code or item.state
        sets.setdefault(kind, Counter())[end] += 1
        text = str(item.values.get("text", "")) if item.state == "done" else ""
        if kind == "blank":
            blanks_missed += item.code != "BLANK"
        elif kind == "readable":
            read = item.state == "done"
            controls_read += read and precision(text, truths[item.name]) > PRECISION_MIN
        elif item.state == "done" and not (
            text.split() and precision(text, truths[item.name]) >= PRECISION_MIN
        ):
            invented += 1
            liars.append(item.name)
    return {
        "invented": invented,
        "blanks_missed": blanks_missed,
        "controls_read": controls_read,
        "controls": sum(sets.get("readable", Counter()).values()),
        "documents": len(ended),
        "submitted": len(truths),
        "cursive_samples": cursive,
        "ends": {kind: dict(counts) for kind, counts in sorted(sets.items())},
        "invented_in": liars,
    }


# -- pages nobody can read ------------------------------------------------------------


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

# -- blank pages ----------------------------------------------------------------------


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
