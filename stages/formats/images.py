"""
Images: opened by their own decoder alone, and made upright and gray.

What Pillow and libheif raise at broken files ends here as `Unacceptable`.  Both are
imported inside functions: the worker imports this module for its names alone.
"""

from __future__ import annotations

import itertools
import math
import os
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING

from pipeline.errors import Transient, Unacceptable, WaybillError
from stages.formats.contrast import gray_of
from stages.formats.kinds import BMP, GIF, HEIC, JPEG, PNG, TIFF, WEBP
from stages.formats.pages import no_such_page

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = {
    PNG: ("PNG",),
    JPEG: ("JPEG",),
    TIFF: ("TIFF",),
    WEBP: ("WEBP",),
    BMP: ("BMP",),
    GIF: ("GIF",),
    HEIC: ("HEIF",),
}
# Of an image as it came: 200 million are 800 MB while it is decoded.
DECODED_PIXELS_MAX = 200_000_000
STRIP = 512  # rows of a deep image that are converted at once
SIDE_MAX = 32_000  # pixels; tesseract refuses 32,768 and more
ORIENTATION = 0x0112  # of EXIF
# TIFF's NewSubfileType, whose bits say reduced copy and mask, and what was before it.
SUBFILE, NO_PAGE = 254, 0b101
OLD_SUBFILE, OLD_REDUCED = 255, 2

# What Pillow raises at broken files, found by feeding it broken files.
BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    ArithmeticError,
    LookupError,
    TypeError,
    AttributeError,
    EOFError,
    RuntimeError,
    AssertionError,  # of Pillow, at an empty palette
    struct.error,
    zlib.error,
)


@contextmanager
def opened(source: str | BytesIO, media_type: str, max_pixels: int) -> Iterator[Image]:
    """
    An image of exactly this type, not yet decoded.

    Raises:
        Unacceptable: PIXEL_LIMIT, TRUNCATED or CORRUPT.
    """
    from PIL import Image as images

    if media_type == HEIC:
        import pillow_heif

        # Thumbnails and depth maps are no pages; one thread, for the jail's sake.
        pillow_heif.register_heif_opener(thumbnails=False, decode_threads=1)
    images.MAX_IMAGE_PIXELS = None  # ours is the one check, and names its limit
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on odd metadata; it may quote the file
        try:
            image = images.open(source, formats=FORMATS[media_type])
        except BROKEN as error:
            raise broken_image(error) from None
        with image:
            check_pixels(image, max_pixels)
            yield image


def frames(image: Image, media_type: str, max_pixels: int) -> Iterator[Image]:
    """
    The pages of a TIFF, one at a time; any other image has one page.

    Smaller copies of a page and masks are no pages, unless there is nothing else.
    """
    if media_type != TIFF:
        yield image  # the second frame of an animation or a stereo photo is no page
        return
    found = 0
    for index in itertools.count():
        try:
            image.seek(index)
        except EOFError:
            break
        except BROKEN as error:
            raise broken_image(error) from None
        if not is_copy(image):
            check_pixels(image, max_pixels)
            found += 1
            yield image
    if not found:
        image.seek(0)
        check_pixels(image, max_pixels)
        yield image


def is_copy(image: Image) -> bool:
    """Whether a frame of a TIFF is a reduced copy, or the mask, of another."""
    tags = getattr(image, "tag_v2", {})
    kind, old_kind = tags.get(SUBFILE, 0), tags.get(OLD_SUBFILE, 1)
    return bool(isinstance(kind, int) and kind & NO_PAGE) or old_kind == OLD_REDUCED


def seek(image: Image, media_type: str, index: int, max_pixels: int) -> None:
    """
    Bring the frame that is page `index` into `image`, not yet decoded.

    Raises:
        Unacceptable: NO_SUCH_PAGE, PIXEL_LIMIT, CORRUPT.
    """
    for number, _ in enumerate(frames(image, media_type, max_pixels)):
        if number == index:
            return
    raise no_such_page(index)


def turned(frame: Image, media_type: str, max_pixels: int) -> tuple[Image, float]:
    """The frame gray, small enough and upright; and by how much it shrank."""
    wide = frame.width
    share = shrink_to(frame.width, frame.height, max_pixels)
    if media_type == JPEG and share < 1:
        # The decoder itself can halve; it never goes below the size asked for.
        size = (math.floor(frame.width * share), math.floor(frame.height * share))
        frame.draft("L", size)
    gray = to_gray(frame)
    # Asked for after decoding: TIFF and HEIC are turned by their decoders, which
    # then take the tag away.
    orientation = frame.getexif().get(ORIENTATION, 1)
    share = shrink_to(gray.width, gray.height, max_pixels)
    if share < 1:
        gray = gray.resize(
            (max(1, int(gray.width * share)), max(1, int(gray.height * share))),
            reducing_gap=2.0,
        )
    shrink = gray.width / wide
    return upright(gray, orientation), shrink


def upright(gray: Image, orientation: object) -> Image:
    """A picture turned as its EXIF orientation says; one of 1 or nonsense stays."""
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    turn = turns.get(orientation) if isinstance(orientation, int) else None
    return gray if turn is None else gray.transpose(turn)


def to_gray(frame: Image) -> Image:
    """8-bit gray, on white paper where it is transparent; see `gray_of`."""
    from PIL import Image as images
    from PIL import ImageStat

    frame.load()
    if frame.mode == "1":
        return frame.convert("L")
    if frame.mode == "L" and "transparency" not in frame.info:
        return gray_of(frame.copy(), lambda sized: [sized(frame)])
    if frame.mode.startswith(("I", "F")):
        return stretched(frame)
    if frame.mode == "LAB":
        return gray_of(frame.getchannel(0), lambda sized: sized(frame).split())
    if frame.has_transparency_data:
        layer = frame if frame.mode in ("RGBA", "LA") else frame.convert("RGBA")
        # Laid on gray paper, not on coloured: a quarter of the memory.
        paper = images.new("L", layer.size, 255)
        paper.paste(layer.convert("L"), mask=layer.getchannel("A"))

        def on_white(sized: Callable[[Image], Image]) -> list[Image]:
            *colours, there = sized(layer).split()
            white = images.new("L", there.size, 255)
            # What colour something has that is not there is nobody's ink.
            made = [images.composite(one, white, there) for one in colours]
            # White strokes on nothing are ink; holes in white paper are paper.
            return [*made, there] if ImageStat.Stat(there).median[0] < 128 else made

        return gray_of(paper, on_white)
    colours = frame if frame.mode in ("RGB", "CMYK") else frame.convert("RGB")
    return gray_of(frame.convert("L"), lambda sized: sized(colours).split())


def stretched(frame: Image) -> Image:
    """An image of 16 bits or more: what is there, from 0 to 255."""
    from PIL import Image as images

    # In strips: as floating point numbers it would take two or four times the memory.
    width, height = frame.size
    edges = [*range(0, height, STRIP), height]
    strips = [(0, top, width, bottom) for top, bottom in itertools.pairwise(edges)]
    found = [frame.crop(strip).convert("F").getextrema() for strip in strips]
    low = min(float(low) for low, _ in found)  # type: ignore[arg-type]
    high = max(float(high) for _, high in found)  # type: ignore[arg-type]
    scale = 255.0 / ((high - low) or 1.0)
    gray = images.new("L", frame.size)
    for strip in strips:
        part = frame.crop(strip).convert("F").point(lambda v: v * scale - low * scale)
        gray.paste(part.convert("L"), strip[:2])
    return gray


def shrink_to(width: float, height: float, max_pixels: int) -> float:
    """
    The factor, at most 1, that brings an image under both caps.

    Renderers round each side up, so the area asked for is solved for
    (s w + 1) (s h + 1) = max_pixels.
    """
    width, height = max(1.0, width), max(1.0, height)
    area, around = width * height, width + height
    root = math.sqrt(around**2 + 4 * area * (max_pixels - 1))
    return min(1.0, (root - around) / (2 * area), SIDE_MAX / max(width, height))


def declared_dpi(image: Image) -> float:
    """Dots per inch as the file says; 0 where that cannot be true of a page."""
    try:
        found = float(image.info.get("dpi", (0, 0))[0])
    except (TypeError, ValueError, LookupError, ArithmeticError):
        return 0.0
    return found if is_plausible(max(image.size), found) else 0.0


def is_plausible(long_side: int, dpi: float) -> bool:
    """
    Whether a picture of a page may have this resolution.

    Cameras write 72 into everything, and a 3000-pixel page at 72 dpi would be
    a metre long: a page is taken to be between 2 and 20 inches.
    """
    return dpi >= 70 and 2 <= long_side / dpi <= 20


def plausible_dpi(long_side: int, found: float) -> int:
    """A page's dpi; estimated from A4 where `found` cannot be true."""
    if is_plausible(long_side, found):
        return round(found)
    return min(600, max(70, round(long_side / 11.69)))


def check_pixels(image: Image, max_pixels: int) -> None:
    """Refuse by what the header says, before any memory is taken for it."""
    if image.width * image.height > max_pixels:
        raise Unacceptable(
            f"the image has more than {max_pixels:,} pixels",
            code="PIXEL_LIMIT",
            hint="scan it at 300 dpi, or raise the limit on decoded pixels",
        )


def broken_image(error: BaseException) -> WaybillError:
    """TRUNCATED when the data ends early, CORRUPT for anything else it is to blame."""
    if isinstance(error, WaybillError):
        return error
    if isinstance(error, OSError) and error.errno is not None:
        # The system's error, not the file's: Pillow's own carry no number.
        return Transient(
            f"the file could not be read: {os.strerror(error.errno)}",
            code="READ_FAILED",
            hint="look at the disk of the artifact store",
        )
    text = str(error).lower()
    if isinstance(error, EOFError) or "truncated" in text or "unexpected end" in text:
        return Unacceptable(
            "the file ends before the image does",
            code="TRUNCATED",
            hint="the copy was cut short: send the file again",
        )
    return Unacceptable(
        f"the image cannot be decoded ({type(error).__name__})",
        code="CORRUPT",
        hint="open it in an image program and save it again",
    )
