"""
Pages made of pictures: one of a PDF's pages a picture, whose bytes are taken over as
they came where a PDF can hold them, and else packed about as small.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from stages.formats.images import (
    BROKEN,
    ORIENTATION,
    broken_image,
    declared_dpi,
    frames,
    opened,
    plausible_dpi,
    stretched,
    upright,
)
from stages.formats.kinds import HEIC, JPEG, PNG
from stages.layout import Layout

if TYPE_CHECKING:
    from PIL.Image import Image

TAKEN_MODES = ("1", "L", "P", "RGB")
# Turned without being touched: the page says which way up.  A mirrored one is redrawn.
MIRRORED = (2, 4, 5, 7)
QUALITIES = (90, 80, 70, 60, 50)  # of a JPEG, until it is as small as what came
GROWTH = 1.05  # times its size that a picture may have in the PDF
# Pictures that were packed with loss before: packed without, they are many times
# as large, which takes seconds to find out.
LOSSY = (HEIC, JPEG)


def picture_pages(
    data: bytes,
    media_type: str,
    wanted: Iterable[int],
    layouts: dict[int, Layout],
    max_pixels: int,
) -> list[bytes]:
    """
    A PDF of one page for each of these pages, from 0, of an image.

    Args:
        layouts: By page: how large, and of how many pixels an inch, it was read.

    Raises:
        Unacceptable: PIXEL_LIMIT, TRUNCATED or CORRUPT.
    """
    made: list[bytes] = []
    last = max(numbers := set(wanted), default=-1)
    with opened(io.BytesIO(data), media_type, max_pixels) as image:
        share = len(data) // max(1, getattr(image, "n_frames", 1))
        for index, frame in enumerate(frames(image, media_type, max_pixels)):
            if index in numbers:
                packed, drawn = _packed(frame, media_type, data, share)
                made.append(_page(packed, drawn, layouts.get(index)))
            if index >= last:
                break
    return made


def _page(packed: bytes, drawn: tuple[int, int, float], layout: Layout | None) -> bytes:
    """A page as large as its paper, as far as that is known."""
    import img2pdf

    width, height, declared = drawn
    long_side = max(width, height)
    dpi: float = plausible_dpi(long_side, declared)
    if layout is not None and layout.dpi > 0:
        # It may have been made smaller to be read.
        dpi = layout.dpi * long_side / max(layout.width, layout.height)
    size = img2pdf.get_fixed_dpi_layout_fun((dpi, dpi))
    pdf = img2pdf.convert(
        packed, layout_fun=size, rotation=img2pdf.Rotation.ifvalid, nodate=True
    )
    assert isinstance(pdf, bytes)
    return pdf


def _packed(
    frame: Image, media_type: str, data: bytes, share: int
) -> tuple[bytes, tuple[int, int, float]]:
    """Bytes that a PDF can hold, and the picture's width, height and declared dpi."""
    try:
        turn = frame.getexif().get(ORIENTATION, 1)
        shape = (*frame.size, declared_dpi(frame))
        plain = frame.mode in TAKEN_MODES and not frame.has_transparency_data
        if media_type in (JPEG, PNG) and plain and turn not in MIRRORED:
            frame.load()  # what is damaged is found here
            return data, shape
        lossy = media_type in LOSSY or frame.info.get("compression") == "jpeg"
        drawn = _opaque(frame)
        # TIFF and HEIC are turned by their decoders, which take the tag away.
        drawn = upright(drawn, frame.getexif().get(ORIENTATION, 1))
        return _saved(drawn, lossy, int(share * GROWTH)), (*drawn.size, shape[2])
    except BROKEN as error:
        raise broken_image(error) from None


def _opaque(frame: Image) -> Image:
    """A picture on white paper, in a mode of JPEG and PNG."""
    from PIL import Image as images

    frame.load()
    if frame.mode.startswith(("I", "F")):
        return stretched(frame)
    if frame.has_transparency_data:
        layer = frame if frame.mode in ("RGBA", "LA") else frame.convert("RGBA")
        paper = images.new("L" if layer.mode == "LA" else "RGB", layer.size, "white")
        paper.paste(layer.convert(paper.mode), mask=layer.getchannel("A"))
        return paper
    return frame.copy() if frame.mode in TAKEN_MODES else frame.convert("RGB")


def _saved(drawn: Image, lossy: bool, bytes_max: int) -> bytes:
    """Without loss where that is no larger; else as a JPEG that is not, if it can."""
    best = b""
    if drawn.mode == "1":
        return _bytes(drawn, "TIFF", compression="group4")
    if not lossy:
        best = _bytes(drawn, "PNG", optimize=drawn.width * drawn.height < 4_000_000)
        if len(best) <= bytes_max:
            return best
    plain = drawn.convert("RGB") if drawn.mode == "P" else drawn
    for quality in QUALITIES:
        packed = _bytes(plain, "JPEG", quality=quality, optimize=True)
        if not best or len(packed) < len(best):
            best = packed
        if len(best) <= bytes_max:
            break
    return best


def _bytes(image: Image, kind: str, **how: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **how)
    return out.getvalue()
