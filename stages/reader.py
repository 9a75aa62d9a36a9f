"""
Reading documents: plain functions that run in a child process.

`probe` says whether a file can be taken at all; `normalise` turns it into upright
page images.  Paths and numbers go in, plain data comes out; what is wrong with a
document is raised as `Unacceptable`.

Pillow, PDFium and qpdf are imported inside functions: the worker imports this
module for its names alone and must stay small and safe, and a child should load
PDFium only when it meets a PDF.
"""

from __future__ import annotations

import math
import os
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import Transient, Unacceptable, WaybillError

if TYPE_CHECKING:
    from PIL.Image import Image
    from pypdfium2 import PdfDocument

PNG, JPEG = "image/png", "image/jpeg"
TIFF, PDF = "image/tiff", "application/pdf"
SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"\xff\xd8\xff", JPEG),
    (b"II*\0", TIFF),
    (b"MM\0*", TIFF),
    (b"II+\0", TIFF),  # BigTIFF
    (b"MM\0+", TIFF),
)
SUFFIXES = {
    ".png": PNG,
    ".jpg": JPEG,
    ".jpeg": JPEG,
    ".jpe": JPEG,
    ".tif": TIFF,
    ".tiff": TIFF,
    ".pdf": PDF,
}
WORDS = {PNG: "PNG", JPEG: "JPEG", TIFF: "TIFF", PDF: "PDF"}
FORMATS = {PNG: ("PNG",), JPEG: ("JPEG",), TIFF: ("TIFF",)}

SIDE_MAX = 32_000  # pixels; tesseract refuses 32,768 and more
HEAD_BYTES = 1024  # readers of PDF accept its header anywhere in the first 1024

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
    struct.error,
    zlib.error,
)


# -- probe --------------------------------------------------------------------------


def probe(
    path: str,
    name: str = "",
    max_bytes: int = 256 << 20,
    max_pages: int = 500,
    max_pixels: int = 200_000_000,
    decode: bool = True,
) -> dict[str, Any]:
    """
    Look at a file as a stage would, without keeping anything.

    The type is told by content; a name that says otherwise is only noted.
    Images are decoded to the end, every page of a PDF is loaded.

    Args:
        path: The bytes, under any name.
        name: The name the file came with.
        max_pixels: Of one image, checked before it is decoded.
        decode: False trusts images whose header is sound: for bytes that were
            probed when they came in.

    Returns:
        `media_type`, `pages`, and `note`: a sentence, mostly "".

    Raises:
        Unacceptable: EMPTY_FILE, TOO_LARGE, UNSUPPORTED_TYPE, TRUNCATED, CORRUPT,
            PIXEL_LIMIT, PDF_ENCRYPTED, PDF_CORRUPT, NO_PAGES, TOO_MANY_PAGES.
    """
    size = regular_size(path)
    if size == 0:
        raise Unacceptable(
            "the file is empty", code="EMPTY_FILE", hint="send the file again"
        )
    if size > max_bytes:
        raise Unacceptable(
            f"the file has {size:,} bytes, {max_bytes:,} are allowed",
            code="TOO_LARGE",
            hint="split it, scan it at 300 dpi, or raise max_bytes",
        )
    media_type = type_of(path)
    if media_type == PDF:
        pages, note = probe_pdf(path, max_pages)
    else:
        pages = probe_image(path, media_type, max_pages, max_pixels, decode)
        note = ""
    said = SUFFIXES.get(Path(name).suffix.lower())
    if said is not None and said != media_type:
        suffix = Path(name).suffix.lower()
        mismatch = f"the name says {suffix}, the content is {WORDS[media_type]}"
        note = f"{mismatch}; {note}" if note else mismatch
    return {"media_type": media_type, "pages": pages, "note": note}


def regular_size(path: str) -> int:
    """Size in bytes; refuses pipes, devices and folders, which could block us."""
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise Unacceptable(
            "this is not a regular file",
            code="UNSUPPORTED_TYPE",
            hint="send the file itself, not a link to a device or a folder",
        )
    return found.st_size


def type_of(path: str) -> str:
    """
    The media type, by content.

    Raises:
        Unacceptable: UNSUPPORTED_TYPE, saying what it seems to be.
    """
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
    for signature, media_type in SIGNATURES:
        if head.startswith(signature):
            return media_type
    if b"%PDF-" in head:
        return PDF
    import puremagic

    try:
        guess = puremagic.from_string(head, mime=True)
    except (puremagic.PureError, ValueError):
        guess = ""
    raise Unacceptable(
        f"the content is {guess or 'of no known type'}",
        code="UNSUPPORTED_TYPE",
        hint="save it as PDF, PNG, JPEG or TIFF and send it again",
    )


def probe_image(
    path: str, media_type: str, max_pages: int, max_pixels: int, decode: bool
) -> int:
    """Decode every frame; the number of pages."""
    with opened(path, media_type, max_pixels) as image:
        pages = 0
        for pages, frame in enumerate(frames(image, media_type, max_pixels), 1):
            if pages > max_pages:
                raise too_many(max_pages)
            if decode:
                # Of a JPEG this reads everything, and makes 1/64 of the pixels.
                frame.draft(None, (1, 1))
                frame.load()
    return pages


def probe_pdf(path: str, max_pages: int) -> tuple[int, str]:
    """Load every page; the number of pages, and a note when it was damaged."""
    with opened_pdf(path) as document:
        pages = len(document)
        if pages == 0:
            raise Unacceptable(
                "the PDF has no pages", code="NO_PAGES", hint="export it again"
            )
        if pages > max_pages:
            raise too_many(max_pages)
        for index in range(pages):
            load_page(document, index).close()
    return pages, compare_structure(path, pages)


def compare_structure(path: str, pages: int) -> str:
    """
    Ask a second reader, qpdf, for the structure; a note on what it repaired.

    PDFium mends broken files silently and may lose pages by it.

    Raises:
        Unacceptable: PDF_CORRUPT when the two disagree on the number of pages.
    """
    import pikepdf

    try:
        with pikepdf.open(path, suppress_warnings=True) as pdf:
            counted = len(pdf.pages)
            repaired = bool(pdf.get_warnings())
    except (pikepdf.PdfError, *BROKEN):
        return "the PDF's structure is damaged, its pages could be read"
    if counted != pages:
        raise Unacceptable(
            f"the PDF is damaged: one reader finds {pages} pages, another {counted}",
            code="PDF_CORRUPT",
            hint="export or scan it again: pages may be missing",
        )
    return "the PDF was damaged and is repaired" if repaired else ""


def too_many(max_pages: int) -> Unacceptable:
    """The error for a document with more than `max_pages` pages."""
    return Unacceptable(
        f"the document has more than {max_pages} pages",
        code="TOO_MANY_PAGES",
        hint="split it, or raise max_pages of the intake stage",
    )


# -- normalise ----------------------------------------------------------------------


def normalise(
    path: str,
    out_dir: str,
    first: int,
    last: int,
    dpi: int = 300,
    max_pixels: int = 40_000_000,
    max_decoded_pixels: int = 200_000_000,
) -> list[dict[str, Any]]:
    """
    Upright images of pages `first` to `last`, one page in memory at a time.

    A single PNG or JPEG that tesseract can read as it lies is passed through:
    encoding a page anew costs up to 0.7 s of processor time.  Other pages become
    gray PNG files in `out_dir`.  A page with more than `max_pixels` is made
    smaller, never refused.

    Args:
        first, last: Page numbers from 1, inclusive.
        dpi: At which pages of a PDF are rendered.
        max_decoded_pixels: Of one image, checked before it is decoded.

    Returns:
        For each page `number`, `file` (None: the source itself is the page),
        `width`, `height` in pixels, and `dpi`.

    Raises:
        Unacceptable: as `probe`.
    """
    media_type = type_of(path)
    pages: list[dict[str, Any]] = []
    if media_type == PDF:
        with opened_pdf(path) as document:
            for number in range(first, last + 1):
                image, at_dpi = render(document, number - 1, dpi, max_pixels)
                pages.append(written(image, out_dir, number, at_dpi))
        return pages

    with opened(path, media_type, max_decoded_pixels) as image:
        if first == 1 and readable_as_is(image, media_type, max_pixels):
            width, height = image.size
            page = {"number": 1, "file": None, "width": width, "height": height}
            return [{**page, "dpi": dpi_of(image)}]
        for number, frame in enumerate(
            frames(image, media_type, max_decoded_pixels), 1
        ):
            if number > last:
                break
            if number >= first:
                at_dpi = dpi_of(frame)
                upright, shrink = turned(frame, media_type, max_pixels)
                at_dpi = max(1, round(at_dpi * shrink))
                pages.append(written(upright, out_dir, number, at_dpi))
    return pages


def readable_as_is(image: Image, media_type: str, max_pixels: int) -> bool:
    """Whether tesseract reads this file upright and whole, as it lies."""
    if media_type == TIFF or image.mode not in ("1", "L", "RGB", "P"):
        return False
    if media_type == PNG and getattr(image, "n_frames", 1) > 1:
        return False
    width, height = image.size
    return (
        width * height <= max_pixels
        and max(width, height) <= SIDE_MAX
        and "transparency" not in image.info
        and image.getexif().get(0x0112, 1) in (0, 1)  # orientation: upright
    )


def turned(frame: Image, media_type: str, max_pixels: int) -> tuple[Image, float]:
    """The frame gray, small enough and upright; and by how much it shrank."""
    from PIL import ImageOps

    wide = frame.width
    share = shrink_to(frame.width, frame.height, max_pixels)
    if media_type == JPEG and share < 1:
        # The decoder itself can halve; it never goes below the size asked for.
        size = (math.floor(frame.width * share), math.floor(frame.height * share))
        frame.draft("L", size)
    exif = frame.getexif()
    gray = to_gray(frame)
    if exif.get(0x0112, 1) not in (0, 1):
        gray.getexif()[0x0112] = exif[0x0112]
        gray.info["exif"] = gray.getexif().tobytes()
    share = shrink_to(gray.width, gray.height, max_pixels)
    if share < 1:
        gray = gray.resize(
            (max(1, int(gray.width * share)), max(1, int(gray.height * share))),
            reducing_gap=2.0,
        )
    shrink = gray.width / wide
    return ImageOps.exif_transpose(gray), shrink


def to_gray(frame: Image) -> Image:
    """8-bit gray (1-bit stays 1-bit), on white paper where it is transparent."""
    from PIL import Image as images

    frame.load()
    if frame.mode in ("1", "L"):
        return frame.copy()
    if frame.mode.startswith(("I", "F")):
        # 16 bits and more: stretch what is there to 0-255.
        low, high = frame.convert("F").getextrema()
        assert isinstance(low, float)
        assert isinstance(high, float)
        scale = 255.0 / ((high - low) or 1.0)
        return frame.convert("F").point(lambda v: v * scale - low * scale).convert("L")
    if frame.mode == "LAB":
        return frame.getchannel(0)
    if frame.has_transparency_data:
        layer = frame.convert("RGBA")
        paper = images.new("RGBA", layer.size, "white")
        return images.alpha_composite(paper, layer).convert("L")
    return frame.convert("L")


def render(
    document: PdfDocument, index: int, dpi: int, max_pixels: int
) -> tuple[Image, int]:
    """One page of a PDF in gray, at `dpi` or what the pixel cap leaves of it."""
    page = load_page(document, index)
    try:
        width, height = page.get_size()  # points, 1/72 inch
        scale = dpi / 72
        scale *= shrink_to(width * scale, height * scale, max_pixels)
        # Rendered in colour, then gray: PDFium's own gray drops transparency.
        bitmap = page.render(scale=scale)
        try:
            image: Image = bitmap.to_pil().convert("L")
        finally:
            bitmap.close()
    finally:
        page.close()
    return image, max(1, round(scale * 72))


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


def written(image: Image, out_dir: str, number: int, dpi: int) -> dict[str, Any]:
    """Write one page; its description."""
    path = os.path.join(out_dir, f"page-{number}.png")
    # Level 1: a typed page takes 0.07-0.3 s at 300 dpi; level 6 takes 5 x that
    # for 13 % less.
    try:
        image.save(path, "PNG", compress_level=1, dpi=(dpi, dpi))
    except OSError as error:
        raise Transient(
            f"a page could not be written: {os.strerror(error.errno or 0)}",
            code="SCRATCH_FULL",
            hint="free space where temporary files go (TMPDIR)",
        ) from None
    width, height = image.size
    return {
        "number": number,
        "file": path,
        "width": width,
        "height": height,
        "dpi": dpi,
    }


def dpi_of(image: Image) -> int:
    """
    Dots per inch as the file says; assumed from A4 where that cannot be true.

    Cameras write 72 into everything, and a 3000-pixel page at 72 dpi would be
    a metre long: a page is taken to be between 2 and 20 inches.
    """
    long_side = max(image.size)
    try:
        found = float(image.info.get("dpi", (0, 0))[0])
    except (TypeError, ValueError, LookupError, ArithmeticError):
        found = 0.0
    if found >= 70 and 2 <= long_side / found <= 20:
        return round(found)
    return min(600, max(70, round(long_side / 11.69)))


# -- opening ------------------------------------------------------------------------


@contextmanager
def opened(path: str, media_type: str, max_pixels: int) -> Iterator[Image]:
    """
    An image of exactly this type, not yet decoded.

    Raises:
        Unacceptable: PIXEL_LIMIT, TRUNCATED or CORRUPT, also while it is used.
    """
    from PIL import Image as images

    images.MAX_IMAGE_PIXELS = max_pixels
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on odd metadata; it may quote the file
        warnings.simplefilter("error", images.DecompressionBombWarning)
        try:
            with images.open(path, formats=FORMATS[media_type]) as image:
                check_pixels(image, max_pixels)
                yield image
        except (images.DecompressionBombError, images.DecompressionBombWarning):
            raise pixel_limit(max_pixels) from None
        except BROKEN as error:
            raise broken_image(error) from None


def frames(image: Image, media_type: str, max_pixels: int) -> Iterator[Image]:
    """The frames of a TIFF, one at a time; any other image has one page."""
    yield image
    if media_type != TIFF:
        return  # the second frame of an animation or a stereo photo is no page
    index = 0
    while True:
        index += 1
        try:
            image.seek(index)
        except EOFError:
            return
        check_pixels(image, max_pixels)
        yield image


def check_pixels(image: Image, max_pixels: int) -> None:
    """Refuse by what the header says, before any memory is taken for it."""
    if image.width * image.height > max_pixels:
        raise pixel_limit(max_pixels)


def pixel_limit(max_pixels: int) -> Unacceptable:
    """The error for an image with more than `max_pixels` pixels."""
    return Unacceptable(
        f"the image has more than {max_pixels:,} pixels",
        code="PIXEL_LIMIT",
        hint="scan it at 300 dpi, or raise the limit on decoded pixels",
    )


def broken_image(error: BaseException) -> WaybillError:
    """TRUNCATED when the data ends early, CORRUPT for anything else it is to blame."""
    if isinstance(error, OSError) and error.errno is not None:
        # The system's error, not the file's: Pillow's own carry no number.
        return Transient(
            f"the file could not be read: {os.strerror(error.errno)}",
            code="READ_FAILED",
            hint="look at the disk of the artifact store",
        )
    said = str(error).lower()
    if isinstance(error, EOFError) or "truncated" in said or "unexpected end" in said:
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


@contextmanager
def opened_pdf(path: str) -> Iterator[PdfDocument]:
    """
    A PDF with its form fields ready to be drawn.

    An owner's password restricts printing and the like; such a file opens
    without one and is taken.

    Raises:
        Unacceptable: PDF_ENCRYPTED or PDF_CORRUPT.
    """
    import pypdfium2
    from pypdfium2 import raw

    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        locked = (raw.FPDF_ERR_PASSWORD, raw.FPDF_ERR_SECURITY)
        if error.err_code in locked:
            raise Unacceptable(
                "the PDF needs a password",
                code="PDF_ENCRYPTED",
                hint="remove the password and send it again",
            ) from None
        raise pdf_corrupt("the PDF cannot be opened") from None
    try:
        document.init_forms()  # else what people typed into fields stays invisible
        yield document
    finally:
        document.close()


def load_page(document: PdfDocument, index: int) -> Any:
    """
    One page of an open PDF.

    Raises:
        Unacceptable: PDF_CORRUPT, naming the page.
    """
    import pypdfium2

    try:
        return document[index]
    except pypdfium2.PdfiumError:
        raise pdf_corrupt(f"page {index + 1} of the PDF cannot be read") from None


def pdf_corrupt(message: str) -> Unacceptable:
    """The error for a PDF that PDFium cannot read."""
    return Unacceptable(
        message, code="PDF_CORRUPT", hint="export or scan it again and send that"
    )
