"""
PDFs: opened, with a password where one is known, and drawn page by page.

PDFium is imported inside functions: a jailed process should load it only when it
meets a PDF, and the worker never.  It is not safe in threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.errors import Unacceptable
from stages.formats.contrast import gray_of
from stages.formats.images import plausible_dpi, shrink_to
from stages.formats.pages import no_such_page

if TYPE_CHECKING:
    from PIL.Image import Image

# A scan is rendered at its own resolution: more would be invented, and read slower.
SCAN_COVERS = 0.7  # of the page, for its pictures to be the page
SCAN_OBJECTS_MAX = 60  # a page of more objects is a drawing
DPI_MIN = 72
# A page smaller than this, in the units of its file, may be in larger ones: A4 has 842.
SMALL_PAGE = 700
UNIT_MAX = 1_000.0
# What pikepdf and its numbers raise at damaged files.
BROKEN_STRUCTURE = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RuntimeError,
    OSError,
)
INVISIBLE_MODES = (3, 7)  # text render modes of PDF: drawn not, clip only
LOCKED = (
    "remove the password, or write it to secrets/TENANT/pdf-passwords.txt in the home "
    "folder, and drop the file again"
)


@contextmanager
def opened_pdf(path: str, passwords: Sequence[str] = ()) -> Iterator[Any]:
    """
    A PDF with its form fields ready to be drawn; its scripts are not run.

    An owner's password restricts printing and the like; such a file opens
    without one and is taken.

    Raises:
        Unacceptable: PDF_ENCRYPTED or PDF_CORRUPT.
    """
    document = unlocked(path, passwords)
    try:
        document.init_forms()  # else what people typed into fields stays invisible
        yield document
    finally:
        document.close()


def unlocked(path: str, passwords: Sequence[str]) -> Any:
    """The document, opened with none or the first password that fits."""
    import pypdfium2
    from pypdfium2 import raw

    for password in (None, *passwords):
        try:
            return pypdfium2.PdfDocument(path, password=password)
        except pypdfium2.PdfiumError as error:
            if error.err_code == raw.FPDF_ERR_SECURITY:
                break  # a way of locking that PDFium does not know
            if error.err_code != raw.FPDF_ERR_PASSWORD:
                raise pdf_corrupt("the PDF cannot be opened") from None
    tried = f", and none of {len(passwords)} known ones fits" if passwords else ""
    raise Unacceptable(
        f"the PDF needs a password{tried}",
        code="PDF_ENCRYPTED",
        hint=LOCKED,
    )


@contextmanager
def structure(path: str, passwords: Sequence[str]) -> Iterator[Any]:
    """
    A PDF as its objects.

    Raises:
        Unacceptable: PDF_CORRUPT, PDF_ENCRYPTED.
    """
    import pikepdf

    for password in ("", *passwords):
        try:
            pdf = pikepdf.open(path, password=password, suppress_warnings=True)
        except pikepdf.PasswordError:
            continue
        except (pikepdf.PdfError, *BROKEN_STRUCTURE) as error:
            raise Unacceptable(
                f"the PDF cannot be opened ({type(error).__name__})",
                code="PDF_CORRUPT",
                hint="export it again and send that",
            ) from None
        with pdf:
            yield pdf
        return
    raise Unacceptable(
        "the PDF needs a password",
        code="PDF_ENCRYPTED",
        hint=LOCKED,
    )


def user_unit(path: str, page: Any, index: int, passwords: Sequence[str] = ()) -> float:
    """
    How many points of 1/72 inch a unit of a page is: 1.0, unless the page says else.

    PDFium does not know it.
    """
    if max(page.get_size()) >= SMALL_PAGE:
        return 1.0
    try:
        with structure(path, passwords) as pdf:
            unit = float(pdf.pages[index].obj.get("/UserUnit", 1.0))
    except (Unacceptable, *BROKEN_STRUCTURE):
        return 1.0
    return min(unit, UNIT_MAX) if unit > 0 else 1.0


def load_page(document: Any, index: int) -> Any:
    """
    One page of an open PDF, from 0.

    Raises:
        Unacceptable: NO_SUCH_PAGE, or PDF_CORRUPT, naming the page.
    """
    import pypdfium2

    if not 0 <= index < len(document):
        raise no_such_page(index)
    try:
        return document[index]
    except pypdfium2.PdfiumError:
        raise pdf_corrupt(f"page {index + 1} of the PDF cannot be read") from None


def pdf_corrupt(message: str) -> Unacceptable:
    """The error for a PDF that PDFium cannot read."""
    return Unacceptable(
        message, code="PDF_CORRUPT", hint="export or scan it again and send that"
    )


def render(
    page: Any, dpi: float, max_pixels: int, unit: float = 1.0
) -> tuple[Image, int]:
    """A page of a PDF in gray, at `dpi` or what the pixel cap leaves of it."""
    import pypdfium2

    width, height = page.get_size()  # units of `unit` points, 1/72 inch
    scale = dpi / 72 * unit
    scale *= shrink_to(width * scale, height * scale, max_pixels)
    try:
        # Rendered in colour, then gray: PDFium's own gray drops transparency.
        bitmap = page.render(scale=scale)
    except pypdfium2.PdfiumError:
        raise pdf_corrupt("a page of the PDF cannot be drawn") from None
    try:
        drawn = bitmap.to_pil()
        image: Image = gray_of(
            drawn.convert("L"), lambda sized: sized(drawn).convert("RGB").split()
        )
    finally:
        bitmap.close()
    return image, plausible_dpi(max(image.size), scale * 72 / unit)


def scan_dpi(page: Any, dpi: int, unit: float = 1.0) -> float:
    """
    The resolution at which a page is drawn: its scan's own, at most `dpi`.

    A page is a scan when its pictures cover most of it and no text is drawn
    on them; an invisible text layer does not count.
    """
    from pypdfium2 import raw

    width, height = page.get_size()
    covered, finest = 0.0, 0.0
    for number, drawn in enumerate(page.get_objects(max_depth=2)):
        if number > SCAN_OBJECTS_MAX:
            return dpi
        if drawn.type == raw.FPDF_PAGEOBJ_IMAGE:
            left, bottom, right, top = drawn.get_bounds()
            across, down = max(0.1, right - left), max(0.1, top - bottom)
            covered += across * down
            # A picture may lie on its side: the finer way round is safe.
            pixels = max(drawn.get_px_size())
            finest = max(finest, 72 * pixels / max(across, down) / unit)
        elif drawn.type == raw.FPDF_PAGEOBJ_TEXT:
            mode = raw.FPDFTextObj_GetTextRenderMode(drawn.raw)
            if mode not in INVISIBLE_MODES:
                return dpi
    if covered < SCAN_COVERS * width * height or not finest:
        return dpi
    return min(dpi, max(DPI_MIN, finest))
