"""
Reading one page: plain functions that run jailed.

`read_page` takes the text where a page has it, and a picture's otherwise;
`read_again` is the second reader, for pages where the first is in doubt.  Whether
a page without text is blank or beyond the reader is told by its ink, never by the
engine.

Libraries of pictures are imported inside functions: the worker imports this module
for its names alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import WaybillError
from stages.reading import engines
from stages.reading.compare import cuttings, disputed, lines_of, small_picture
from stages.reading.engines import Word, text_of, torn
from stages.reading.judging import (
    COVERED_MIN,
    DOUBTED,
    INK_MIN,
    MISSED_ENOUGH,
    NO_INK,
    SURE,
    Ink,
    believed,
    judge,
    missed_of,
    weight,
)
from stages.reading.picture import open_page
from stages.reading.soft import Softened, soften

if TYPE_CHECKING:
    from PIL.Image import Image

# Share of the words in torn rows above which a page is read once more as one block.
# Receipts whose prices were read as a column of their own: 0.11-0.93; real receipts
# and letters read rightly: 0-0.01.
TORN_MIN = 0.1
ONE_BLOCK = 6  # tesseract's page segmentation mode for it
SENSELESS = 40.0  # confidence of a page on which one more reading is wasted

# A page less sure than this may lie on its side, or on its head.
TURN_BELOW = 65.0
TURN_SIDE = 1300  # pixels of the copy on which other ways up are tried
TURN_SENSE_MIN = 60.0  # letters in sound words: a few lines


def read_page(
    path: str,
    media_type: str,
    index: int,
    engine: str = "pytesseract",
    lang: str = "eng",
    psm: int = 4,
    preprocess: str = "soft",
    layer: str = "check",
    dpi: int = 300,
    max_pixels: int = 40_000_000,
    max_decoded_pixels: int = 200_000_000,
    page_timeout_s: float = 120.0,
    doubt_below: float = 92.0,
    hold_below: float = 75.0,
    passwords: Sequence[str] = (),
) -> dict[str, Any]:
    """
    Read the page `index`, from 0, of a document.

    Text that came as text is taken as it is; a PDF's own text where it is what a
    person would see there; of anything else the picture is read.

    Args:
        dpi: At most, at which a page of a PDF is rendered.
        doubt_below: Confidence, 0-100, under which another should read it too.
        hold_below: Confidence under which it counts as unreadable.

    Returns:
        `status` (OK, EMPTY or UNREADABLE), `text`, `words`, `confidence`
        (calibrated, 0-100; see `judge`), `ink` (share of dark pixels, 0-1),
        `covered` (share of the ink in believed words, 0-1), `source` (text, layer
        or ocr), `engine`, `hidden` (characters nobody sees), `doubtful`; of a
        doubtful page also `picture` (JPEG, base64), `lines` and `crops`.

    Raises:
        Unacceptable: the page cannot be decoded.
        Transient: OCR_TIMEOUT, OCR_CRASHED.
        Permanent: OCR_MISSING, OCR_LANGUAGE, OCR_FAILED, ENGINE_MISSING.
    """
    with open_page(
        path,
        media_type,
        index,
        dpi=dpi,
        max_pixels=max_pixels,
        max_decoded_pixels=max_decoded_pixels,
        passwords=passwords,
    ) as page:
        text = page.text()
        if text is not None:
            return as_text(text, page.hidden, "text")
        reader = Reader(engine, lang, psm, preprocess, page_timeout_s)
        hidden = 0
        if layer == "check":
            found = page.layer(reader.line)
            if found is not None:
                hidden = 0 if found.why == "INVISIBLE" else found.hidden
                if found.trusted:
                    return as_text(found.text, hidden, "layer")
        picture, picture_dpi = page.picture()
    read = reader.page(picture, picture_dpi)
    return told(read, hidden, doubt_below, hold_below)


def read_again(
    path: str,
    media_type: str,
    index: int,
    lang: str = "eng",
    psm: int = 4,
    preprocess: str = "soft",
    dpi: int = 300,
    max_pixels: int = 40_000_000,
    max_decoded_pixels: int = 200_000_000,
    page_timeout_s: float = 120.0,
    doubt_below: float = 92.0,
    hold_below: float = 75.0,
    passwords: Sequence[str] = (),
    first: Sequence[dict[str, Any]] = (),
    **_of_the_first: Any,
) -> dict[str, Any]:
    """
    The same page by the second reader; arguments and result as `read_page`.

    `first` are the lines of the first reading: `crops` shows where they differ.
    """
    with open_page(
        path,
        media_type,
        index,
        dpi=dpi,
        max_pixels=max_pixels,
        max_decoded_pixels=max_decoded_pixels,
        passwords=passwords,
    ) as page:
        picture, picture_dpi = page.picture()
    reader = Reader("rapidocr", lang, psm, preprocess, page_timeout_s)
    read = reader.page(picture, picture_dpi)
    return told(read, 0, doubt_below, hold_below, first)


# -- reading a picture ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Read:
    """A picture and the words that were found on it, in its own pixels."""

    picture: Image
    words: list[Word]
    engine: str
    ink: float
    covered: float
    missed: float = 0.0  # share of letters, 0-1, that are in no word

    @property
    def confidence(self) -> float:
        """See `judge`."""
        return judge(self.engine, self.words, self.covered, self.missed)


class Reader:
    """An engine and how it is used here."""

    def __init__(
        self, engine: str, lang: str, psm: int, preprocess: str, timeout_s: float
    ) -> None:
        self._engine = engines.engine(engine)
        self._lang, self._others = (lang, "") if lang != "auto" else engines.languages()
        self._psm = psm
        self._soft = preprocess == "soft"
        self._timeout_s = timeout_s

    def page(self, picture: Image, dpi: int) -> Read:
        """Read a page; one that makes no sense also another way up, then otherwise."""
        read = self._read(picture, dpi)
        if read.ink < INK_MIN or read.confidence >= TURN_BELOW:
            return read
        turn = self._other_way_up(read)
        if turn is not None:
            again = self._read(picture.transpose(turn), dpi)
            read = again if again.confidence > read.confidence else read
        if not self._others or read.confidence >= TURN_BELOW:
            return read
        # Every language at once is slower and slips more: only where one failed.
        self._lang, self._others = self._others, ""
        again = self._read(read.picture, dpi)
        return again if again.confidence > read.confidence else read

    def line(self, picture: Image) -> str:
        """The text of a picture of one line; "" where it cannot be read."""
        try:
            words = self._engine.read(
                picture, dpi=0, lang=self._lang, psm=7, timeout_s=self._timeout_s
            )
        except WaybillError:
            return ""
        return text_of(words)

    def _read(self, picture: Image, dpi: int) -> Read:
        ink = Ink(picture)
        if ink.share < NO_INK:
            return Read(picture, [], self._engine.name, ink.share, 0.0)
        if ink.share < INK_MIN:
            # Almost nothing is there.  Evening the light would make letters of
            # the paper's grain; only a word that is sure counts, a page number.
            words = [w for w in self._words(picture, dpi) if w.confidence >= SURE]
        elif self._soft:
            return self._softened(picture, dpi, ink)
        else:
            words = self._words(picture, dpi)
        boxes = [word.box for word in words if believed(word, picture)]
        covered = ink.covered(boxes)
        return Read(picture, words, self._engine.name, ink.share, covered)

    def _softened(self, picture: Image, dpi: int, ink: Ink) -> Read:
        """Read the page's soft copy; as one block too, where it was read in pieces."""
        soft = soften(picture, dpi)
        read = self._found(picture, soft, ink, self._psm)
        pieces = torn(read.words) >= TORN_MIN or read.missed > MISSED_ENOUGH
        if self._psm == ONE_BLOCK or not pieces or read.confidence < SENSELESS:
            return read
        whole = self._found(picture, soft, ink, ONE_BLOCK)
        # What tears a page is no text in columns only when the rows read as well.
        return whole if weight(undoubted(whole)) >= weight(undoubted(read)) else read

    def _found(self, picture: Image, soft: Softened, ink: Ink, psm: int) -> Read:
        words = [
            word._replace(box=soft.back(word.box))
            for word in self._words(soft.image, soft.dpi, psm)
        ]
        boxes = [word.box for word in words if believed(word, picture)]
        return Read(
            picture,
            words,
            self._engine.name,
            ink.share,
            ink.covered(boxes),
            missed_of(soft, boxes),
        )

    def _words(self, picture: Image, dpi: int, psm: int = 0) -> list[Word]:
        return self._engine.read(
            picture,
            dpi=dpi,
            lang=self._lang,
            psm=psm or self._psm,
            timeout_s=self._timeout_s,
        )

    def _other_way_up(self, read: Read) -> Any:
        """By which transposition the page makes far more sense; None: by none."""
        from PIL.Image import Transpose

        small = read.picture.copy()
        small.thumbnail((TURN_SIDE, TURN_SIDE))
        best, turn = max(sense(self._words(small, 0)) * 2, TURN_SENSE_MIN), None
        for way in (Transpose.ROTATE_180, Transpose.ROTATE_90, Transpose.ROTATE_270):
            found = sense(self._words(small.transpose(way), 0))
            if found > best:
                best, turn = found, way
        return turn


def undoubted(read: Read) -> list[Word]:
    """The words that are no scratches read as words."""
    return [word for word in read.words if word.confidence >= DOUBTED]


def sense(words: Sequence[Word]) -> float:
    """How much sense a reading makes: letters of confident words that are words."""
    return sum(
        len(word.text)
        for word in words
        if word.confidence >= 75 and re.fullmatch(r"[^\W\d_]{3,}[.,;:!?]?", word.text)
    )


def as_text(text: str, hidden: int, source: str) -> dict[str, Any]:
    """The answer for a page whose text did not have to be read."""
    words = len(text.split())
    return {
        "status": "OK" if words else "EMPTY",
        "text": text,
        "words": words,
        "confidence": 100.0 if words else 0.0,
        "ink": 0.0,
        "covered": 1.0 if words else 0.0,
        "source": source,
        "engine": "",
        "hidden": hidden,
        "doubtful": False,
    }


def told(
    read: Read,
    hidden: int,
    doubt_below: float,
    hold_below: float,
    first: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """The answer for a page that was read; `first` is what another read there."""
    confidence = read.confidence
    status = judged(read, confidence, hold_below)
    doubtful = read.ink >= INK_MIN and confidence < doubt_below
    answer: dict[str, Any] = {
        "status": status,
        "text": text_of(read.words),
        "words": len(read.words),
        "confidence": round(confidence, 1),
        "ink": round(read.ink, 5),
        "covered": round(read.covered, 2),
        "source": "ocr",
        "engine": read.engine,
        "hidden": hidden,
        "doubtful": doubtful,
    }
    if doubtful:
        lines = lines_of(read.words)
        answer["lines"] = lines
        answer["picture"] = small_picture(read.picture)
        answer["crops"] = cuttings(
            read.picture, disputed(first or lines, first and lines)
        )
    return answer


# -- judging --------------------------------------------------------------------------


def judged(read: Read, confidence: float, hold_below: float) -> str:
    """`EMPTY`, `UNREADABLE` or `OK`."""
    if not read.words:
        return "EMPTY" if read.ink < INK_MIN else "UNREADABLE"
    if read.ink < INK_MIN:
        return "OK"  # a page number
    if read.covered < COVERED_MIN:
        return "UNREADABLE"  # something else is written there
    return "OK" if confidence >= hold_below else "UNREADABLE"
