"""
The jailed side of `searchable`: what was read of a document in, its files out.

A PDF keeps its pages; those that were read get a layer of words that nobody sees.
Pictures and text become PDF/A-2b.  A PDF that has nothing to add stays the file that
it is.
"""

from __future__ import annotations

import importlib
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from pipeline.errors import Permanent
from stages.formats.kinds import IMAGES, PDF, by_signature
from stages.formats.pages import Text
from stages.formats.pdf import BROKEN_STRUCTURE, load_page, opened_pdf, structure
from stages.formats.text import pages as pages_of
from stages.layout import Layout
from stages.publishing import archival, earlier, pictures, setting, typed
from stages.publishing.layer import Frame, TextLayer, empty_font
from stages.publishing.records import WRITERS, Page, write_json
from stages.publishing.request import (
    LAYOUT_FILES,
    PDF_FILE,
    RECORD_FILE,
    Made,
    Request,
    Sheet,
)

LIBRARIES = ("img2pdf", "pikepdf", "pypdfium2", "PIL.ImageCms", "pillow_heif")
GHOSTSCRIPT_S = 600.0  # 500 pages of a scan take it some minutes


def warm() -> None:
    """Load what documents are written with; starts no thread."""
    for name in LIBRARIES:
        importlib.import_module(name)
    importlib.import_module("PIL.Image").init()
    empty_font()
    archival.srgb()


def make(request: dict[str, Any]) -> dict[str, Any]:
    """`made` as the jail calls it: a `Request` in, a `Made` out."""
    return made(Request.model_validate(request)).model_dump(mode="json")


def made(request: Request) -> Made:
    """
    Write a document's PDF, record and layouts into the scratch folder.

    Raises:
        Unacceptable: the document cannot be opened any more.
        Permanent: FONT_MISSING, TYPESET_FAILED, GHOSTSCRIPT_MISSING, PDF_NOT_WRITTEN.
    """
    folder = Path(os.environ["TMPDIR"])
    document = Document(request)
    untouched, pdfa = document.write(folder / PDF_FILE)
    for form in request.settings.layouts:
        WRITERS[form](folder / LAYOUT_FILES[form], request, document.pages())
    crops = write_json(folder / RECORD_FILE, request, document.pages(), pdfa)
    return Made(untouched=untouched, pdfa=pdfa, crops=crops)


class Document:
    """A document, what was read of it, and its PDF."""

    def __init__(self, request: Request) -> None:
        self._request = request
        text = Path(request.text).read_text(encoding="utf-8", errors="replace")
        self._texts = text.split("\f")

    def pages(self) -> Iterator[Page]:
        """Its pages, each with its text and, where there is one, its layout."""
        for number, sheet in enumerate(self._request.sheets):
            yield Page(sheet, self._layout(sheet, number), self._text(number))

    def write(self, path: Path) -> tuple[bool, str]:
        """Write its PDF to `path`; whether it has none of its own, and its PDF/A."""
        media_type = self._request.media_type
        try:
            if media_type == PDF:
                return self._from_pdf(path)
            self._from_parts(path)
        except BROKEN_STRUCTURE as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise not_written(error) from None
        return False, "2b"

    # -- a PDF that came as one

    def _from_pdf(self, path: Path) -> tuple[bool, str]:
        request = self._request
        source, passwords = Path(request.path), request.passwords
        pdfa = ""
        if request.settings.pdfa == "ghostscript":
            plain = self._plain(path.with_suffix(".plain"))
            archived = archival.by_ghostscript(plain, path.parent, GHOSTSCRIPT_S)
            if archived is not None and page_count(archived) == page_count(plain):
                source, passwords, pdfa = archived, (), "2b"
            plain.unlink()
        with structure(str(source), passwords) as pdf:
            first, count = request.first - 1, len(request.sheets)
            whole = first == 0 and count == len(pdf.pages)
            here = pdf if whole else self._cut_out(pdf, first, count)
            added = self._add_layers(here, str(source), passwords, first)
            if whole and not added and not pdf.is_encrypted and not pdfa:
                return True, ""
            save(here, path)
        if pdfa:
            source.unlink()
        return False, pdfa

    def _plain(self, path: Path) -> Path:
        """The PDF without its password, for a program that knows none."""
        with structure(self._request.path, self._request.passwords) as pdf:
            pdf.save(path)
        return path

    def _cut_out(self, pdf: Any, first: int, count: int) -> Any:
        """These pages alone; outlines and the like would keep the others."""
        import pikepdf

        part = pikepdf.new()
        for page in pdf.pages[first : first + count]:
            part.pages.append(page)
        return part

    def _add_layers(
        self, pdf: Any, source: str, passwords: Sequence[str], first: int
    ) -> int:
        """Lay words on the pages that were read; returns on how many."""
        layer, added = TextLayer(pdf), 0
        with opened_pdf(source, passwords) as drawn:
            for number, sheet in enumerate(self._request.sheets):
                if sheet.source not in ("ocr", "person"):
                    continue
                seen = load_page(drawn, first + number)
                try:
                    frame = Frame(seen.get_bbox(), seen.get_rotation())
                finally:
                    seen.close()
                page = pdf.pages[number]
                with suppress(*BROKEN_STRUCTURE):  # then it stays, and is found twice
                    earlier.remove(pdf, page)
                added += self._add_layer(layer, page, frame, number)
        layer.close()
        return added

    # -- pictures and text

    def _from_parts(self, path: Path) -> None:
        import pikepdf

        with pikepdf.new() as pdf:
            layer = TextLayer(pdf)
            for part, number in self._parts():
                with pikepdf.open(io.BytesIO(part)) as made:
                    pdf.pages.extend(made.pages)
                if number is not None:  # a picture has one page
                    page = pdf.pages[-1]
                    left, bottom, right, top = (float(side) for side in page.mediabox)
                    rotate = int(page.obj.get("/Rotate", 0))
                    frame = Frame((left, bottom, right, top), rotate)
                    self._add_layer(layer, page, frame, number)
            layer.close()
            archival.mark(pdf, self._request.name)
            save(pdf, path)

    def _parts(self) -> Iterator[tuple[bytes, int | None]]:
        """PDFs of its pages, in order; of a picture's, which of them it is, from 0."""
        request = self._request
        wanted = range(request.first - 1, request.first - 1 + len(request.sheets))
        if request.media_type in IMAGES:
            data = Path(request.path).read_bytes()
            yield from self._pictures(data, request.media_type, wanted)
            return
        found = islice(pages_of(request.path, request.media_type), wanted.stop)
        numbered = enumerate(list(found)[wanted.start :])
        for is_text, some in groupby(numbered, lambda each: isinstance(each[1], Text)):
            if is_text:
                texts = [self._text(number) for number, _ in some]
                how = request.settings
                yield (
                    setting.text_pages(texts, request.name, how.fonts, how.size_pt),
                    None,
                )
                continue
            for number, picture in some:
                assert not isinstance(picture, Text)
                kind = by_signature(picture[:64])
                yield from self._pictures(picture, kind, range(1), number)

    def _pictures(
        self, data: bytes, media_type: str, wanted: range, first: int = 0
    ) -> Iterator[tuple[bytes, int]]:
        """Pages of the frames of a picture, whose first is so many in."""
        layouts = {
            index: layout
            for number, index in enumerate(wanted, first)
            if (layout := layout_of(self._request.sheets[number])) is not None
        }
        made = pictures.picture_pages(
            data, media_type, wanted, layouts, self._request.settings.max_decoded_pixels
        )
        yield from zip(made, range(first, first + len(wanted)), strict=True)

    # -- layers

    def _add_layer(
        self, layer: TextLayer, page: Any, frame: Frame, number: int
    ) -> bool:
        """Lay the words that were read, or typed, on a page; whether there are any."""
        sheet = self._request.sheets[number]
        if sheet.source not in ("ocr", "person"):
            return False
        layout = self._layout(sheet, number)
        if layout is None and sheet.source == "person":
            layout = typed.down_the_page(self._text(number), *frame.size)
        if layout is None or not layout.blocks:
            return False
        layer.put(page, frame, layout)
        return True

    def _layout(self, sheet: Sheet, number: int) -> Layout | None:
        layout = layout_of(sheet)
        if layout is None or sheet.source != "person":
            return layout
        return typed.on_lines(self._text(number), layout)

    def _text(self, number: int) -> str:
        return self._texts[number] if number < len(self._texts) else ""


def layout_of(sheet: Sheet) -> Layout | None:
    """Where a page's words stand, as its reader found them; None where nobody did."""
    if not sheet.layout:
        return None
    return Layout.model_validate_json(Path(sheet.layout).read_bytes())


def save(pdf: Any, path: Path) -> None:
    """Write a PDF; the same one has the same bytes."""
    import pikepdf

    packed = pikepdf.ObjectStreamMode.generate
    pdf.save(path, object_stream_mode=packed, deterministic_id=True, encryption=False)


def page_count(path: Path) -> int:
    """How many pages a PDF has."""
    with structure(str(path), ()) as pdf:
        return len(pdf.pages)


def not_written(error: BaseException) -> Permanent:
    """The error for a PDF that the library cannot write."""
    return Permanent(
        f"its PDF cannot be written ({type(error).__name__})",
        code="PDF_NOT_WRITTEN",
        hint="export it again, or print it to a PDF, and send that",
    )
