"""
Documents that are text: plain text, Word documents, mail messages.

Runs jailed.  A document is a run of pages of text, and of the pictures
that a Word document carries.  What nobody sees of the document (hidden
runs, white or tiny text) is left out and counted.  Nothing outside the file is
fetched, and no entity is expanded.

python-docx is imported inside functions, as everything heavy is in the jail.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, TypeVar

from pipeline.errors import Unacceptable
from stages.formats import plain
from stages.formats.charsets import Decoded, is_doubtful
from stages.formats.kinds import EML, TXT
from stages.formats.message import body_of, read_message
from stages.formats.pages import (
    MALFORMED,
    Page,
    Text,
    corrupt,
    no_such_page,
    paged,
    texts,
)

# Of a Word document, unpacked.  XML shrinks to 1/10 or 1/20; bombs to 1/1000.
DOCX_BYTES_MAX = 512 << 20
DOCX_RATIO_MAX = 200
DOCX_SMALL_BYTES = 1 << 20  # of which no ratio matters
DOCX_ENTRIES_MAX = 5_000

Found = TypeVar("Found")


def pages(path: str, media_type: str) -> Iterator[Page]:
    """
    The pages of a document that is text, in order.

    Raises:
        Unacceptable: CORRUPT, DOCX_BOMB.
    """
    if media_type == TXT:
        pieces, certain = plain.read_text(path)
        for page in paged(pieces):
            yield Text(page, 0, is_doubtful(Decoded(page, not certain)))
    elif media_type == EML:
        yield from texts(body_of(read_message(path)))
    else:
        yield from docx_pages(path)


def page_of(path: str, media_type: str, index: int) -> Page:
    """
    One page, from 0.

    Raises:
        Unacceptable: as `pages`, and NO_SUCH_PAGE.
    """
    for page in islice(pages(path, media_type), index, index + 1):
        return page
    raise no_such_page(index)


# -- Word documents -------------------------------------------------------------------


def docx_pages(path: str) -> Iterator[Page]:
    """
    The text of a Word document in pages, then its pictures.

    Raises:
        Unacceptable: CORRUPT, DOCX_BOMB.
    """
    from stages.formats.word import pictures_of, text_of

    text, hidden = of_docx(path, text_of)
    yield from texts(Text(text, hidden))
    yield from of_docx(path, pictures_of)


def unread(path: str) -> list[str]:
    """What a Word document shows that is not in its text; raises as `docx_pages`."""
    from stages.formats import word

    return of_docx(path, word.unread)


def of_docx(path: str, asked: Callable[[Any], Found]) -> Found:
    """What is asked of a Word document once it is opened."""
    check_docx(path)
    import docx
    from docx.opc.exceptions import PackageNotFoundError

    try:
        # The parser of python-docx expands no entities and fetches nothing.
        return asked(docx.Document(path))
    except (PackageNotFoundError, OSError, *MALFORMED) as error:
        raise corrupt("the Word document", error) from None


def check_docx(path: str) -> None:
    """
    Refuse an archive that unpacks to more than a document has, by its directory.

    No entry can unpack to more than it declares: `zipfile` stops there.

    Raises:
        Unacceptable: CORRUPT, DOCX_BOMB.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (OSError, *MALFORMED) as error:
        raise corrupt("the Word document", error) from None
    unpacked = sum(entry.file_size for entry in entries)
    packed = sum(entry.compress_size for entry in entries)
    ratio = unpacked / max(1, packed)
    if (
        len(entries) > DOCX_ENTRIES_MAX
        or unpacked > DOCX_BYTES_MAX
        or (unpacked > DOCX_SMALL_BYTES and ratio > DOCX_RATIO_MAX)
    ):
        raise Unacceptable(
            f"the Word document unpacks to {unpacked:,} bytes, {ratio:.0f} times its "
            f"size, in {len(entries):,} files",
            code="DOCX_BOMB",
            hint="save it as PDF and send that",
        )
    if any(entry.flag_bits & 1 for entry in entries):
        raise Unacceptable(
            "the Word document needs a password",
            code="DOCX_ENCRYPTED",
            hint="remove the password and send it again",
        )
