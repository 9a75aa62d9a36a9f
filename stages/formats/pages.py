"""
Pages of text, and what is said of documents that have none to give.

A page is what one step reads: text is cut at its form feeds, and where it grows too
long, at the end of a line.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pipeline.errors import Unacceptable
from stages.formats.charsets import Decoded, is_doubtful

# Text without form feeds is cut into pages of at most this many characters, at
# the end of a line where there is one: about seven typed ones fit.
PAGE_CHARS = 20_000
READ_CHARS = 1 << 16

# What is raised by parsers of mail and Word documents that are not well formed.
MALFORMED = (
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    RuntimeError,
    EOFError,
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    NotImplementedError,
)


class Text(NamedTuple):
    """
    Text of a document.

    Attributes:
        hidden: Characters that were left out, as nobody sees them.
        doubt: What is not ASCII in it may be other characters.
    """

    text: str
    hidden: int = 0
    doubt: bool = False


Page = Text | bytes  # text, or the bytes of a picture


def texts(whole: Text) -> Iterator[Text]:
    """A text in pages; what was hidden is said of its first."""
    hidden = whole.hidden
    for page in paged([whole.text]):
        yield Text(page, hidden, is_doubtful(Decoded(page, whole.doubt)))
        hidden = 0


def paged(chunks: Iterable[str]) -> Iterator[str]:
    """Cut text at its form feeds, and where a page grows too long; at least one."""
    page, given = "", False
    for chunk in chunks:
        *whole, page = (page + chunk).split("\f")
        for done in whole:
            yield from cut(done)
            given = True
        while len(page) > PAGE_CHARS + READ_CHARS:
            done, page = first_page(page)
            yield done
            given = True
    if page.strip() or not given:
        yield from cut(page)


def cut(text: str) -> Iterator[str]:
    """A text in pages of at most `PAGE_CHARS`."""
    while len(text) > PAGE_CHARS:
        page, text = first_page(text)
        yield page
    yield text


def first_page(text: str) -> tuple[str, str]:
    """The first page of a text longer than one, and the rest."""
    for end in ("\n", " "):
        at = text.rfind(end, PAGE_CHARS // 2, PAGE_CHARS)
        if at > 0:
            return text[:at], text[at + 1 :]
    return text[:PAGE_CHARS], text[PAGE_CHARS:]


def no_such_page(index: int) -> Unacceptable:
    """The error for a page that a document does not have."""
    return Unacceptable(
        f"the document has no page {index + 1}",
        code="NO_SUCH_PAGE",
        hint="its source was replaced or is damaged: send it again",
    )


def corrupt(what: str, error: BaseException) -> Unacceptable:
    """The error for a document that its parser could not read."""
    return Unacceptable(
        f"{what} cannot be read ({type(error).__name__})",
        code="CORRUPT",
        hint="open it in its own program and save it as PDF",
    )
