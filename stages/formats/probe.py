"""
Looking at a document: what it is, how many pages it has, whether it can be taken.

Runs jailed, once for each file: at admission, or in intake for what a bundle held.
What is wrong with a document is raised as `Unacceptable`.  Pages are made by
`stages.reading.picture`, one at a time, when they are read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from pipeline.errors import Unacceptable, WaybillError
from pipeline.stage import Settings, Value
from stages.formats import mail, text, tnef
from stages.formats.images import (
    BROKEN,
    DECODED_PIXELS_MAX,
    broken_image,
    frames,
    opened,
)
from stages.formats.kinds import (
    BUNDLES,
    DOCX,
    EML,
    IMAGES,
    PDF,
    SUFFIXES,
    TIFF,
    TNEF,
    WORDS,
    type_of,
)
from stages.formats.pdf import load_page, opened_pdf, pdf_corrupt
from stages.formats.portfolio import is_portfolio

# One default: what the service copies, a pipeline takes, and a bundle may hold.
BYTES_MAX = 256 << 20
ATTACHMENTS_MAX = 50  # names that are listed
NAME_CHARS = 120  # of each
PARTS_MAX = 10_000  # of a message; intake has a bound of its own
PART_BYTES = 1 << 40  # how large each is does not matter here


class DocumentBounds(Settings):
    """How large a document may be: keys of `[stage.intake]` that its probe obeys."""

    max_bytes: int = Field(default=BYTES_MAX, gt=0)
    max_pages: int = Field(default=500, gt=0)
    max_decoded_pixels: int = Field(default=DECODED_PIXELS_MAX, ge=1_000_000)

    def bounds(self) -> DocumentBounds:
        """These alone, of settings that have more keys."""
        return DocumentBounds.model_validate(
            self.model_dump(include=set(DocumentBounds.model_fields))
        )


class Probed(Value):
    """
    What a file is.

    Attributes:
        pages: 0 for a bundle: other documents put together.
        note: A sentence on what is odd about it, mostly "".
        attachments: Names of files inside a PDF or a message, not opened.
        left_out: What is in it and will not be read: `logo.png (decoration)`.
    """

    media_type: str
    pages: int = 0
    note: str = ""
    attachments: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def bundle(self) -> bool:
        """Whether its parts are documents, and it is none."""
        return self.pages == 0


def probe(
    path: str, name: str, bounds: dict[str, int], passwords: Sequence[str]
) -> dict[str, Any]:
    """`look` as the jail calls it: bounds in, `Probed` out, as JSON."""
    found = look(path, name, DocumentBounds.model_validate(bounds), passwords)
    return found.model_dump(mode="json")


def look(
    path: str,
    name: str = "",
    bounds: DocumentBounds | None = None,
    passwords: Sequence[str] = (),
) -> Probed:
    """
    Look at a file as a stage would, without keeping anything.

    The type is known by content; a name that says otherwise is only noted.
    Images are decoded to the end, every page of a PDF is loaded.

    Args:
        path: The bytes, under any name.
        name: The name the file came with.
        passwords: Tried in turn on a PDF that asks for one.

    Raises:
        Unacceptable: EMPTY_FILE, TOO_LARGE, UNSUPPORTED_TYPE, TRUNCATED, CORRUPT,
            PIXEL_LIMIT, PDF_ENCRYPTED, PDF_CORRUPT, PDF_XFA, NO_PAGES,
            TOO_MANY_PAGES, DOCX_BOMB, DOCX_ENCRYPTED, BUNDLE_TOO_MANY.
    """
    bounds = bounds or DocumentBounds()
    size = regular_size(path)
    if size == 0:
        raise Unacceptable(
            "the file is empty", code="EMPTY_FILE", hint="send the file again"
        )
    if size > bounds.max_bytes:
        raise Unacceptable(
            f"the file has {size:,} bytes, {bounds.max_bytes:,} are allowed",
            code="TOO_LARGE",
            hint="split it, scan it at 300 dpi, or raise max_bytes",
        )
    media_type = type_of(path)
    pages, notes = 0, [lie(name, media_type)]
    attachments: list[str] = []
    left_out: list[str] = []
    bundle = media_type in BUNDLES
    if media_type == PDF:
        bundle, pages, note, attachments = probe_pdf(path, bounds.max_pages, passwords)
        notes.append(note)
    elif media_type in IMAGES:
        pages, note = probe_image(path, media_type, bounds)
        notes.append(note)
    elif media_type == EML:
        attachments, left_out = attached(path)
        bundle = bool(attachments)
    elif media_type == TNEF:
        tnef.opened(Path(path).read_bytes())
    elif media_type == DOCX:
        left_out = text.unread(path)
    if not pages and not bundle:
        pages = count_text(path, media_type, bounds.max_pages)
    return Probed(
        media_type=media_type,
        pages=pages,
        note="; ".join(note for note in notes if note),
        attachments=tuple(attachments[:ATTACHMENTS_MAX]),
        left_out=tuple(left_out),
    )


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


def lie(name: str, media_type: str) -> str:
    """A note on a name that says another kind than the content; mostly ""."""
    suffix = Path(name).suffix.lower()
    said = SUFFIXES.get(suffix)
    if said is None or said == media_type:
        return ""
    return f"the name says {suffix}, the content is {WORDS[media_type]}"


def probe_image(path: str, media_type: str, bounds: DocumentBounds) -> tuple[int, str]:
    """Decode every frame; the number of pages, and a note on frames not taken."""
    pages, note = 0, ""
    max_pixels = bounds.max_decoded_pixels
    with opened(path, media_type, max_pixels) as image:
        for pages, frame in enumerate(frames(image, media_type, max_pixels), 1):
            if pages > bounds.max_pages:
                raise too_many(bounds.max_pages)
            try:
                # Of a JPEG this reads everything, and makes 1/64 of the pixels.
                frame.draft(None, (1, 1))
                frame.load()
            except BROKEN as error:
                raise broken_image(error) from None
        held = getattr(image, "n_frames", 1)
        if held > pages:
            note = f"it holds {held} pictures: " + (
                "copies and masks of a page are no pages"
                if media_type == TIFF
                else "the first is the page"
            )
    return pages, note


def count_text(path: str, media_type: str, max_pages: int) -> int:
    """The number of pages of a document that is text."""
    found = text.pages(path, media_type)
    pages = sum(1 for _ in islice(found, max_pages + 1))
    if pages > max_pages:
        raise too_many(max_pages)
    return pages


def attached(path: str) -> tuple[list[str], list[str]]:
    """Names of what is attached to a message, and of what is left out of it."""
    with mail.opened(path, PARTS_MAX, PART_BYTES) as contents:
        names = [part.name for part in contents.parts if not part.pages]
        return names, contents.left_out


def too_many(max_pages: int) -> Unacceptable:
    """The error for a document with more than `max_pages` pages."""
    return Unacceptable(
        f"the document has more than {max_pages} pages",
        code="TOO_MANY_PAGES",
        hint="split it, or raise max_pages of the intake stage",
    )


# -- PDF ------------------------------------------------------------------------------


def probe_pdf(
    path: str, max_pages: int, passwords: Sequence[str]
) -> tuple[bool, int, str, list[str]]:
    """Load every page; whether it is a bundle, how many pages, damage, attachments."""
    seen = seen_by_qpdf(path, passwords)
    if seen.pages == 0:
        raise Unacceptable(
            "the PDF has no pages", code="NO_PAGES", hint="export it again"
        )
    if seen.form:
        raise Unacceptable(
            "the PDF is an XFA form: what is filled in shows in Adobe's programs alone",
            code="PDF_XFA",
            hint="open it there, print it to PDF and send that",
        )
    with opened_pdf(path, passwords) as document:
        attachments = attached_to_pdf(document)
        if seen.portfolio:
            return True, 0, "", attachments
        pages = len(document)
        if pages > max_pages:
            raise too_many(max_pages)
        broken = [index + 1 for index in range(pages) if not loads(document, index)]
        if len(broken) == pages:
            raise pdf_corrupt(
                "the page of the PDF cannot be read"
                if pages == 1
                else f"none of the {pages} pages of the PDF can be read"
            )
    note = seen.note
    if seen.pages not in (None, pages):
        raise Unacceptable(
            f"the PDF is damaged: one parser finds {pages} pages, another {seen.pages}",
            code="PDF_CORRUPT",
            hint="export or scan it again: pages may be missing",
        )
    if broken:
        numbers = ", ".join(map(str, broken[:10]))
        more = f" and {len(broken) - 10} more" if len(broken) > 10 else ""
        note = f"page {numbers}{more} of {pages} cannot be read" + (
            f"; {note}" if note else ""
        )
    return False, pages, note, attachments


def loads(document: Any, index: int) -> bool:
    """Whether a page can be loaded."""
    try:
        load_page(document, index).close()
    except WaybillError:
        return False
    return True


def attached_to_pdf(document: Any) -> list[str]:
    """Names of the files embedded in a PDF; none of them is opened."""
    import pypdfium2

    names: list[str] = []
    for index in range(min(ATTACHMENTS_MAX, document.count_attachments())):
        try:
            names.append(document.get_attachment(index).get_name()[:NAME_CHARS])
        except (pypdfium2.PdfiumError, ValueError):
            names.append("")
    return names


class Seen(NamedTuple):
    """
    What a second parser, qpdf, says of a PDF.

    PDFium mends broken files silently, and may lose pages by it.

    Attributes:
        pages: How many; None where it cannot tell.
        portfolio: Its embedded files are what it is about.
        form: Its pages are a notice, and its content is XFA.
        note: What it repaired.
    """

    pages: int | None = None
    portfolio: bool = False
    form: bool = False
    note: str = ""


def seen_by_qpdf(path: str, passwords: Sequence[str]) -> Seen:
    """Ask it; a password that is missing is PDFium's to say."""
    import pikepdf

    for password in ("", *passwords):
        try:
            with pikepdf.open(path, password=password, suppress_warnings=True) as pdf:
                return Seen(
                    len(pdf.pages),
                    is_portfolio(pdf),
                    is_xfa_alone(pdf),
                    "the PDF was damaged and is repaired" if pdf.get_warnings() else "",
                )
        except pikepdf.PasswordError:
            continue
        except (pikepdf.PdfError, *BROKEN):
            return Seen(note="the PDF's structure is damaged, its pages could be read")
    return Seen()  # PDFium may know a way of locking that qpdf does not


def is_xfa_alone(pdf: Any) -> bool:
    """
    Whether the pages only say "Please wait": the form is drawn from its XFA.

    A form that has fields beside its XFA shows them on its pages.
    """
    form = pdf.Root.get("/AcroForm")
    if form is None or "/XFA" not in form:
        return False
    drawn = bool(pdf.Root.get("/NeedsRendering", False))
    return drawn or not form.get("/Fields")
