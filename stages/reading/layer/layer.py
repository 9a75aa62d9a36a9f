"""
The text layer of a page of a PDF, and whether it says what the page shows.

A layer can say anything: it may be another program's poor OCR, hold words in white
or behind a picture, or show other glyphs for its characters.  So a page is drawn
twice, with its glyphs and without, and a character counts only where that makes a
difference to the eye.  What ink is left without the glyphs tells whether the layer
is all there is to read.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stages.layout import (
    TURNED_BACK,
    Layout,
    ReadBlock,
    ReadLine,
    ReadWord,
    Turn,
    around,
    unturned,
)
from stages.reading.layer.fonts import Fonts, Known, Verify
from stages.reading.layer.glyphs import BROKEN_WORD, Glyphs, glyphs_of
from stages.reading.layer.order import Box, in_reading_order

if TYPE_CHECKING:
    import numpy as np

    Pixels = np.ndarray[Any, np.dtype[np.uint8]]


NAME = "layer"  # the reader of these words
FINER = 3  # by which a layout's pixels are smaller than those looked at
DPI = 100  # at which glyphs are looked for: enough for a difference, and quick
PIXELS_MAX = 4_000_000
SEEN_LEVELS = 20  # of 256 by which a glyph changes its place, to be seen
FAINT_LEVELS = 10  # less than this is not there at all
FAINT_MAX = 0.05  # share of characters that are neither seen nor quite unseen
GARBLED_MAX = 0.1  # share of characters that no font should stand for
ALNUM_MIN = 0.35  # share of alphanumeric characters; prose has 0.95, sums of money 0.7
OVERLAID_MAX = 0.02  # share of glyphs written over by other ones

# Ink that the glyphs leave behind.
STROKE_PX = 25  # at `DPI`; what is broader is a surface, not a stroke
STROKE_LEVELS = 40
RULES_PX = ((40, 1), (1, 20))  # lines this long or high belong to a table
GLYPH_PX = (4, 40)  # heights of what may be a glyph
STRANGERS_MIN = 16  # pieces that look like glyphs; a logo has fewer
STRANGERS_MAX = 0.05  # or this share of the layer's own glyphs
REST_MAX = 0.4  # share of all strokes on the page


@dataclass(frozen=True, slots=True)
class Layer:
    """
    What a text layer says that a person looking at the page sees as well.

    Attributes:
        text: Lines in the order of the file, visible characters only.
        hidden: Characters in the layer that nobody sees.
        trusted: May be used instead of reading the picture.
        why: When not: NONE, INVISIBLE, GARBLED, SPARSE or DIFFERS.
        layout: The same text with its places.
    """

    text: str
    words: int
    hidden: int
    trusted: bool
    why: str = ""
    layout: Layout | None = field(default=None, compare=False)


def read_layer(
    page: Any, known: Known, verify: Verify | None = None, unit: float = 1.0
) -> Layer:
    """
    Read the layer of an open page, and say whether it may be believed.

    Args:
        known: Of the document's fonts, from its other pages; more is added.
        verify: Reads a picture of one line.  With it, one line of each font is
            compared with what the layer says; without it fonts are believed.
        unit: Of the page, in points.
    """
    with glyphs_of(page, unit) as glyphs:
        if glyphs is None:
            return Layer("", 0, 0, False, "GARBLED")
        return layer_of(page, known, glyphs, verify, unit)


def layer_of(
    page: Any, known: Known, glyphs: Glyphs, verify: Verify | None, unit: float
) -> Layer:
    """The layer of a page whose characters are known."""
    import numpy as np

    real = [ink is not None for ink in glyphs.inks]
    count = sum(real)
    if not count:
        return Layer("", 0, 0, False, "NONE")
    drawn = np.array([ink is not None and ink.drawn for ink in glyphs.inks])
    if not drawn.any():
        return Layer("", 0, count, False, "INVISIBLE")

    scale = scale_of(page, unit)
    shown = picture_of(page, scale)
    with without(glyphs.objects):
        bare = picture_of(page, scale)
    boxes = in_pixels(page, glyphs.boxes, scale, shown.shape)
    difference = differing(shown, bare)
    seen = drawn & touched(difference >= SEEN_LEVELS, boxes)
    faint = drawn & ~seen & touched(difference >= FAINT_LEVELS, boxes)

    layout = layout_of(glyphs, seen, boxes, shown.shape, scale / unit)
    text = "\n".join(line.text for line in layout.lines)
    words, hidden = len(text.split()), count - int(seen.sum())

    def doubted(why: str) -> Layer:
        return Layer(text, words, hidden, False, why, layout)

    if not seen.any():
        return doubted("INVISIBLE")
    if garbled(text):
        return doubted("GARBLED")
    if overlaid(glyphs, seen, boxes, shown.shape):
        return doubted("DIFFERS")
    if int(faint.sum()) > FAINT_MAX * count or sparse(
        bare, difference, int(seen.sum())
    ):
        return doubted("SPARSE")
    if verify is not None:
        fonts = Fonts(known, page, glyphs, seen, boxes, scale, unit)
        if not fonts.say_what_they_show(verify):
            return doubted("DIFFERS")
    return Layer(text, words, hidden, True, layout=layout)


# -- the text -------------------------------------------------------------------------


def layout_of(
    glyphs: Glyphs, seen: Any, boxes: Any, shape: tuple[int, ...], pixels_a_point: float
) -> Layout:
    """The characters that are seen, in lines; a line ends where PDFium ends it."""
    lines: list[ReadLine] = []
    visible = seen.tolist()
    words: list[tuple[list[int], list[int]]] = [([], [])]  # UTF-16 units, and places
    across = down = 0.0  # how far the lines run, in all

    def end_line() -> None:
        nonlocal across, down
        found = [(packed(units), places) for units, places in words]
        places = [place for _, mine in found for place in mine]
        if places:
            # A character of PDFium's own has no place: its line's is the nearest.
            read = tuple(
                ReadWord(text=text, box=placed(boxes[mine or places]), confidence=100.0)
                for text, mine in found
                if text
            )
            lines.append(ReadLine(box=placed(boxes[places]), words=read))
            run = boxes[places[-1], :2] - boxes[places[0], :2]
            across, down = across + abs(run[0]), down + run[1]
        words[:] = [([], [])]

    for place, code in enumerate(glyphs.codes):
        if code in (10, 13):
            end_line()
        elif code <= 0xFFFF and chr(code).isspace():
            words.append(([], []))
        elif glyphs.inks[place] is None:
            words[-1][0].append(code)
        elif visible[place]:
            words[-1][0].append(0x2D if code in BROKEN_WORD else code)
            words[-1][1].append(place)
            if code in BROKEN_WORD:
                end_line()
    end_line()
    turned: Turn = 0 if abs(down) <= across else 270 if down > 0 else 90
    width, height = shape[1] * FINER, shape[0] * FINER
    upright = [unturned(line.box, TURNED_BACK[turned], height, width) for line in lines]
    blocks = in_reading_order([Box(*box) for box in upright])
    return Layout(
        width=width,
        height=height,
        turned=turned,
        dpi=round(pixels_a_point * 72 * FINER),
        source="layer",
        reader=NAME,
        blocks=tuple(
            ReadBlock(
                box=around([lines[place].box for place in block]),
                lines=tuple(lines[place] for place in block),
            )
            for block in blocks
        ),
    )


def placed(boxes: Any) -> tuple[int, int, int, int]:
    """The box around all of them, in the pixels of a layout."""
    left, top = boxes[:, :2].min(axis=0) * FINER
    right, bottom = boxes[:, 2:].max(axis=0) * FINER
    return round(left), round(top), round(right), round(bottom)


def packed(units: list[int]) -> str:
    """Text of UTF-16 units: above 0xFFFF a character comes in two halves."""
    text = "".join(chr(unit) for unit in units if 0 < unit <= 0x10FFFF)
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def garbled(text: str) -> bool:
    """Whether these are no characters of any script, by what Unicode says of them."""
    import unicodedata

    # Dots and dashes lead the eye through lists of contents.
    solid = [c for c in text if not c.isspace() and c not in "._-"]
    bad = sum(
        c == "\ufffd" or unicodedata.category(c) in ("Cc", "Co", "Cn", "Cs")
        for c in solid
    )
    alnum = sum(c.isalnum() for c in solid)
    return bad > GARBLED_MAX * len(solid) or alnum <= ALNUM_MIN * len(solid)


# -- the picture ----------------------------------------------------------------------


def scale_of(page: Any, unit: float) -> float:
    """Pixels a unit of the page, for looking at it."""
    width, height = page.get_size()
    area = max(1.0, width * height)
    return min(DPI / 72 * unit, float((PIXELS_MAX / area) ** 0.5))


def picture_of(page: Any, scale: float) -> Pixels:
    """A page in colour, small: rows, columns, channels."""
    bitmap = page.render(scale=scale, maybe_alpha=False)
    try:
        picture: Pixels = bitmap.to_numpy()[:, :, :3].copy()
    finally:
        bitmap.close()
    return picture


def differing(one: Pixels, other: Pixels) -> Pixels:
    """By how many levels two pictures differ, in the channel where they do most."""
    import cv2

    # NumPy's own maximum over the last axis takes ten times as long.
    red, green, blue = cv2.split(cv2.absdiff(one, other))
    most: Pixels = cv2.max(cv2.max(red, green), blue)  # type: ignore[assignment]
    return most


@contextmanager
def without(objects: dict[int, Any]) -> Iterator[None]:
    """Leave these objects of a page undrawn."""
    from pypdfium2 import raw

    for pointer in objects.values():
        raw.FPDFPageObj_SetIsActive(pointer, False)
    try:
        yield
    finally:
        for pointer in objects.values():
            raw.FPDFPageObj_SetIsActive(pointer, True)


def in_pixels(
    page: Any,
    boxes: list[tuple[float, float, float, float]],
    scale: float,
    shape: tuple[int, ...],
) -> Any:
    """Boxes of the page's own space as left, top, right, bottom of its picture."""
    import numpy as np
    from pypdfium2 import raw

    # PDFium maps points to whole pixels: three of a large picture give the map,
    # with the page's rotation and its crop box in it.
    fine = 1_000_000
    x, y = ctypes.c_int(), ctypes.c_int()
    points = []
    for place in ((0.0, 0.0), (1000.0, 0.0), (0.0, 1000.0)):
        raw.FPDF_PageToDevice(page, 0, 0, fine, fine, 0, *place, x, y)
        points.append((x.value / fine * shape[1], y.value / fine * shape[0]))
    (x0, y0), (x1, y1), (x2, y2) = points
    turn = np.array([[x1 - x0, y1 - y0], [x2 - x0, y2 - y0]]) / 1000
    given = np.array(boxes, dtype=np.float64).reshape(-1, 2, 2)
    corners = given @ turn + np.array([x0, y0])
    low, high = corners.min(axis=1), corners.max(axis=1)
    return np.concatenate([low, high], axis=1)


def clipped(boxes: Any, shape: tuple[int, ...], margin: int = 1) -> Any:
    """Boxes in whole pixels, a little larger, inside the picture."""
    import numpy as np

    height, width = shape[0], shape[1]
    low = np.floor(boxes[:, :2]) - margin
    high = np.ceil(boxes[:, 2:]) + margin
    whole = np.concatenate([low, high], axis=1)
    whole = np.nan_to_num(whole, nan=0.0, posinf=0.0, neginf=0.0)
    return np.clip(whole, 0, [width, height, width, height]).astype(np.int64)


def touched(mask: Any, boxes: Any) -> Any:
    """For each box, whether there is anything of `mask` in it."""
    import cv2
    import numpy as np

    total = cv2.integral(mask.astype(np.uint8))
    left, top, right, bottom = clipped(boxes, mask.shape).T
    inside = (
        total[bottom, right]
        - total[top, right]
        - total[bottom, left]
        + total[top, left]
    )
    return inside > 0


def overlaid(glyphs: Glyphs, seen: Any, boxes: Any, shape: tuple[int, ...]) -> bool:
    """
    Whether glyphs lie upon other ones: nobody can say which of them is seen.

    The same glyph twice is how some programs make bold type, and glyphs of one
    object share a place when they are drawn as one, as fi and Arabic ones are.
    """
    import numpy as np

    owner = np.full(shape[:2], -1, dtype=np.int64)
    whole = clipped(boxes, shape, margin=0)
    places = np.flatnonzero(seen)
    for place in places.tolist():
        left, top, right, bottom = whole[place].tolist()
        owner[top:bottom, left:right] = place
    centres = (whole[places, :2] + whole[places, 2:]) // 2
    on_top = owner[
        np.minimum(centres[:, 1], shape[0] - 1), np.minimum(centres[:, 0], shape[1] - 1)
    ]
    on_top = np.maximum(on_top, 0)
    codes = np.array(glyphs.codes)
    makers = np.array([id(ink) for ink in glyphs.inks])
    other = (codes[on_top] != codes[places]) & (makers[on_top] != makers[places])
    # Accents stand on their glyphs, and come next to them in the file.
    other &= np.abs(on_top - places) > 2
    return bool(other.sum() > max(2, OVERLAID_MAX * len(places)))


def sparse(bare: Pixels, difference: Pixels, glyphs: int) -> bool:
    """Whether much is written on the page that is not in its layer."""
    import cv2
    import numpy as np

    gray = cv2.cvtColor(bare, cv2.COLOR_BGR2GRAY)
    low, high, _, _ = cv2.minMaxLoc(gray)
    if high - low < STROKE_LEVELS:
        return False  # nothing is left: most pages, and quickly told
    rest = strokes(gray)
    count, _, stats, _ = cv2.connectedComponentsWithStats(rest, connectivity=8)
    heights, widths = stats[1:count, 3], stats[1:count, 2]
    lowest, highest = GLYPH_PX
    letterlike = (heights >= lowest) & (heights <= highest) & (widths <= 3 * highest)
    strangers = int(letterlike.sum())
    if strangers >= max(STRANGERS_MIN, STRANGERS_MAX * glyphs):
        return True
    left, own = int(np.count_nonzero(rest)), int((difference >= STROKE_LEVELS).sum())
    return left > REST_MAX * (left + own)


def strokes(gray: Any) -> Any:
    """Dark or light strokes on any ground, without the long rules of tables."""
    import cv2

    block = cv2.getStructuringElement(cv2.MORPH_RECT, (STROKE_PX, STROKE_PX))
    dark = cv2.morphologyEx(gray, cv2.MORPH_BLACKHAT, block)
    # Between dark glyphs the paper makes light strokes: they count on dark ground.
    ground = cv2.blur(gray, (STROKE_PX, STROKE_PX))
    light = cv2.morphologyEx(gray, cv2.MORPH_TOPHAT, block)
    light[ground >= 128] = 0
    thin = cv2.threshold(cv2.max(dark, light), STROKE_LEVELS, 255, cv2.THRESH_BINARY)[1]
    for size in RULES_PX:
        line = cv2.getStructuringElement(cv2.MORPH_RECT, size)
        rules = cv2.morphologyEx(thin, cv2.MORPH_OPEN, line)
        around = cv2.getStructuringElement(cv2.MORPH_RECT, (3, 3))
        thin = cv2.subtract(thin, cv2.dilate(rules, around))
    return thin
