"""
Reading one page image: a plain function that runs in a child process.

One tesseract run gives text and confidence.  Whether a page without text is blank
or beyond the engine is told by its ink, never by the engine.

Pillow and pytesseract are imported inside functions: the worker imports this
module for its names alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.errors import Permanent, Transient, WaybillError
from stages.reader import BROKEN, broken_image

if TYPE_CHECKING:
    from PIL.Image import Image

Box = tuple[int, int, int, int]  # left, top, right, bottom; pixels

# Numbers measured on synthetic blanks and on scans of 1905-2019; see each.
SMALL = 800  # long side, in pixels, of the copy on which ink is measured
# Levels of 256 by which ink is darker than its paper.  Grain with a standard
# deviation of 25 stays under it, pencil at 190 on paper of 235 is over it.
INK_LEVELS = 24
# A page below this has no ink.  One short line in faint pencil made 0.0004-0.0009,
# and so did a punched hole or 60 large specks of dust: doubt goes to a person,
# because a blank page held costs a minute and a line overlooked is lost.
INK_MIN = 0.0003
# Of the ink, the share inside words.  Handwriting that tesseract cannot read:
# 0.07-0.17, also where it reads the printed letterhead above it with confidence.
# Printed pages with pictures and tables: 0.38 and more, plain ones 0.8 and more.
COVERED_MIN = 0.25
# Words below this are scratches as often as words, and cover nothing.
BELIEVED = 30.0


def read_page(
    path: str,
    dpi: int = 0,
    lang: str = "eng",
    psm: int = 3,
    page_timeout_s: float = 120.0,
    hold_below: float = 60.0,
) -> dict[str, Any]:
    """
    Read one page.

    Args:
        path: An upright image; tesseract tells its type by content.
        dpi: 0 lets tesseract estimate it.
        psm: tesseract's page segmentation mode.
        hold_below: Mean confidence, 0-100, under which a page is unreadable.

    Returns:
        `status`: `empty` (no ink, no words), `unreadable` (most ink is in no word,
        or too little confidence) or `ok`; `text` with line and paragraph breaks,
        `words`, `confidence` (mean over words, weighted by their length), `ink`
        (share of dark pixels, 0-1) and `covered` (share of the ink in words, 0-1).

    Raises:
        Unacceptable: TRUNCATED or CORRUPT, the image cannot be decoded.
        Transient: OCR_TIMEOUT, OCR_CRASHED.
        Permanent: OCR_MISSING, OCR_LANGUAGE, OCR_FAILED.
    """
    table = tesseract(path, dpi, lang, psm, page_timeout_s)
    found = parsed(table)
    ink, covered = ink_of(path, found.boxes)
    return {
        "status": status(found, ink, covered, hold_below),
        "text": found.text,
        "words": found.words,
        "confidence": round(found.confidence, 1),
        "ink": round(ink, 5),
        "covered": round(covered, 2),
    }


# -- the engine -----------------------------------------------------------------------


def tesseract(path: str, dpi: int, lang: str, psm: int, page_timeout_s: float) -> str:
    """One run of tesseract; its TSV."""
    import pytesseract

    config = f"--psm {psm}" + (f" --dpi {dpi}" if dpi else "")
    try:
        # A path, not an image: pytesseract would encode the image anew.  And one
        # call for text and confidence: a second would read the page again.
        table: str = pytesseract.image_to_data(
            path, lang=lang, config=config, timeout=page_timeout_s
        )
    except pytesseract.TesseractNotFoundError:
        raise Permanent(
            "tesseract is not installed, or not on PATH",
            code="OCR_MISSING",
            hint="install it (Debian: apt install tesseract-ocr), then retry the items",
        ) from None
    except pytesseract.TesseractError as error:
        raise refused(error.status, str(error.message), lang) from None
    except RuntimeError:
        # How pytesseract reports its timeout; it has killed tesseract by then.
        raise Transient(
            f"tesseract read one page for {page_timeout_s:.0f} s without an end",
            code="OCR_TIMEOUT",
            hint="raise page_timeout_s, or lower dpi for this document",
        ) from None
    return table


def refused(status: int, message: str, lang: str) -> WaybillError:
    """The error for a tesseract that ended badly.  Its message stays here."""
    if status < 0:
        # A signal: the kernel short of memory, mostly.  Attempts are bounded.
        return Transient(
            f"tesseract was ended by signal {-status}",
            code="OCR_CRASHED",
            hint="look at the machine's memory, or lower max_pixels of intake",
        )
    if "language" in message or "traineddata" in message:
        return Permanent(
            f"tesseract has no language data for {lang}",
            code="OCR_LANGUAGE",
            hint=f"install it (Debian: apt install tesseract-ocr-{lang})",
        )
    return Permanent(
        f"tesseract ended with status {status}",
        code="OCR_FAILED",
        hint="run tesseract on the page's artifact to see why",
    )


# -- its answer ---------------------------------------------------------------------


@dataclass
class Found:
    """Words of one page as tesseract gave them."""

    text: str = ""
    words: int = 0
    confidence: float = 0.0  # 0-100
    boxes: list[Box] = field(default_factory=list)  # of believed words


def parsed(table: str) -> Found:
    """
    Rebuild text from tesseract's TSV.

    Columns: level, page, block, paragraph, line, word, left, top, width, height,
    confidence, text.  Level 1 is the page, level 5 a word.
    """
    found = Found()
    letters = total = 0.0
    height_max = 0
    last: list[str] = []
    parts: list[str] = []
    for row in table.split("\n")[1:]:
        columns = row.split("\t", 11)
        if len(columns) < 12:
            continue
        left, top, width, height = map(int, columns[6:10])
        if columns[0] == "1":
            height_max = height // 5  # no word is that high; a box around a picture is
        word, confidence = columns[11].strip(), float(columns[10])
        if columns[0] != "5" or confidence < 0 or not word:
            continue
        place = columns[2:5]
        if last:
            same = "\n" if place[:2] == last[:2] else "\n\n"
            parts.append(" " if place == last else same)
        parts.append(word)
        last = place
        found.words += 1
        letters += len(word)
        total += confidence * len(word)
        if confidence >= BELIEVED and height <= height_max:
            found.boxes.append((left, top, left + width, top + height))
    found.text = "".join(parts)
    found.confidence = total / letters if letters else 0.0
    return found


def status(found: Found, ink: float, covered: float, hold_below: float) -> str:
    """`empty`, `unreadable` or `ok`."""
    if not found.words:
        return "empty" if ink < INK_MIN else "unreadable"
    if ink >= INK_MIN and covered < COVERED_MIN:
        return "unreadable"  # something else is written there
    return "ok" if found.confidence >= hold_below else "unreadable"


# -- ink ----------------------------------------------------------------------------


def ink_of(path: str, boxes: list[Box]) -> tuple[float, float]:
    """
    The share of the page that is ink, and the share of that ink inside `boxes`.

    Ink is clearly darker than the paper around it.  It is measured on a small
    copy, where grain and dust average out, against a local estimate of the
    paper, so that a shadow is not ink.  The outer 3 % are left out: scanners
    leave black edges there.

    Raises:
        Unacceptable: TRUNCATED or CORRUPT.
    """
    from PIL import Image as images
    from PIL import ImageChops, ImageDraw, ImageFilter

    page, scale = small_copy(path)
    # The paper: the brightest of each neighbourhood, smoothed.
    coarse = page.reduce(8).filter(ImageFilter.MaxFilter(5))
    coarse = coarse.filter(ImageFilter.GaussianBlur(3))
    paper = coarse.resize(page.size, images.Resampling.BILINEAR)
    darker = ImageChops.subtract(paper, page)
    edge = ImageDraw.Draw(darker)
    width, height = page.size
    x, y = round(width * 0.03), round(height * 0.03)
    for strip in (
        (0, 0, width, y),
        (0, height - y, width, height),
        (0, 0, x, height),
        (width - x, 0, width, height),
    ):
        edge.rectangle(strip, fill=0)
    dark = darker.point([0] * INK_LEVELS + [255] * (256 - INK_LEVELS))
    # A dot without two dark neighbours is a speck, not part of a stroke.
    crowd = dark.filter(ImageFilter.BoxBlur(1)).point(lambda v: 255 * (v >= 80))
    dark = ImageChops.darker(dark, crowd)
    ink = dark.histogram()[255]
    eraser = ImageDraw.Draw(dark)
    for box in boxes:
        left, top, right, bottom = (round(place * scale) for place in box)
        eraser.rectangle((left - 1, top - 1, right + 1, bottom + 1), fill=0)
    outside = dark.histogram()[255]
    return ink / (width * height), 1 - outside / ink if ink else 0.0


def small_copy(path: str) -> tuple[Image, float]:
    """The page in gray with at most `SMALL` pixels on its long side; its scale."""
    from PIL import Image as images

    images.MAX_IMAGE_PIXELS = None  # intake has made every page small enough
    try:
        with images.open(path, formats=("PNG", "JPEG")) as image:
            wide = image.width
            scale = min(1.0, SMALL / max(image.size))
            size = (max(1, round(wide * scale)), max(1, round(image.height * scale)))
            image.draft("L", size)  # a JPEG decoder can halve, which is quicker
            gray = image.convert("L")
    except BROKEN as error:
        raise broken_image(error) from None
    page = gray.resize(size, images.Resampling.BOX, reducing_gap=2.0)
    return page, size[0] / wide
