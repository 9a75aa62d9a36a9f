"""
Reading one page, in the jail.

`read_page` takes the text where a page has it, and a picture's otherwise;
`read_again` is the second reader, whose answer is what both readings come to.
Whether a page without text is blank or beyond the readers is known by its ink, never
by the engine.

Libraries of pictures are imported inside functions: the worker imports this module
for its names alone.
"""

from __future__ import annotations

import contextlib
import importlib
from typing import TYPE_CHECKING, Any, Literal

from stages.formats import charsets
from stages.layout import Layout
from stages.reading import engines, rapid, second, tesseract
from stages.reading.agreeing import is_number
from stages.reading.compare import cuttings, small_picture
from stages.reading.judging import COVERED_MIN, INK_MIN, Ink, mean_of, too_few
from stages.reading.picture import open_page
from stages.reading.placing import Weighed, layout_of
from stages.reading.protocol import PageReading, PageRequest, ReaderSettings
from stages.reading.reader import JUMBLED, WAYS, Read, Reader

if TYPE_CHECKING:
    from PIL.Image import Image

Status = Literal["OK", "EMPTY", "UNREADABLE"]

LIBRARIES = (
    *("numpy.ma", "cv2", "pypdfium2", "pikepdf", "pillow_heif", "pytesseract"),
    *("PIL.ImageFilter", "PIL.ImageDraw", "PIL.ImageChops", "rapidfuzz.distance"),
)
UNDRAWN = "LAYER_UNDRAWN"  # why a page without ink is held: characters nobody sees
OTHER_LANGUAGE = "OTHER_LANGUAGE"  # it was read in one, and seems to be in another
# What a reviewer is told of pages that are held for a known reason.
WHY_HELD = {
    charsets.DOUBT: "is in an encoding that nothing names: letters may be wrong",
    UNDRAWN: "has text that is not drawn, and no ink",
    OTHER_LANGUAGE: "is in another language than it was read in: set lang, and install"
    " its data (waybill doctor)",
}
CONFUSED = 50.0  # confidence of text that may be in another encoding


def warm() -> None:
    """
    Load what pages are read with, once for all calls that read one.

    What starts a thread stays out, for no process can be forked from several.
    """
    warm_libraries()
    pytesseract = importlib.import_module("pytesseract")
    # It else asks tesseract with each page.  What is missing or odd (a SystemExit)
    # says so when one is read.
    with contextlib.suppress(pytesseract.TesseractNotFoundError, SystemExit):
        pytesseract.get_tesseract_version()
    if engines.available("tesserocr"):
        tesseract.loaded(tesseract.languages()[0])


def second_warmth() -> dict[str, Any]:
    """How the pool of second readers is made ready: arguments of `JailPool`."""
    if rapid.threaded():
        return {"warm": [warm_libraries], "threadless": [rapid.warm]}
    return {"warm": [warm_libraries, rapid.warm]}


def warm_libraries() -> None:
    """What both readers need."""
    for name in LIBRARIES:
        importlib.import_module(name)
    importlib.import_module("PIL.Image").init()


def read_page(request: dict[str, Any]) -> dict[str, Any]:
    """`first_reading` as the jail calls it: a `PageRequest` in, a `PageReading` out."""
    reading = first_reading(PageRequest.model_validate(request))
    return reading.model_dump(mode="json", exclude_defaults=True)


def read_again(request: dict[str, Any]) -> dict[str, Any]:
    """`second_reading` as the jail calls it."""
    reading = second_reading(PageRequest.model_validate(request))
    return reading.model_dump(mode="json", exclude_defaults=True)


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
        reader = Reader(settings, once=request.once)
        hidden, undrawn, fonts = 0, False, dict(request.fonts)
        if settings.layer != "off":
            found = page.layer(
                fonts, reader.line if settings.layer == "check" else None
            )
            if found is not None:
                hidden = 0 if found.why == "INVISIBLE" else found.hidden
                undrawn = found.hidden > 0
                if found.trusted:
                    whole = as_text(found.text, hidden, "layer", layout=found.layout)
                    return whole.model_copy(update={"fonts": fonts})
        picture, picture_dpi = page.picture()
    read = reader.page(picture, picture_dpi)
    reading = as_reading(read, settings, hidden)
    reading = reading.model_copy(update={"fonts": fonts})
    if undrawn and not reading.words and reading.ink < INK_MIN:
        # Somebody wrote there, and this machine has no font for it, or it was hidden.
        shown = small_picture(picture)
        held = {"status": "UNREADABLE", "code": UNDRAWN, "picture": shown}
        return reading.model_copy(update=held)
    return reading


def second_reading(request: PageRequest) -> PageReading:
    """The same page by the second reader, and by both; errors as of `first_reading`."""
    settings = request.reader
    with open_page(request) as page:
        picture, dpi = page.picture()
        layer = page.layer({}) if settings.layer != "off" else None
    if request.turned:
        picture = picture.transpose(WAYS[request.turned])
    if request.numbers_alone:
        return with_numbers(second.numbers(picture, request.first), picture, request)
    words, jumbled, written = second.both(
        picture,
        request.first,
        strict=settings.strict,
        agree_above=settings.agree_above,
    )
    if (
        layer is not None
        and layer.why == "SPARSE"
        and second.confirm(words, layer.layout, picture.size)
    ):
        # A photograph or a barcode is no text that the layer left out.
        return as_text(layer.text, layer.hidden, "layer", layout=layer.layout)
    ink = Ink(picture)
    covered = ink.covered([one.word.box for one in words])
    sure = mean_of([(one.word.text, one.confidence) for one in words])
    if too_few([one.confidence for one in words], covered):
        sure = 0.0
    laid = layout_of(words, rapid.NAME, picture.size, dpi, turned=request.turned)
    confidence = min(sure, JUMBLED) if jumbled else sure
    enough = ink.share < INK_MIN or (confidence >= settings.hold_below and not written)
    return PageReading(
        status=status_of(len(words), enough, ink.marked),
        text=laid.text,
        words=len(words),
        confidence=round(confidence, 1),
        ink=round(ink.share, 5),
        covered=round(covered, 2),
        engine=rapid.NAME,
        doubtful=not words or not enough,
        layout=laid if words else None,
        crops=cuttings(picture, laid),
        picture="" if words and enough else small_picture(picture),
    )


def with_numbers(
    words: list[Weighed], picture: Image, request: PageRequest
) -> PageReading:
    """The answer for a page of which the second reader read the numbers alone."""
    laid = layout_of(words, "", picture.size, 0, turned=request.turned)
    return PageReading(
        status="OK",
        text=laid.text,
        words=len(words),
        confidence=mean_of([(one.word.text, one.confidence) for one in words]),
        layout=laid,
        crops=cuttings(picture, laid),
    )


def together(
    first: PageReading, again: PageReading, *, numbers_alone: bool
) -> PageReading:
    """What is known of a page that was read again, or of which the numbers were."""
    if not again.words or again.layout is None:
        return first  # which may know why nothing is drawn there
    if not numbers_alone:
        kept = {"hidden": max(first.hidden, again.hidden), "noticed": first.noticed}
        return again.model_copy(update=kept)
    assert first.layout is not None
    layout = first.layout.model_copy(update={"blocks": again.layout.blocks})
    changed = {"text": again.text, "words": again.words, "crops": again.crops}
    return first.model_copy(update={**changed, "layout": layout})


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
    status: Status = "UNREADABLE" if doubt else "OK"
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


def as_reading(read: Read, settings: ReaderSettings, hidden: int = 0) -> PageReading:
    """The answer for a page that the first reader read."""
    confidence = read.confidence
    unread = read.marked and not read.words
    doubtful = unread or (
        read.ink >= INK_MIN
        and (confidence < settings.doubt_below or read.noticed != "")
    )
    # Where little of the ink is in words, something else is written there.
    enough = read.ink < INK_MIN or (
        read.covered >= COVERED_MIN
        and confidence >= settings.hold_below
        and not read.noticed
    )
    laid = layout_of(
        read.weighed(),
        read.engine,
        read.picture.size,
        read.dpi,
        turned=read.turned,
        language=read.language,
    )
    return PageReading(
        status=status_of(len(read.words), enough, read.marked),
        text=laid.text,
        words=len(read.words),
        confidence=round(confidence, 1),
        ink=round(read.ink, 5),
        covered=round(read.covered, 2),
        engine=read.engine,
        hidden=hidden,
        code=OTHER_LANGUAGE if read.noticed else "",
        noticed=read.noticed,
        doubtful=doubtful,
        numbers=any(is_number(word.text) for word in read.words),
        layout=laid if read.words else None,
        crops=cuttings(read.picture, laid),
        picture=small_picture(read.picture) if doubtful else "",
    )


def status_of(words: int, enough: bool, marked: bool) -> Status:
    """What may be said of the page: `UNREADABLE` is ink without a believed text."""
    if not words:
        return "UNREADABLE" if marked else "EMPTY"
    return "OK" if enough else "UNREADABLE"
