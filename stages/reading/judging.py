"""
Judging a reading: how much of a page was read, and how far it is to be believed.

An engine's confidence speaks only for the text that it found.  So ink and glyphs
that are in no word count as well, and whether a page is blank is told by its ink
alone.  Every number here was measured; the tables are in docs/adr/0012-reading.md.

Runs jailed.  Libraries of pictures are imported inside functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stages.layout import Box
from stages.reading.soft import Softened
from stages.reading.words import Word

if TYPE_CHECKING:
    from PIL.Image import Image

# Numbers measured on synthetic blanks and on scans of 1905-2019; see each.
SMALL = 800  # long side, in pixels, of the copy on which ink is measured
# Levels of 256 by which ink is darker than its paper.  Grain with a standard
# deviation of 25 stays under it, pencil at 190 on paper of 235 is over it.
INK_LEVELS = 24
# A page below this has no ink.  One short line in faint pencil made 0.0004-0.0009,
# and so did a punched hole or 60 large specks of dust: doubt goes to a person,
# because a blank page held costs a minute and a line overlooked is lost.
INK_MIN = 0.0003
NO_INK = 0.00002  # a dozen dots of the small copy: not even a full stop
# Pixels of that copy: a letter of 10 point on A4 is 6 to 9 high, a speck of dust up to
# 3; a scratch or a fold is longer than any stroke.
STROKE, SCRATCH_LONG, SCRATCH_THIN = 5, 300, 3
# A scanner's edge lies in the outer 3 % of a page, or touches the border, and is longer
# than this share of the side; words at the border are shorter.
EDGE, EDGE_LONG = 0.03, 0.15
# Of the ink, the share inside words.  Handwriting that tesseract cannot read:
# 0.07-0.17, also where it reads the printed letterhead above it with confidence.
# Printed pages with pictures and tables: 0.38 and more, plain ones 0.8 and more.
COVERED_MIN = 0.25
# Words below this are scratches as often as words, and cover nothing.
BELIEVED = 30.0
# A character of a word that is at most this sure counts as doubted.
DOUBTED = 60.0
WORDS_MIN = 3  # fewer say nothing about a page
SURE = 85.0  # a word that stands for itself
# Well-read pages have 0.83 and more of their ink in words.
COVERED_ENOUGH = 0.85
UNCOVERED_COSTS = 30.0  # points for all the ink of a page
# The share of glyphs in no word, above which columns may have been left out: the
# page is read again as one block.  Prices of a receipt: 0.03-0.12.
MISSED_ENOUGH = 0.025
MISSED_COSTS = 40.0  # points for all the glyphs of a page
# Mean confidence of an engine -> 100 - CER, measured on receipts, typed letters,
# handwriting and generated pages; the table is in docs/adr/0012-reading.md.
TESSERACT = (
    (0, 0),
    (30, 30),
    (55, 68),
    (75, 88),
    (80, 93),
    (85, 95),
    (92, 97),
    (96, 99),
)

# A word's score by the second reader -> how often it is right, where the first read the
# same and where it did not.
SAME = ((0, 30), (70, 65), (90, 82), (97, 88), (99, 96), (99.9, 99.5))
ALONE = ((0, 0), (50, 20), (80, 45), (90, 55), (97, 70), (99, 80), (99.9, 94))


def sure_of(score: float, *, same: bool) -> float:
    """How likely a word of the second reader is right, 0-100."""
    return on_scale(SAME if same else ALONE, score)


def mean_of(words: Sequence[tuple[str, float]]) -> float:
    """Of the confidence of words, by their length; 0 without any."""
    characters = sum(len(text) for text, _ in words)
    return sum(len(text) * sure for text, sure in words) / max(1, characters)


def weight(words: Sequence[Word]) -> float:
    """How much was read, and how surely: characters by their confidence."""
    return sum(word.confidence * len(word.text) for word in words)


def believed(word: Word, picture: Image) -> bool:
    """Whether the word counts as read; no word is as high as that."""
    return (
        word.confidence >= BELIEVED
        and word.box[3] - word.box[1] <= max(picture.size) // 5
    )


def judge(words: Sequence[Word], covered: float, missed: float = 0.0) -> float:
    """
    How much of a page was read rightly, 0-100: an estimate of 100 - CER.

    tesseract's mean confidence, weighted by characters, is put on that scale by what
    was measured (`TESSERACT`).  It speaks only for the text that was found, so
    ink and glyphs that are in no believed word take from it, and too few words
    say nothing.
    """
    characters = sum(len(word.text) for word in words)
    if too_few([word.confidence for word in words], covered):
        return 0.0
    mean = weight(words) / characters
    cost = UNCOVERED_COSTS * max(0.0, COVERED_ENOUGH - covered)
    cost += MISSED_COSTS * max(0.0, missed - MISSED_ENOUGH)
    return max(0.0, on_scale(TESSERACT, mean) - cost)


def too_few(sure: Sequence[float], covered: float) -> bool:
    """
    Whether these words say nothing about a page.

    One sure word, such as a page number, may be all that is there.
    """
    return not sure or (
        len(sure) < WORDS_MIN and (min(sure) < SURE or covered < COVERED_ENOUGH)
    )


def on_scale(knots: Sequence[tuple[float, float]], value: float) -> float:
    """Linear between the knots, flat beyond them."""
    below = knots[0]
    for knot in knots:
        if value <= knot[0]:
            wide = knot[0] - below[0]
            share = (value - below[0]) / wide if wide else 1.0
            return below[1] + share * (knot[1] - below[1])
        below = knot
    return below[1]


def missed_of(soft: Softened, boxes: Sequence[Box]) -> float:
    """The share of a page's glyphs, 0-1, whose middle is in none of `boxes`."""
    import numpy

    glyphs = soft.glyphs[
        (soft.glyphs[:, 3] > soft.tall * 0.5) & (soft.glyphs[:, 3] < soft.tall * 2.5)
    ]
    if not soft.tall or not len(glyphs):
        return 0.0
    # On a map of 4 x 4 pixels a box is a rectangle with a margin.
    inside = numpy.zeros((soft.height // 4 + 2, soft.width // 4 + 2), bool)
    for left, top, right, bottom in boxes:
        inside[
            max(0, top // 4 - 1) : bottom // 4 + 2,
            max(0, left // 4 - 1) : right // 4 + 2,
        ] = True
    x = (glyphs[:, 0] + glyphs[:, 2] // 2) // 4
    y = (glyphs[:, 1] + glyphs[:, 3] // 2) // 4
    return float(1.0 - inside[y, x].mean())


class Ink:
    """
    Where a page has ink: what is clearly darker than the paper around it.

    Measured on a small copy, where grain and dust average out, against a local
    estimate of the paper, so that a shadow is not ink.  The border is part of the
    page, but for the black edges that scanners leave there.

    Attributes:
        share: Of the page, 0-1.
        marked: There is a stroke, however little it is: the page is not blank.
    """

    def __init__(self, picture: Image) -> None:
        self._scale = min(1.0, SMALL / max(picture.size))
        dark = dark_of(picture, self._scale)
        area = dark.width * dark.height
        self.share = dark.histogram()[255] / area
        self.marked = self.share >= INK_MIN or (self.share > 0 and is_marked(dark))
        # What lies about at the border of a page that has ink is not missed by readers.
        inner = inside(dark)
        self._dark = inner if inner.histogram()[255] >= INK_MIN * area else dark
        self._count = self._dark.histogram()[255]

    def covered(self, boxes: Sequence[Box]) -> float:
        """The share of the ink, 0-1, that is inside `boxes`."""
        from PIL import ImageDraw

        if not self._count:
            return 0.0
        rest = self._dark.copy()
        eraser = ImageDraw.Draw(rest)
        for box in boxes:
            left, top, right, bottom = (round(place * self._scale) for place in box)
            eraser.rectangle((left - 1, top - 1, right + 1, bottom + 1), fill=0)
        return 1.0 - rest.histogram()[255] / self._count


def dark_of(picture: Image, scale: float) -> Image:
    """A small copy of the page: white where it has ink, black elsewhere."""
    from PIL import Image as images
    from PIL import ImageChops, ImageFilter

    size = tuple(max(1, round(side * scale)) for side in picture.size)
    page = picture.resize((size[0], size[1]), images.Resampling.BOX, reducing_gap=2.0)
    # The paper: the brightest of each neighbourhood, smoothed.
    coarse = page.reduce(8).filter(ImageFilter.MaxFilter(5))
    coarse = coarse.filter(ImageFilter.GaussianBlur(3))
    paper = coarse.resize(page.size, images.Resampling.BILINEAR)
    darker = ImageChops.subtract(paper, page)
    dark = darker.point([0] * INK_LEVELS + [255] * (256 - INK_LEVELS))
    # A dot without two dark neighbours is a speck, not part of a stroke.
    crowd = dark.filter(ImageFilter.BoxBlur(1)).point(lambda v: 255 * (v >= 80))
    return without_edges(ImageChops.darker(dark, crowd))


def is_marked(dark: Image) -> bool:
    """Whether a piece is as large as a letter, and no scratch across the page."""
    import cv2
    import numpy

    _, _, stats, _ = cv2.connectedComponentsWithStats(numpy.array(dark), connectivity=8)
    sides = stats[1:, 2:4]
    long, thin = sides.max(axis=1), sides.min(axis=1)
    scratch = (long > SCRATCH_LONG) & (thin <= SCRATCH_THIN)
    return bool(((long >= STROKE) & ~scratch).any())


def inside(dark: Image) -> Image:
    """Without the border."""
    from PIL import Image as images

    x, y = round(dark.width * EDGE), round(dark.height * EDGE)
    box = (x, y, dark.width - x, dark.height - y)
    rest = images.new("L", dark.size)
    rest.paste(dark.crop(box), box[:2])
    return rest


def without_edges(dark: Image) -> Image:
    """Without what lies in the border, along it, and is longer than a word."""
    import cv2
    import numpy
    from PIL import Image as images

    ink = numpy.array(dark)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(ink, connectivity=8)
    left, top, wide, high = (stats[:, column] for column in range(4))
    height, width = ink.shape
    across, down = round(width * EDGE), round(height * EDGE)
    beside = (left + wide <= across) | (left >= width - across)
    beside |= (left == 0) | (left + wide == width)
    above = (top + high <= down) | (top >= height - down)
    above |= (top == 0) | (top + high == height)
    edges = (beside & (high >= EDGE_LONG * height)) | (
        above & (wide >= EDGE_LONG * width)
    )
    edges[0] = False  # the paper
    if not edges.any():
        return dark
    gone = edges[labels].astype(numpy.uint8)
    around = cv2.getStructuringElement(cv2.MORPH_RECT, (5, 5))  # and their fringe
    gone = cv2.dilate(gone, around)
    gone[down : height - down, across : width - across] = 0
    ink[gone > 0] = 0
    return images.fromarray(ink)
