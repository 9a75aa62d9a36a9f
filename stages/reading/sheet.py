"""
A page as a picture for a person, with the lines in dispute beneath it.

Runs jailed: it opens what a stranger sent.  Libraries of pictures are imported inside
functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.stage import Value
from stages.formats.images import DECODED_PIXELS_MAX, opened
from stages.formats.kinds import PNG
from stages.reading.compare import packed
from stages.reading.picture import open_page
from stages.reading.protocol import PageRequest

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = (
    2000  # pixels of the page's longer side: handwriting can be read, a screen filled
)
GAP = 24  # pixels between the page and what was cut out of it
PAPER, RULE = 255, 96


class SheetRequest(Value):
    """A page, and paths of pictures that were cut out of it (PNG)."""

    page: PageRequest
    crops: tuple[str, ...] = ()


def sheet(request: dict[str, Any]) -> str:
    """
    A `SheetRequest` as one gray PNG, base64; "" of a page that came as text.

    Raises:
        Unacceptable: the page cannot be decoded.
    """
    asked = SheetRequest.model_validate(request)
    with open_page(asked.page) as page:
        if page.text() is not None:
            return ""
        whole, _ = page.picture()
    whole.thumbnail((SIDE, SIDE))
    return packed(_beneath(whole, [_crop(path) for path in asked.crops]), "PNG")


def _crop(path: str) -> Image:
    with opened(path, PNG, DECODED_PIXELS_MAX) as image:
        part = image.convert("L")
    part.thumbnail((SIDE, SIDE))
    return part


def _beneath(page: Image, crops: list[Image]) -> Image:
    """The page, and beneath a rule each crop, on one sheet of paper."""
    if not crops:
        return page
    from PIL import Image as images

    wide = max(part.width for part in (page, *crops))
    high = page.height + sum(GAP + part.height for part in crops) + GAP
    made = images.new("L", (wide, high), PAPER)
    made.paste(page, (0, 0))
    made.paste(RULE, (0, page.height, wide, page.height + 2))
    at = page.height + GAP
    for part in crops:
        made.paste(part, (0, at))
        at += part.height + GAP
    return made
