"""
Gray that keeps what the eye sees.

Green on red, white on yellow, white ink on nothing at all: a person reads it, and the
usual gray of both is the same.  Where much of a page differs from its own paper in
colour or transparency and hardly in gray, the difference itself becomes the gray.

Runs jailed.  NumPy and OpenCV are imported inside functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

# Pictures of one channel each, of a picture that is first made smaller, or left.
Layers = Callable[[Callable[["Image"], "Image"]], "Sequence[Image]"]

SMALL = 800  # long side, in pixels, of the copy that is looked at
COARSE = 2  # the paper is looked for on a copy this much smaller
NEIGHBOURHOOD = 45  # pixels of that copy; strokes cover less than half of them
PIXELS_MAX = 50_000_000  # above it three more copies are too many
# Levels of 256 by which something differs from its paper, at least; on grainy paper so
# many times what half of the page does.  A tint behind a letterhead differs by 5.
DIFFERS_MIN, GRAIN_TIMES = 12, 6
# What the reader's own gray shows: darker strokes, or a ground that is much darker.
DARKER_MIN, LIGHTER_MIN = 24, 64
FAINTER_MAX = (
    4  # times that its colour may differ more: yellow on white is no shown ink
)
FRINGE = (9, 9)  # pixels around it
LOST_MIN = 0.0003  # of a page: a short line
LOST_SHARE = 0.25  # of what the gray shows: less is an ornament beside the text
STRONG = 220  # levels that what was lost is brought to
GAIN_MAX = 10.0


def gray_of(plain: Image, layers: Layers) -> Image:
    """
    The gray of a picture: `plain`, unless too much is lost in it.

    Args:
        plain: The usual gray, on white paper (mode L).
        layers: Gives each colour, and the transparency, as a picture of one channel;
            of the picture as what it is given makes of it.
    """
    import cv2
    import numpy

    if plain.width * plain.height > PIXELS_MAX:
        return plain
    shares = numpy.asarray(small(plain))
    darker = paper_of(shares).astype(numpy.int16) - shares
    # Of a small copy: most pages need no more.
    few = [numpy.asarray(layer) for layer in layers(small)]
    differs = numpy.max([cv2.absdiff(one, paper_of(one)) for one in few], axis=0)
    shown = (darker >= DARKER_MIN) & (darker >= differs // FAINTER_MAX)
    shown |= darker <= -LIGHTER_MIN
    least = max(DIFFERS_MIN, GRAIN_TIMES * float(numpy.median(differs)))
    # The fringe of what is shown is no loss, and a dot without two neighbours a speck.
    shown = cv2.dilate(shown.astype(numpy.uint8), numpy.ones(FRINGE, numpy.uint8)) > 0
    lost = ((differs >= least) & ~shown).astype(numpy.uint8) * 255
    lost[cv2.blur(lost, (3, 3)) < 80] = 0
    count = int(numpy.count_nonzero(lost))
    if count < max(LOST_MIN * lost.size, LOST_SHARE * int(shown.sum())):
        return plain
    usual = float(numpy.percentile(differs[lost > 0], 75))
    return differing(
        layers(lambda whole: whole), least / 2, min(GAIN_MAX, STRONG / usual)
    )


def small(layer: Image) -> Image:
    """A small copy, in which grain and dust average out."""
    from PIL import Image as images

    share = min(1.0, SMALL / max(layer.size))
    size = (max(1, round(layer.width * share)), max(1, round(layer.height * share)))
    return layer.resize(size, images.Resampling.BOX, reducing_gap=2.0)


def paper_of(layer: Any) -> Any:
    """What most of each neighbourhood is."""
    import cv2

    high, wide = layer.shape
    size = (max(1, wide // COARSE), max(1, high // COARSE))
    coarse = cv2.resize(layer, size, interpolation=cv2.INTER_AREA)
    coarse = cv2.medianBlur(coarse, NEIGHBOURHOOD)
    return cv2.resize(coarse, (wide, high), interpolation=cv2.INTER_LINEAR)


def differing(layers: Sequence[Image], grain: float, gain: float) -> Image:
    """By how much a picture differs from its paper: nothing is white, most is black."""
    import cv2
    import numpy
    from PIL import Image as images

    most: Any = None
    for layer in layers:
        whole = numpy.asarray(layer)
        paper = paper_of(numpy.asarray(small(layer)))
        high, wide = whole.shape
        paper = cv2.resize(paper, (wide, high), interpolation=cv2.INTER_LINEAR)
        one = cv2.absdiff(whole, paper)
        most = one if most is None else cv2.max(most, one)
    levels = numpy.arange(256, dtype=numpy.float64)
    table = numpy.clip(255 - gain * numpy.maximum(levels - grain, 0), 0, 255)
    return images.fromarray(cv2.LUT(most, table.astype(numpy.uint8)))
