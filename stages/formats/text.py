"""
Documents that are text: plain text, Word documents, mail messages.

Runs jailed.  A document is a run of pages of text, and of the pictures
that a Word document carries.  What nobody sees of the document (hidden
runs, white or tiny text) is left out and counted.  Nothing outside the file is
fetched, and no entity is expanded.

python-docx is imported inside functions, as everything heavy is in the jail.
"""

from __future__ import annotations

import email
import zipfile
from collections.abc import Iterable, Iterator
from email.message import EmailMessage
from email.policy import default as mail_policy
from itertools import islice
from typing import Any, NamedTuple, cast

from pipeline.errors import Unacceptable
from stages.formats.kinds import EML, HEAD_BYTES, TXT, encoding_of
from stages.formats.markup import text_of_html

# Text without form feeds is cut into pages of at most this many characters, at
# the end of a line where there is one: a page is what one step reads, and about
# seven typed ones fit.
PAGE_CHARS = 20_000
READ_CHARS = 1 << 16

CONTAINERS_MAX = 200  # of a message; a long thread of forwards has twenty

# Of a Word document, unpacked.  XML shrinks to 1/10 or 1/20; bombs to 1/1000.
DOCX_BYTES_MAX = 512 << 20
DOCX_RATIO_MAX = 200
DOCX_SMALL_BYTES = 1 << 20  # of which no ratio matters
DOCX_ENTRIES_MAX = 5_000

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
    """Text, and how many characters were left out as nobody sees them."""

    text: str
    hidden: int = 0


Page = Text | bytes  # text, or the bytes of a picture


def pages(path: str, media_type: str) -> Iterator[Page]:
    """
    The pages of a document that is text, in order.

    Raises:
        Unacceptable: CORRUPT, DOCX_BOMB.
    """
    if media_type == TXT:
        yield from (Text(page) for page in paged(read_text(path)))
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


def no_such_page(index: int) -> Unacceptable:
    """The error for a page that a document does not have."""
    return Unacceptable(
        f"the document has no page {index + 1}",
        code="NO_SUCH_PAGE",
        hint="its source was replaced or is damaged: send it again",
    )


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


def texts(whole: Text) -> Iterator[Text]:
    """A text in pages; what was hidden is said of its first."""
    hidden = whole.hidden
    for page in paged([whole.text]):
        yield Text(page, hidden)
        hidden = 0


def read_text(path: str) -> Iterator[str]:
    """A plain text in pieces: one line of it may be as long as the file."""
    with open(path, "rb") as raw:
        encoding = encoding_of(raw, raw.read(HEAD_BYTES))
    with open(path, encoding=encoding or "utf-8", errors="replace") as file:
        while piece := file.read(READ_CHARS):
            yield piece


# -- mail -----------------------------------------------------------------------------


def read_message(path: str) -> EmailMessage:
    """
    A mail message.

    Raises:
        Unacceptable: CORRUPT.
    """
    with open(path, "rb") as file:
        data = file.read()
    if data.count(b"boundary") > 2 * CONTAINERS_MAX:
        # The parser takes 6 ms for each that is in another one.
        raise Unacceptable(
            f"the message has more than {CONTAINERS_MAX} containers of parts",
            code="CORRUPT",
            hint="save its attachments and send them as files",
        )
    try:
        return email.message_from_bytes(data, policy=mail_policy)
    except MALFORMED as error:
        raise corrupt("the message", error) from None


def body_of(message: EmailMessage) -> Text:
    """
    What a person reads of a message: who, when, about what, and its text.

    Plain text is preferred to HTML where a message has both.

    Raises:
        Unacceptable: CORRUPT.
    """
    try:
        heads = [
            f"{name}: {value}"
            for name in ("From", "To", "Date", "Subject")
            if (value := " ".join(str(message.get(name, "")).split()))
        ]
        found = [said(part) for part in body_parts(message)]
    except MALFORMED as error:
        raise corrupt("the message", error) from None
    paragraphs = ["\n".join(heads), *(part.text.strip() for part in found)]
    text = "\n\n".join(paragraph for paragraph in paragraphs if paragraph)
    return Text(text, sum(part.hidden for part in found))


def body_parts(message: EmailMessage) -> list[EmailMessage]:
    """The parts that are shown as the message itself."""
    body = message.get_body(("plain", "html"))
    if body is None:
        return []
    parts = [cast("EmailMessage", body)]
    if body.get_content_type() == "text/plain" and not content(body).strip():
        html = message.get_body(("html",))
        parts = [cast("EmailMessage", html)] if html is not None else parts
    # Text that programs of lists and forwards put behind the body.
    if message.get_content_type() == "multipart/mixed":
        parts += [
            cast("EmailMessage", part)
            for part in message.iter_parts()
            if part.get_content_type() == "text/plain"
            and not part.get_filename()
            and not part.is_attachment()
            and part is not body
        ]
    return parts


def said(part: Any) -> Text:
    """The text of one part."""
    text = content(part)
    if part.get_content_type() == "text/html":
        return Text(*text_of_html(text))
    return Text(text)


def content(part: Any) -> str:
    """A text part decoded; a charset that nobody knows is taken for UTF-8."""
    data = part.get_payload(decode=True) or b""
    charset = part.get_content_charset("utf-8")
    try:
        text = data.decode(charset, "replace")
    except LookupError:
        text = data.decode("utf-8", "replace")
    return str(text).replace("\r\n", "\n")


def corrupt(what: str, error: BaseException) -> Unacceptable:
    """The error for a document that its parser could not read."""
    return Unacceptable(
        f"{what} cannot be read ({type(error).__name__})",
        code="CORRUPT",
        hint="open it in its own program and save it as PDF",
    )


# -- Word documents -------------------------------------------------------------------


def docx_pages(path: str) -> Iterator[Page]:
    """
    The text of a Word document in pages, then its pictures.

    Raises:
        Unacceptable: CORRUPT, DOCX_BOMB.
    """
    check_docx(path)
    import docx
    from docx.opc.exceptions import PackageNotFoundError

    from stages.formats.word import pictures_of, text_of

    try:
        # The parser of python-docx expands no entities and fetches nothing.
        document = docx.Document(path)
        text, hidden = text_of(document)
        found = pictures_of(document)
    except (PackageNotFoundError, OSError, *MALFORMED) as error:
        raise corrupt("the Word document", error) from None
    yield from texts(Text(text, hidden))
    yield from found


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
