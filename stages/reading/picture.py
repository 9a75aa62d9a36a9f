"""
Pictures of pages: one page of a document at a time, upright and gray.

Runs jailed.  A page is decoded or rendered when it is asked for, at
most once, and nothing of its document's other pages is in memory then.  What is
wrong with a file is raised as `Unacceptable`; what is wrong with one page is
raised for that page alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any

from stages.formats import text as textual
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
from stages.formats.pdf import load_page, opened_pdf, render, scan_dpi
from stages.reading.layer.fonts import Verify
from stages.reading.layer.layer import Layer, read_layer

if TYPE_CHECKING:
    from PIL.Image import Image


class SourcePage:
    """
    One page of a document.

    Attributes:
        hidden: Characters left out of `text` because a reader does not see them.
    """

    hidden = 0

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

    def layer(self, verify: Verify | None = None) -> Layer | None:
        """The text layer of a page of a PDF; see `read_layer`."""
        return None


@contextmanager
def open_page(
    path: str,
    media_type: str,
    index: int,
    *,
    dpi: int = 300,
    max_pixels: int = 40_000_000,
    max_decoded_pixels: int = 200_000_000,
    passwords: Sequence[str] = (),
) -> Iterator[SourcePage]:
    """
    The page `index`, from 0, of a file whose kind is known.

    Args:
        dpi: At most, at which a page of a PDF is rendered.
        max_pixels: Of a picture that is given out; a larger one is made smaller.
        max_decoded_pixels: Of an image as it came, by its header.
        passwords: Tried in turn on a PDF that asks for one.

    Raises:
        Unacceptable: as `stages.formats.probe.probe`, and NO_SUCH_PAGE.
    """
    if media_type == PDF:
        with opened_pdf(path, passwords) as document:
            page = load_page(document, index)
            try:
                yield PdfPage(path, page, dpi, max_pixels)
            finally:
                page.close()
    elif media_type in IMAGES:
        with opened(path, media_type, max_decoded_pixels) as image:
            seek(image, media_type, index, max_decoded_pixels)
            yield ImagePage(image, media_type, max_pixels)
    elif media_type in TEXTS:
        part = textual.page_of(path, media_type, index)
        if isinstance(part, textual.Text):
            yield TextPage(part)
            return
        kind = by_signature(part[:64])
        if kind not in IMAGES:
            raise unsupported("a picture of a kind that cannot be read")
        with opened(BytesIO(part), kind, max_decoded_pixels) as image:
            yield ImagePage(image, kind, max_pixels)
    else:
        raise unsupported("not a kind that has pages")


class TextPage(SourcePage):
    """A page that came as text."""

    def __init__(self, page: textual.Text) -> None:
        self._text, self.hidden = page

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
    """A page of a PDF."""

    def __init__(self, path: str, page: Any, dpi: int, max_pixels: int) -> None:
        self._path = path
        self._page = page
        self._dpi = dpi
        self._max_pixels = max_pixels
        self._made: tuple[Image, int] | None = None

    def picture(self) -> tuple[Image, int]:
        if self._made is None:
            dpi = scan_dpi(self._page, self._dpi)
            self._made = render(self._page, dpi, self._max_pixels)
        return self._made

    def layer(self, verify: Verify | None = None) -> Layer | None:
        return read_layer(self._path, self._page, verify)
