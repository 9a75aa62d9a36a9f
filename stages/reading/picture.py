"""
Pictures of pages: one page of a document at a time, upright and gray.

Runs jailed.  A page is decoded or rendered when it is asked for, at
most once, and nothing of its document's other pages is in memory then.  What is
wrong with a file is raised as `Unacceptable`; what is wrong with one page is
raised for that page alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any

from stages.formats.images import (
    BROKEN,
    broken_image,
    declared_dpi,
    opened,
    plausible_dpi,
    seek,
    turned,
)
from stages.formats.kinds import IMAGES, PDF, TEXTS, by_signature, unsupported
from stages.formats.pages import Text
from stages.formats.pdf import load_page, opened_pdf, render, scan_dpi, user_unit
from stages.formats.text import page_of
from stages.reading.layer.fonts import Known, Verify
from stages.reading.layer.layer import Layer, read_layer
from stages.reading.protocol import PageRequest

if TYPE_CHECKING:
    from PIL.Image import Image


class SourcePage:
    """
    One page of a document.

    Attributes:
        hidden: Characters left out of `text` because a person does not see them.
        doubt: `text` may be of other characters than its document's.
    """

    hidden = 0
    doubt = False

    def text(self) -> str | None:
        """The text of a kind that is text; None for pictures and PDFs."""
        return None

    def picture(self) -> tuple[Image, int]:
        """
        The page in gray (mode L), upright, on white paper; and its dpi.

        Raises:
            Unacceptable: TRUNCATED, CORRUPT, PIXEL_LIMIT or PDF_CORRUPT.
        """
        raise NotImplementedError

    def layer(self, known: Known, verify: Verify | None = None) -> Layer | None:
        """The text layer of a page of a PDF; see `read_layer`."""
        return None


@contextmanager
def open_page(request: PageRequest) -> Iterator[SourcePage]:
    """
    The page that is asked for.

    Raises:
        Unacceptable: as `stages.formats.probe.look`, and NO_SUCH_PAGE.
    """
    path, media_type, index = request.path, request.media_type, request.index
    settings = request.reader
    if media_type == PDF:
        with opened_pdf(path, request.passwords) as document:
            page = load_page(document, index)
            try:
                unit = user_unit(path, page, index, request.passwords)
                yield PdfPage(page, settings.dpi, settings.max_pixels, unit)
            finally:
                page.close()
    elif media_type in IMAGES:
        with opened(path, media_type, settings.max_decoded_pixels) as image:
            seek(image, media_type, index, settings.max_decoded_pixels)
            yield ImagePage(image, media_type, settings.max_pixels)
    elif media_type in TEXTS:
        part = page_of(path, media_type, index)
        if isinstance(part, Text):
            yield TextPage(part)
            return
        kind = by_signature(part[:64])
        if kind not in IMAGES:
            raise unsupported("a picture of a kind that cannot be read")
        with opened(BytesIO(part), kind, settings.max_decoded_pixels) as image:
            yield ImagePage(image, kind, settings.max_pixels)
    else:
        raise unsupported("not a kind that has pages")


class TextPage(SourcePage):
    """A page that came as text."""

    def __init__(self, page: Text) -> None:
        self._text: str
        self._text, self.hidden, self.doubt = page

    def text(self) -> str:
        return self._text


class ImagePage(SourcePage):
    """A frame of an image."""

    def __init__(self, image: Image, media_type: str, max_pixels: int) -> None:
        self._image = image
        self._media_type = media_type
        self._max_pixels = max_pixels
        self._made: tuple[Image, int] | None = None

    def picture(self) -> tuple[Image, int]:
        if self._made is None:
            declared = declared_dpi(self._image)
            try:
                upright, shrink = turned(
                    self._image, self._media_type, self._max_pixels
                )
            except BROKEN as error:
                raise broken_image(error) from None
            dpi = round(declared * shrink) or plausible_dpi(max(upright.size), 0)
            self._made = upright, dpi
            self._image.close()  # in colour it takes four times the memory
        return self._made


class PdfPage(SourcePage):
    """A page of a PDF, whose unit is so many points."""

    def __init__(self, page: Any, dpi: int, max_pixels: int, unit: float) -> None:
        self._unit = unit
        self._page = page
        self._dpi = dpi
        self._max_pixels = max_pixels
        self._made: tuple[Image, int] | None = None

    def picture(self) -> tuple[Image, int]:
        if self._made is None:
            dpi = scan_dpi(self._page, self._dpi, self._unit)
            self._made = render(self._page, dpi, self._max_pixels, self._unit)
        return self._made

    def layer(self, known: Known, verify: Verify | None = None) -> Layer | None:
        return read_layer(self._page, known, verify, self._unit)
