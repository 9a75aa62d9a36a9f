"""
Reading one page, in the jail.

`read_page` takes the text where a page has it, and a picture's otherwise;
`read_again` is the second reader, for pages where the first is in doubt.  Whether
a page without text is blank or beyond the reader is known by its ink, never by the
engine.

Libraries of pictures are imported inside functions: the worker imports this module
for its names alone.
"""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pipeline.errors import WaybillError
from stages.formats import charsets
from stages.layout import Layout, Turn
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
from stages.reading.placing import layout_of
from stages.reading.protocol import Line, PageReading, PageRequest, ReaderSettings
from stages.reading.soft import Softened, soften

if TYPE_CHECKING:
    from PIL.Image import Image

LIBRARIES = (
    *("numpy.ma", "cv2", "pypdfium2", "pikepdf", "pillow_heif", "pytesseract"),
    *("PIL.ImageFilter", "PIL.ImageDraw", "PIL.ImageChops", "rapidfuzz.distance"),
)

# Share of the words in torn rows above which a page is read once more as one block.
# Receipts whose prices were read as a column of their own: 0.11-0.93; real receipts
# and letters read rightly: 0-0.01.
TORN_MIN = 0.1
ONE_BLOCK = 6  # tesseract's page segmentation mode for it
UNDRAWN = "LAYER_UNDRAWN"  # why a page without ink is held: characters nobody sees
CONFUSED = 50.0  # confidence of text that may be in another encoding
SENSELESS = 40.0  # confidence of a page on which one more reading is wasted

# A page less sure than this may lie on its side, or on its head.
TURN_BELOW = 65.0
TURN_SIDE = 1300  # pixels of the copy on which other ways up are tried
TURN_SENSE_MIN = 60.0  # characters in sound words: a few lines


def warm() -> None:
    """
    Load what pages are read with, once for all calls that read one.

    What starts a thread stays out, for no process can be forked from several: the
    second reader's library does when it is imported, and loads with each page.
    """
    for name in LIBRARIES:
        importlib.import_module(name)
    importlib.import_module("PIL.Image").init()
    pytesseract = importlib.import_module("pytesseract")
    # It else asks tesseract with each page.  What is missing or odd (a SystemExit)
    # says so when one is read.
    with contextlib.suppress(pytesseract.TesseractNotFoundError, SystemExit):
        pytesseract.get_tesseract_version()
    if engines.available("tesserocr"):
        engines.loaded(engines.languages()[0])


def read_page(request: dict[str, Any]) -> dict[str, Any]:
    """`first_reading` as the jail calls it: a `PageRequest` in, a `PageReading` out."""
    reading = first_reading(PageRequest.model_validate(request))
    return reading.model_dump(mode="json")


def read_again(request: dict[str, Any]) -> dict[str, Any]:
    """`second_reading` as the jail calls it."""
    reading = second_reading(PageRequest.model_validate(request))
    return reading.model_dump(mode="json")


def first_reading(request: PageRequest) -> PageReading:
    """
    Read a page of a document.

    Text that came as text is taken as it is; a PDF's own text where it is what a
    person would see there; of anything else the picture is read.

    Raises:
        Unacceptable: the page cannot be decoded.
        Transient: OCR_TIMEOUT, OCR_CRASHED.
        Permanent: OCR_MISSING, OCR_LANGUAGE, OCR_FAILED, ENGINE_MISSING.
    """
    settings = request.reader
    with open_page(request) as page:
        text = page.text()
        if text is not None:
            return as_text(text, page.hidden, "text", doubt=page.doubt)
        reader = Reader(settings.engine, settings)
        hidden, undrawn, fonts = 0, False, dict(request.fonts)
        if settings.layer == "check":
            found = page.layer(fonts, reader.line)
            if found is not None:
                hidden = 0 if found.why == "INVISIBLE" else found.hidden
                undrawn = found.hidden > 0
                if found.trusted:
                    whole = as_text(found.text, hidden, "layer", layout=found.layout)
                    return whole.model_copy(update={"fonts": fonts})
        picture, picture_dpi = page.picture()
    reading = as_reading(reader.page(picture, picture_dpi), settings, hidden)
    reading = reading.model_copy(update={"fonts": fonts})
    if undrawn and not reading.words and reading.ink < INK_MIN:
        # Somebody wrote there, and this machine has no font for it, or it was hidden.
        shown = small_picture(picture)
        held = {"status": "UNREADABLE", "code": UNDRAWN, "picture": shown}
        return reading.model_copy(update=held)
    return reading


def second_reading(request: PageRequest) -> PageReading:
    """The same page by the second reader; errors as of `first_reading`."""
    with open_page(request) as page:
        picture, picture_dpi = page.picture()
    read = Reader("rapidocr", request.reader).page(picture, picture_dpi)
    return as_reading(read, request.reader, first=request.first)


# -- reading a picture ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Read:
    """
    A picture and the words that were found on it, in its own pixels.

    Attributes:
        missed: Share of glyphs, 0-1, that are in no word.
        marked: There is a stroke: see `Ink`.
        turned: Degrees clockwise by which the page was turned to make the picture.
    """

    picture: Image
    words: list[Word]
    engine: str
    ink: float
    covered: float
    dpi: int
    language: str
    missed: float = 0.0
    marked: bool = True
    turned: Turn = 0

    @property
    def confidence(self) -> float:
        """See `judge`."""
        return judge(self.engine, self.words, self.covered, self.missed)

    @property
    def layout(self) -> Layout:
        """The words on the page as it came."""
        return layout_of(
            self.words,
            self.engine,
            self.picture.size,
            self.dpi,
            turned=self.turned,
            language=self.language,
        )


class Reader:
    """An engine and how it is used here."""

    def __init__(self, engine: str, settings: ReaderSettings) -> None:
        self._engine = engines.engine(engine)
        self._lang, self._others = settings.lang, ""
        if settings.lang == "auto":
            self._lang, self._others = engines.languages()
        self._psm = settings.psm
        self._soft = settings.preprocess == "soft"
        self._timeout_s = settings.page_timeout_s

    def page(self, picture: Image, dpi: int) -> Read:
        """Read a page; one that makes no sense also another way up, then otherwise."""
        read = self._read(picture, dpi)
        if read.ink < INK_MIN or read.confidence >= TURN_BELOW:
            return read
        turn = self._other_way_up(read)
        if turn is not None:
            way, degrees = turn
            again = self._read(picture.transpose(way), dpi, degrees)
            read = again if again.confidence > read.confidence else read
        if not self._others or read.confidence >= TURN_BELOW:
            return read
        # Every language at once is slower and slips more: only where one failed.
        self._lang, self._others = self._others, ""
        again = self._read(read.picture, dpi, read.turned)
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

    def _read(self, picture: Image, dpi: int, turned: Turn = 0) -> Read:
        ink = Ink(picture)
        if ink.share < NO_INK:
            return self._as_read(picture, [], ink, dpi, turned)
        if ink.share < INK_MIN:
            # Almost nothing is there.  Evening the light would make glyphs of
            # the paper's grain; only a word that is sure counts, a page number.
            words = [w for w in self._words(picture, dpi) if w.confidence >= SURE]
        elif self._soft:
            return self._softened(picture, dpi, ink, turned)
        else:
            words = self._words(picture, dpi)
        return self._as_read(picture, words, ink, dpi, turned)

    def _softened(self, picture: Image, dpi: int, ink: Ink, turned: Turn) -> Read:
        """Read the page's soft copy; as one block too, where it was read in pieces."""
        soft = soften(picture, dpi)

        def found(psm: int) -> Read:
            words = [
                word._replace(box=soft.back(word.box))
                for word in self._words(soft.image, soft.dpi, psm)
            ]
            return self._as_read(picture, words, ink, dpi, turned, soft)

        read = found(self._psm)
        pieces = torn(read.words) >= TORN_MIN or read.missed > MISSED_ENOUGH
        if self._psm == ONE_BLOCK or not pieces or read.confidence < SENSELESS:
            return read
        whole = found(ONE_BLOCK)
        # What tears a page is no text in columns only when the rows read as well.
        return whole if weight(undoubted(whole)) >= weight(undoubted(read)) else read

    def _as_read(
        self,
        picture: Image,
        words: list[Word],
        ink: Ink,
        dpi: int,
        turned: Turn,
        soft: Softened | None = None,
    ) -> Read:
        boxes = [word.box for word in words if believed(word, picture)]
        return Read(
            picture=picture,
            words=words,
            engine=self._engine.name,
            ink=ink.share,
            covered=ink.covered(boxes),
            dpi=dpi,
            language=self._lang,
            missed=missed_of(soft, boxes) if soft else 0.0,
            marked=ink.marked,
            turned=turned,
        )

    def _words(self, picture: Image, dpi: int, psm: int = 0) -> list[Word]:
        return self._engine.read(
            picture,
            dpi=dpi,
            lang=self._lang,
            psm=psm or self._psm,
            timeout_s=self._timeout_s,
        )

    def _other_way_up(self, read: Read) -> tuple[Any, Turn] | None:
        """By which transposition the page makes far more sense; None: by none."""
        from PIL.Image import Transpose

        ways: tuple[tuple[Transpose, Turn], ...] = (
            (Transpose.ROTATE_180, 180),
            (Transpose.ROTATE_90, 270),  # Pillow turns counterclockwise
            (Transpose.ROTATE_270, 90),
        )
        small = read.picture.copy()
        small.thumbnail((TURN_SIDE, TURN_SIDE))
        best, turn = max(sense(self._words(small, 0)) * 2, TURN_SENSE_MIN), None
        for way, degrees in ways:
            found = sense(self._words(small.transpose(way), 0))
            if found > best:
                best, turn = found, (way, degrees)
        return turn


def undoubted(read: Read) -> list[Word]:
    """The words that are no scratches read as words."""
    return [word for word in read.words if word.confidence >= DOUBTED]


def sense(words: Sequence[Word]) -> float:
    """How much sense a reading makes: characters of confident words that are words."""
    return sum(
        len(word.text)
        for word in words
        if word.confidence >= 75 and re.fullmatch(r"[^\W\d_]{3,}[.,;:!?]?", word.text)
    )


def as_text(
    text: str,
    hidden: int,
    source: Literal["text", "layer"],
    *,
    doubt: bool = False,
    layout: Layout | None = None,
) -> PageReading:
    """The answer for a page whose text did not have to be read."""
    words = len(text.split())
    status: Literal["OK", "UNREADABLE"] = "UNREADABLE" if doubt else "OK"
    sure = CONFUSED if doubt else 100.0
    return PageReading(
        status=status if words else "EMPTY",
        code=charsets.DOUBT if words and doubt else "",
        text=text,
        words=words,
        confidence=sure if words else 0.0,
        covered=1.0 if words else 0.0,
        source=source,
        engine=layout.reader if layout else "",
        hidden=hidden,
        layout=layout,
    )


def as_reading(
    read: Read, settings: ReaderSettings, hidden: int = 0, first: Sequence[Line] = ()
) -> PageReading:
    """The answer for a page that was read; `first` is what another read there."""
    confidence = read.confidence
    unread = read.marked and not read.words
    doubtful = unread or (read.ink >= INK_MIN and confidence < settings.doubt_below)
    shown: dict[str, Any] = {}
    if doubtful:
        lines = lines_of(read.words)
        disputes = disputed(first, lines) if first else disputed(lines, ())
        shown = {
            "lines": lines,
            "picture": small_picture(read.picture),
            "crops": cuttings(read.picture, disputes),
        }
    return PageReading(
        status=status_of(read, confidence, settings.hold_below),
        text=text_of(read.words),
        words=len(read.words),
        confidence=round(confidence, 1),
        ink=round(read.ink, 5),
        covered=round(read.covered, 2),
        engine=read.engine,
        hidden=hidden,
        doubtful=doubtful,
        layout=read.layout if read.words else None,
        **shown,
    )


def status_of(
    read: Read, confidence: float, hold_below: float
) -> Literal["OK", "EMPTY", "UNREADABLE"]:
    """What may be said of the page: `UNREADABLE` is ink without a believed text."""
    if not read.words:
        return "UNREADABLE" if read.marked else "EMPTY"
    if read.ink < INK_MIN:
        return "OK"  # a page number
    if read.covered < COVERED_MIN:
        return "UNREADABLE"  # something else is written there
    return "OK" if confidence >= hold_below else "UNREADABLE"
