"""
The soft recipe: a page as a reader of print likes it, and still gray.

Evens the light, brings glyphs to about 20 pixels, sets the lines level.  Nothing
is made black and white: hard thresholds win on drawn pages and ruin faint type on
real ones.  Measured in docs/adr/0012-reading.md.

Runs jailed.  OpenCV and NumPy are imported inside functions: the worker
imports this module for its names and must stay small.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

Box = tuple[int, int, int, int]  # left, top, right, bottom; pixels

TALL = 20.0  # pixels of a glyph, the height tesseract was trained for
# Letters in between are read as they are: enlarging costs more than it gains.
ENOUGH = (14.5, 26.0)
ENLARGE_MAX, REDUCE_MAX = 2.0, 0.3
# Pixels of what is enlarged.  A receipt scanned on a sheet at 600 dpi made 140 million,
# took six times as long as others, and no more of it was read.
ENLARGED = 16_000_000
GLYPHS_MIN = 20  # pieces by which a page's glyphs are measured
PAPER = 250  # of 255: the level that paper is brought to
COARSE = 8  # the paper is looked for on a copy this much smaller
NEIGHBOURHOOD = 7  # pixels of that copy; strokes are narrower, shadows wider
EVEN_SPREAD = 6  # levels; light that varies less is left as it is
SKEW_MAX = 5.0  # degrees; more is not a skew but another way up
SKEW_MIN = 0.15  # less is not worth a resampling
SKEW_SIDE = 640  # long side of the copy on which the angle is looked for


@dataclass(frozen=True, slots=True)
class Softened:
    """
    A page ready to be read, and how it became so.

    Attributes:
        tall: Median height of a glyph as it came, pixels; 0: not known.
        glyphs: Pieces that look like glyphs, on the page as it came: rows of
            left, top, width, height in pixels.
        scale: By which the page was enlarged.
        angle: Degrees by which it was turned, counterclockwise.
    """

    image: Image
    dpi: int
    tall: float
    glyphs: Any
    scale: float
    angle: float
    width: int  # of the page as it came
    height: int

    def back(self, box: Box) -> Box:
        """A box of this picture, on the page as it came."""
        if not self.angle and self.scale == 1.0:
            return box
        turn = math.radians(self.angle)
        cos, sin = math.cos(turn) / self.scale, math.sin(turn) / self.scale
        x0, y0 = self.image.width / 2, self.image.height / 2
        xs, ys = [], []
        for x, y in ((0, 1), (2, 1), (0, 3), (2, 3)):
            dx, dy = box[x] - x0, box[y] - y0
            xs.append(self.width / 2 + cos * dx - sin * dy)
            ys.append(self.height / 2 + sin * dx + cos * dy)
        return (
            max(0, math.floor(min(xs))),
            max(0, math.floor(min(ys))),
            min(self.width, math.ceil(max(xs))),
            min(self.height, math.ceil(max(ys))),
        )


def soften(gray: Image, dpi: int = 0) -> Softened:
    """
    Prepare a gray page (mode L) for a reader of print.

    Costs 30-60 ms for A4 at 200-300 dpi, most of it in the search for glyphs.
    """
    import cv2
    import numpy
    from PIL import Image as images

    cv2.setNumThreads(1)  # as many jailed processes as cores run beside us
    page = flattened(numpy.asarray(gray))
    glyphs = glyphs_of(page)
    tall = float(numpy.median(glyphs[:, 3])) if len(glyphs) >= GLYPHS_MIN else 0.0
    scale = scale_for(tall, page.size)
    angle = skew(page)
    high, wide = page.shape
    size = (max(1, round(wide * scale)), max(1, round(high * scale)))
    if angle:
        if scale < 1:
            # Reducing by a warp would skip pixels; this averages them.
            page = cv2.resize(page, size, interpolation=cv2.INTER_AREA)
        page = turned(page, angle, scale if scale > 1 else 1.0, size)
    elif scale != 1.0:
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        page = cv2.resize(page, size, interpolation=how)
    return Softened(
        image=images.fromarray(page),
        dpi=max(70, round(dpi * scale)) if dpi else 0,
        tall=tall,
        glyphs=glyphs,
        scale=scale,
        angle=angle,
        width=wide,
        height=high,
    )


def flattened(gray: Any) -> Any:
    """The page in even light: divided by the paper around every glyph."""
    import cv2
    import numpy

    high, wide = gray.shape
    size = (max(1, wide // COARSE), max(1, high // COARSE))
    coarse = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    # The brightest of a neighbourhood is paper; the median drops what is odd.
    kernel = numpy.ones((NEIGHBOURHOOD, NEIGHBOURHOOD), numpy.uint8)
    paper = cv2.medianBlur(cv2.dilate(coarse, kernel), 5)
    low, high_level = numpy.percentile(paper, (2, 98))
    if high_level - low < EVEN_SPREAD and low > 225:
        return gray
    paper = cv2.GaussianBlur(paper, (0, 0), 2)
    paper = cv2.resize(paper, (wide, high), interpolation=cv2.INTER_LINEAR)
    return cv2.divide(gray, paper, scale=PAPER)


def glyphs_of(page: Any) -> Any:
    """Boxes of what looks like glyphs: rows of left, top, width, height."""
    import cv2

    _, dark = cv2.threshold(page, 0, 255, cv2.THRESH_BINARY_INV | cv2.THRESH_OTSU)
    _, _, stats, _ = cv2.connectedComponentsWithStats(dark, connectivity=8)
    wide, tall, area = (stats[1:, column] for column in (2, 3, 4))
    # No dots, no rules, no pictures; joined glyphs are wider than they are tall.
    alike = (tall >= 6) & (tall <= 200) & (wide >= 3) & (wide <= 4 * tall)
    return stats[1:, :4][alike & (area >= 12)]


def scale_for(tall: float, pixels: int) -> float:
    """By how much to enlarge a page of so many pixels whose glyphs are `tall`."""
    if not tall or ENOUGH[0] <= tall <= ENOUGH[1]:
        return 1.0
    most = min(ENLARGE_MAX, max(1.0, math.sqrt(ENLARGED / pixels)))
    return min(most, max(REDUCE_MAX, TALL / tall))


def skew(page: Any) -> float:
    """
    Degrees, counterclockwise, by which lines of print must be turned to be level.

    Level lines make the ink of neighbouring rows differ most.
    """
    import cv2
    import numpy

    share = min(1.0, SKEW_SIDE / max(page.shape))
    small = cv2.resize(page, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
    ink = 255 - small
    ink[ink < 60] = 0
    high, wide = ink.shape

    def contrast(angle: float) -> float:
        matrix = cv2.getRotationMatrix2D((wide / 2, high / 2), angle, 1.0)
        level = cv2.warpAffine(ink, matrix, (wide, high), flags=cv2.INTER_NEAREST)
        rows = cv2.reduce(level, 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel()
        steps = numpy.diff(rows).astype(numpy.float64)
        return float(steps @ steps)

    def best(angles: Any) -> float:
        return float(max(angles, key=contrast))

    # Wide, then closer: 23 looks instead of a hundred.
    angle = best(numpy.arange(-SKEW_MAX, SKEW_MAX + 0.01, 1.0))
    angle = best(numpy.arange(angle - 0.75, angle + 0.76, 0.25))
    angle = best(numpy.arange(angle - 0.2, angle + 0.21, 0.1))
    if abs(angle) < SKEW_MIN or contrast(angle) < 1.02 * contrast(0.0):
        return 0.0
    return round(angle, 1)


def turned(page: Any, angle: float, scale: float, size: tuple[int, int]) -> Any:
    """The page turned and enlarged about its middle, on paper."""
    import cv2

    high, wide = page.shape
    matrix = cv2.getRotationMatrix2D((wide / 2, high / 2), angle, scale)
    matrix[:, 2] += ((size[0] - wide) / 2, (size[1] - high) / 2)
    how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_LINEAR
    return cv2.warpAffine(page, matrix, size, flags=how, borderValue=PAPER)
