"""
Portfolios: PDFs that are a cover sheet, and documents embedded in them.

What is embedded is data from a stranger, as in an archive: a name is text, and a size
is believed while it is unpacked, and no longer.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from pipeline.errors import Unacceptable
from stages.formats.enclosed import ALL, Contents, Enclosed, too_many_parts, visible
from stages.formats.pdf import BROKEN_STRUCTURE, structure

PIECE_BYTES = 1 << 20
COVER = "cover sheet"


@contextmanager
def opened(
    path: str,
    parts_max: int,
    part_bytes_max: int,
    within: slice = ALL,
    passwords: Sequence[str] = (),
) -> Iterator[Contents]:
    """
    The documents embedded in a PDF, in the order of their names.

    Args:
        within: Which of them are given.

    Raises:
        Unacceptable: PDF_CORRUPT, PDF_ENCRYPTED, BUNDLE_TOO_MANY.
    """
    with structure(path, passwords) as pdf:
        specs = embedded(pdf)
        if len(specs) > parts_max:
            raise too_many_parts(parts_max)
        contents = Contents([])
        for name, spec in specs[within]:
            contents.parts.append(described(name, spec, part_bytes_max))
        contents.leave_out(COVER, "its own pages")
        yield contents


def is_portfolio(pdf: Any) -> bool:
    """Whether a PDF shows its embedded files instead of its pages, and has some."""
    return "/Collection" in pdf.Root and bool(embedded(pdf))


def embedded(pdf: Any) -> list[tuple[str, Any]]:
    """The files in a PDF: name and file specification."""
    import pikepdf

    try:
        names = pikepdf.NameTree(pdf.Root.Names.EmbeddedFiles)
        return [(str(key), spec) for key, spec in names.items() if "/EF" in spec]
    except (pikepdf.PdfError, *BROKEN_STRUCTURE):
        return []


def described(key: str, spec: Any, part_bytes_max: int) -> Enclosed:
    """One embedded file, unpacked once to know its size."""
    import pikepdf

    size, code, why = 0, "", ""
    name = key
    try:
        name = str(spec.get("/UF") or spec.get("/F") or key)
        for piece in pieces(spec):
            size += len(piece)
            if size > part_bytes_max:
                code, why = "TOO_LARGE", f"it has more than {part_bytes_max:,} bytes"
                break
    except Unacceptable as error:
        code, why = error.code, error.message
    except (pikepdf.PdfError, *BROKEN_STRUCTURE):
        code, why = "PART_CORRUPT", "it cannot be taken out of the PDF"
    if not code and not size:
        code, why = "EMPTY_FILE", "it has no content"
    shown = visible(name)
    nests = shown.lower().endswith((".eml", ".zip"))
    return Enclosed(
        shown, size, partial(pieces, spec), nests=lambda: nests, code=code, why=why
    )


def pieces(spec: Any) -> Iterator[bytes]:
    """
    The bytes of an embedded file.

    Raises:
        Unacceptable: PART_CORRUPT.
    """
    files = spec["/EF"]
    stream = files.get("/UF") or files["/F"]
    raw = stream.read_raw_bytes()
    match [str(each) for each in filters(stream)]:
        case []:
            yield raw
        case ["/FlateDecode"] if "/DecodeParms" not in stream:
            yield from inflated(raw)
        case _:
            raise Unacceptable(
                "it is packed by a method that is not opened",
                code="PART_CORRUPT",
                hint="save it out of the portfolio and send it as a file",
            )


def filters(stream: Any) -> list[Any]:
    """The filters of a stream, in order."""
    found = stream.get("/Filter")
    if found is None:
        return []
    try:
        return list(found)  # an array
    except (TypeError, ValueError):
        return [found]


def inflated(raw: bytes) -> Iterator[bytes]:
    """Deflated bytes, a piece at a time: what they claim to be is not asked for."""
    unpack = zlib.decompressobj()
    rest = raw
    try:
        while rest and not unpack.eof:
            if piece := unpack.decompress(rest, PIECE_BYTES):
                yield piece
            rest = unpack.unconsumed_tail
    except zlib.error:
        raise Unacceptable(
            "its bytes are damaged",
            code="PART_CORRUPT",
            hint="export the portfolio again and send that",
        ) from None
