"""
Ink, paper and wear: a page of text drawn, then scanned or photographed.

Everything is Pillow and a `random.Random` that the caller seeds, so the same seed
draws the same pixels.  Lengths are pixels.  Colours are RGB, 0-255.  Ink stays
darker than 110 and ruled lines and crayon lighter than 190 (as grey), so that
wear may take a third of the contrast and a page is still read.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, assert_never

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

from pipeline.errors import Usage

Colour = tuple[int, int, int]
Wear = Literal["clean", "scan", "photo"]

FONT_FOLDERS = (
    Path("/usr/share/fonts"),
    Path("/usr/local/share/fonts"),
    Path.home() / ".local/share/fonts",
    Path.home() / ".fonts",
)


@dataclass(frozen=True, slots=True)
class Face:
    """
    A typeface: its file name, the apt package it comes in, its size on paper.

    `x_share` is the height of an x in a line's pitch; `wobble` is how far a word
    may stray from its baseline, as a share of the height of an x.
    """

    file: str
    package: str
    x_share: float = 0.36
    wobble: float = 0.0


TYPED = (
    Face("DejaVuSerif.ttf", "fonts-dejavu-core"),
    Face("DejaVuSans.ttf", "fonts-dejavu-core"),
    Face("DejaVuSansMono.ttf", "fonts-dejavu-core"),
)
# Of twelve families of handwriting these two are read at a mean confidence above
# 90 whatever the wear; the next best fell to 77 on a full page.
HAND = (
    Face("ComicNeue-Regular.otf", "fonts-comic-neue", wobble=0.08),
    Face("KleeOne-SemiBold.ttf", "fonts-klee", wobble=0.08),
    Face("ComicNeue-Italic.otf", "fonts-comic-neue", wobble=0.1),
    Face("KleeOne-Regular.ttf", "fonts-klee", wobble=0.06),
    Face("ComicNeue-Bold.otf", "fonts-comic-neue", wobble=0.06),
)

INKS: tuple[Colour, ...] = (
    (30, 34, 44),  # black ballpoint
    (26, 48, 128),  # blue ballpoint
    (78, 80, 86),  # pencil
    (20, 88, 50),  # green felt pen
    (96, 34, 112),  # purple felt pen
    (138, 34, 38),  # red crayon
)
PAPERS: tuple[Colour, ...] = (
    (253, 252, 248),  # printer paper
    (250, 244, 228),  # cream
    (244, 247, 250),  # exercise book
    (252, 240, 238),  # pink
)
CRAYONS: tuple[Colour, ...] = (
    (250, 226, 120),
    (250, 200, 205),
    (186, 228, 186),
    (190, 220, 246),
)


@dataclass(frozen=True, slots=True)
class Sheet:
    """A sheet's size: `width` x `height` pixels at `dpi`, `pitch` between lines."""

    width: int
    height: int
    dpi: int
    pitch: int

    @property
    def margin(self) -> int:
        """White space on each side."""
        return self.width // 11


A5 = Sheet(1165, 1654, dpi=200, pitch=56)
A4 = Sheet(1240, 1754, dpi=150, pitch=50)


@cache
def font_file(file: str, package: str) -> str:
    """
    The path of an installed font.

    Raises:
        Usage: it is in none of the system's font folders.
    """
    for folder in FONT_FOLDERS:
        found = next(iter(sorted(folder.rglob(file))), None)
        if found is not None:
            return str(found)
    raise Usage(
        f"the font {file} is not installed",
        code="FONT_MISSING",
        hint=f"apt-get install {package}",
    )


@cache
def load(face: Face, x_px: int) -> ImageFont.FreeTypeFont:
    """`face` in the size at which an x is `x_px` high."""
    path = font_file(face.file, face.package)
    # Faces fill their em differently; 100 is only a size to measure at.
    x_high = -ImageFont.truetype(path, 100).getbbox("x", anchor="ls")[1]
    return ImageFont.truetype(path, round(100 * x_px / x_high))


def page(
    text: str, face: Face, sheet: Sheet, wear: Wear, rng: random.Random
) -> Image.Image:
    """
    One upright page with `text` on it; a new line of `text` is a new paragraph.

    clean: as drawn.  scan: up to 1.2 degrees askew, a little soft and grainy.
    photo: up to 1.6 degrees askew, softer, shaded to 78 % across, grainier.
    """
    match wear:
        case "clean":
            return inked(text, face, sheet, rng)
        case "scan":
            drawn = inked(text, face, sheet, rng, tilt=rng.uniform(-1.2, 1.2), soft=0.4)
            return grainy(drawn, 6, rng)
        case "photo":
            drawn = inked(text, face, sheet, rng, tilt=rng.uniform(-1.6, 1.6), soft=0.6)
            return grainy(shaded(drawn, 0.78, rng), 12, rng)
        case _:
            assert_never(wear)


def inked(
    text: str,
    face: Face,
    sheet: Sheet,
    rng: random.Random,
    *,
    tilt: float = 0.0,
    soft: float = 0.0,
) -> Image.Image:
    """
    `text` on paper, turned by `tilt` degrees, its edges blurred by `soft` pixels.

    Text that does not fit is written smaller and closer, as children do.
    """
    pitch = sheet.pitch
    lines = wrap(text, load(face, round(pitch * face.x_share)), sheet)
    while (need := (len(lines) + 4) * pitch) > sheet.height:
        # Smaller writing needs fewer lines too, hence the root.
        pitch = min(pitch - 1, int(pitch * math.sqrt(sheet.height / need)))
        lines = wrap(text, load(face, round(pitch * face.x_share)), sheet)
    paper = Image.new("RGB", (sheet.width, sheet.height), rng.choice(PAPERS))
    top = sheet.margin + pitch
    if face.wobble:
        draw = ImageDraw.Draw(paper)
        if rng.random() < 0.6:
            rule(draw, sheet, top, pitch, tilt)
        end = top + len(lines) * pitch
        if sheet.height - end > 5 * pitch:
            doodle(draw, sheet, end + 2 * pitch, rng)
    ink = rng.choice(INKS) if face.wobble else INKS[0]
    mask = strokes(lines, face, sheet, pitch, rng)
    # Only the ink is turned and blurred: one channel in place of three.  Its blur
    # hides the steps of the quickest way of turning.
    if tilt:
        mask = mask.rotate(tilt, Image.Resampling.NEAREST)
    if soft:
        # Blur alone would thin a fine pen to grey; real ink soaks in and spreads.
        mask = mask.filter(ImageFilter.BoxBlur(soft))
        mask = mask.point([min(255, v * 4 // 3) for v in range(256)])
    paper.paste(ink, mask=mask)
    return paper


def strokes(
    lines: Sequence[str], face: Face, sheet: Sheet, pitch: int, rng: random.Random
) -> Image.Image:
    """How much ink lies on each pixel, 0-255, for `lines` set `pitch` apart."""
    font = load(face, round(pitch * face.x_share))
    mask = Image.new("L", (sheet.width, sheet.height), 0)
    draw = ImageDraw.Draw(mask)
    stray = face.wobble * pitch * face.x_share
    space = font.getlength(" ") * (1.25 if face.wobble else 1.0)
    for number, line in enumerate(lines, start=1):
        x = sheet.margin + (rng.uniform(0, 12) if face.wobble else 0.0)
        for word in line.split():
            base = sheet.margin + number * pitch + rng.uniform(-stray, stray)
            draw.text((x, base), word, font=font, fill=255, anchor="ls")
            x += font.getlength(word) + space
    return mask


def wrap(text: str, font: ImageFont.FreeTypeFont, sheet: Sheet) -> list[str]:
    """The lines of `text` that `font` sets between the margins of `sheet`."""
    # Written words stand a quarter further apart, and start a little later.
    room = (sheet.width - 2 * sheet.margin) * 0.95
    space = font.getlength(" ")
    lines = []
    for paragraph in text.split("\n"):
        line: list[str] = []
        long = 0.0
        for word in paragraph.split():
            width = font.getlength(word) + space
            if line and long + width > room + space:
                lines.append(" ".join(line))
                line, long = [], 0.0
            line.append(word)
            long += width
        lines.append(" ".join(line))
    return lines


def rule(
    draw: ImageDraw.ImageDraw, sheet: Sheet, top: int, pitch: int, tilt: float
) -> None:
    """Faint blue lines a little below each baseline, as in an exercise book."""
    drop = math.tan(math.radians(tilt)) * sheet.width / 2
    for y in range(top + pitch // 5, sheet.height - pitch, pitch):
        draw.line((0, y + drop, sheet.width, y - drop), fill=(206, 222, 238), width=2)


def doodle(
    draw: ImageDraw.ImageDraw, sheet: Sheet, top: int, rng: random.Random
) -> None:
    """A row of crayon stars and fir trees, too pale to be taken for letters."""
    size = sheet.pitch * 1.4
    count = rng.randint(2, 4)
    for place in range(count):
        x = sheet.margin + (place + 0.5) * (sheet.width - 2 * sheet.margin) / count
        y = top + size + rng.uniform(-0.3, 0.3) * size
        colour = rng.choice(CRAYONS)
        if rng.random() < 0.5:
            turn = rng.uniform(0, math.pi)
            draw.polygon(
                [
                    (
                        x + size * (1 if k % 2 else 0.42) * math.sin(turn + k * 0.6283),
                        y + size * (1 if k % 2 else 0.42) * math.cos(turn + k * 0.6283),
                    )
                    for k in range(10)
                ],
                fill=colour,
            )
        else:
            for k in (1, 2, 3):
                foot = y - size + k * size * 0.55
                half = size * 0.28 * k
                draw.polygon(
                    [(x, foot - size * 0.7), (x - half, foot), (x + half, foot)],
                    fill=CRAYONS[2],
                )


def shaded(image: Image.Image, darkest: float, rng: random.Random) -> Image.Image:
    """`image` in light that falls off to `darkest` (0-1) towards one side."""
    ramp = Image.linear_gradient("L").rotate(
        rng.uniform(0, 360), Image.Resampling.BILINEAR, expand=False
    )
    # The middle of a turned ramp has no empty corners.
    ramp = ramp.crop((38, 38, 218, 218))
    levels = ramp.tobytes()
    low, span = min(levels), max(levels) - min(levels)
    ramp = ramp.point(
        [
            round(255 * (darkest + (1 - darkest) * min(max((v - low) / span, 0), 1)))
            for v in range(256)
        ]
    )
    ramp = ramp.resize(image.size, Image.Resampling.BICUBIC)
    # Lamplight is warm: blue falls off a little sooner than red.
    cool = ramp.point([round(v * 0.97) for v in range(256)])
    return ImageChops.multiply(image, Image.merge("RGB", (ramp, ramp, cool)))


def grainy(image: Image.Image, grain: int, rng: random.Random) -> Image.Image:
    """`image` with sensor noise of +-`grain` levels, the same in all channels."""
    # A plane of random bytes at half size, stretched, is far quicker than a draw
    # for each pixel, and gives the noise the grain of a real sensor.
    half = (image.width // 2 + 1, image.height // 2 + 1)
    plane = Image.frombytes("L", half, rng.randbytes(half[0] * half[1]))
    plane = plane.point([round(v * 2 * grain / 255) for v in range(256)])
    plane = plane.resize(image.size, Image.Resampling.BILINEAR)
    rgb = Image.merge("RGB", (plane, plane, plane))
    return ImageChops.add(image, rgb, 1, -grain)


def blank(sheet: Sheet, rng: random.Random) -> Image.Image:
    """A photograph of an empty sheet: shade and grain, and nothing to read."""
    paper = Image.new("RGB", (sheet.width, sheet.height), PAPERS[0])
    return grainy(shaded(paper, 0.86, rng), 5, rng)


def smudged(text: str, face: Face, sheet: Sheet, rng: random.Random) -> Image.Image:
    """A letter left in the rain and scribbled over: much ink, no words."""
    drawn = inked(text, face, sheet, rng).filter(ImageFilter.GaussianBlur(16))
    # Blurring thins ink to a haze; soaked paper takes it on instead.
    drawn = drawn.point([round(255 * (v / 255) ** 2.2) for v in range(256)] * 3)
    draw = ImageDraw.Draw(drawn)
    for place in range(11):
        scrawl(draw, sheet, (0.7 + place) / 12, rng)
    return grainy(shaded(drawn.filter(ImageFilter.GaussianBlur(2)), 0.85, rng), 8, rng)


def scrawl(
    draw: ImageDraw.ImageDraw, sheet: Sheet, down: float, rng: random.Random
) -> None:
    """One furious loop of a thick pen, `down` (0-1) the sheet."""
    ink = rng.choice(INKS)
    x, y = rng.uniform(0.35, 0.65) * sheet.width, down * sheet.height
    wide, high = rng.uniform(0.2, 0.35) * sheet.width, rng.uniform(50, 130)
    phase, drift = rng.uniform(0, 6.28), rng.uniform(-3, 3)
    points: Sequence[tuple[float, float]] = [
        (
            x + wide * math.sin(k * 0.21 + phase) + drift * k * 0.6,
            y + high * math.sin(k * 0.337) + drift * math.sin(k * 0.05) * 20,
        )
        for k in range(160)
    ]
    draw.line(points, fill=ink, width=rng.randint(7, 12), joint="curve")
