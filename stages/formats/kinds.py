"""
Kinds of file: what a document is, known by its bytes and never by its name.

The first bytes decide, so that a file that is two things at once (a picture with
a ZIP behind it) is one thing to every part of the service.  What only looks like
text, a web page or a program for a printer, is named and refused: its source is
not what a person would read.
"""

from __future__ import annotations

import re
import struct
from codecs import getincrementaldecoder
from collections.abc import Iterator
from typing import BinaryIO

from pipeline.errors import Unacceptable
from stages.formats import tnef
from stages.formats.message import BEFORE
from stages.formats.plain import HEAD_BYTES, encoding_of

PNG, JPEG = "image/png", "image/jpeg"
TIFF, WEBP = "image/tiff", "image/webp"
BMP, GIF, HEIC = "image/bmp", "image/gif", "image/heic"
PDF, TXT, EML = "application/pdf", "text/plain", "message/rfc822"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
ZIP, TNEF = "application/zip", "application/ms-tnef"

IMAGES = (PNG, JPEG, TIFF, WEBP, BMP, GIF, HEIC)
TEXTS = (TXT, DOCX, EML)
PASSWORDS = "pdf-passwords"  # the tenant's secrets that open its PDFs
# Always; a message is one too when it has attachments, and a PDF that is a portfolio.
BUNDLES = (ZIP, TNEF)

SUFFIXES = {
    ".png": PNG,
    ".jpg": JPEG,
    ".jpeg": JPEG,
    ".jpe": JPEG,
    ".jfif": JPEG,
    ".tif": TIFF,
    ".tiff": TIFF,
    ".webp": WEBP,
    ".bmp": BMP,
    ".gif": GIF,
    ".heic": HEIC,
    ".heif": HEIC,
    ".pdf": PDF,
    ".docx": DOCX,
    ".txt": TXT,
    ".eml": EML,
    ".zip": ZIP,
}
ENDINGS = {kind: suffix for suffix, kind in reversed(SUFFIXES.items())}
TELLING = 64  # of a file's first bytes, to name its ending
WORDS = {
    PNG: "PNG",
    JPEG: "JPEG",
    TIFF: "TIFF",
    WEBP: "WebP",
    BMP: "BMP",
    GIF: "GIF",
    HEIC: "HEIC",
    PDF: "PDF",
    DOCX: "DOCX",
    TXT: "plain text",
    EML: "a mail message",
    ZIP: "ZIP",
    TNEF: "TNEF",
}

PDF_HEAD_BYTES = 1024  # parsers of PDF accept its header anywhere in the first 1024
NAMES_MAX = 2_000  # of a ZIP's entries; an office file's own come first

SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"\xff\xd8\xff", JPEG),
    (b"II*\0", TIFF),
    (b"MM\0*", TIFF),
    (b"II+\0", TIFF),  # BigTIFF
    (b"MM\0+", TIFF),
    (b"GIF87a", GIF),
    (b"GIF89a", GIF),
    (b"%PDF-", PDF),
    (tnef.SIGN, TNEF),
)
# Brands of an ISO media file that hold HEVC stills.
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1")
BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)  # sizes that its header may have

AS_PDF = "save it as PDF and send that"
# What we know and do not take: (how it begins, what it is, what to do).
REFUSED = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office file", AS_PDF),
    (b"{\\rtf", "RTF", AS_PDF),
    (b"%!", "PostScript", AS_PDF),
    (b"\xc5\xd0\xd3\xc6", "EPS", AS_PDF),
    (b"\x1b%-12345X", "a print job", AS_PDF),
    (b"push graphic-context", "a drawing script", AS_PDF),
    (b"#!", "a script", "send the document itself"),
)
OFFICE = (
    ("xl/workbook.", "an Excel workbook"),
    ("ppt/presentation.", "a PowerPoint file"),
    ("META-INF/container.xml", "an e-book"),
)
DOCX_MARK = "word/document.xml"
OPEN_DOCUMENT = b"mimetypeapplication/vnd.oasis.opendocument"

# -- text -----------------------------------------------------------------------------

_MARKUP = re.compile(r"\s*<(?:[a-zA-Z][\w:.-]*[\s>/]|!doctype|!--|\?xml|\?php)", re.I)
_PAGE = re.compile(r"<(?:html|head|body|svg)\b[^<>]*>", re.I)
# What a mail may carry beside its letter, and nobody reads as one.
CONTACTS = (("BEGIN:VCALENDAR", "a calendar"), ("BEGIN:VCARD", "a visiting card"))
PAGE_WITHIN = 1024  # characters; further on it is text that speaks of such a page
_HEADER = re.compile(rb"([A-Za-z][A-Za-z0-9-]*):(?=[ \t\r\n])")
# Fields of a message: what people also write at the top of a text, and what only
# programs write.
WRITTEN = frozenset({b"from", b"to", b"cc", b"date", b"subject", b"reply-to"})
BY_MACHINE = frozenset(
    {
        b"received",
        b"message-id",
        b"mime-version",
        b"return-path",
        b"delivered-to",
        b"content-type",
        b"content-transfer-encoding",
        b"dkim-signature",
        b"x-mailer",
    }
)


def type_of(path: str) -> str:
    """
    The media type, by content.

    Raises:
        Unacceptable: UNSUPPORTED_TYPE, saying what it seems to be.
    """
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
        found = by_signature(head)
        if found:
            return found
        if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            return zip_kind(file, head)
        for start, kind, hint in REFUSED:
            if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(start):
                raise unsupported(kind, hint)
        if is_message(head):
            return EML
        # Behind junk, as some printers and web forms put before it.
        if b"%PDF-" in head[:PDF_HEAD_BYTES] and pdf_ends(file):
            return PDF
        file.seek(0)
        return text_kind(file, head)


def by_signature(head: bytes) -> str:
    """The kind that the first bytes name, or ""."""
    for signature, media_type in SIGNATURES:
        if head.startswith(signature):
            return media_type
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return WEBP
    if head[:2] == b"BM" and len(head) >= 18:
        (size,) = struct.unpack_from("<I", head, 14)
        if size in BMP_HEADERS:
            return BMP
    if head[4:8] == b"ftyp":
        (length,) = struct.unpack_from(">I", head)
        brands = head[8 : min(max(length, 16), 256)]
        main, other = brands[:4], brands[8:]
        if main in HEIC_BRANDS and b"avif" not in other:
            return HEIC
    return ""


def ending_of(data: bytes) -> str:
    """What a file that begins so is called like, as ".pdf"; "" where that is open."""
    head = data[:TELLING]
    kind = by_signature(head)
    if not kind and b"\0" not in head:
        try:
            getincrementaldecoder("utf-8")().decode(head)  # it may end in a character
            kind = TXT
        except UnicodeDecodeError:
            return ""
    return ENDINGS.get(kind, "")


def pdf_ends(file: BinaryIO) -> bool:
    """Whether a file that mentions a PDF's header also ends as one."""
    file.seek(0, 2)
    file.seek(max(0, file.tell() - 2048))
    tail = file.read(2048)
    return b"%%EOF" in tail or b"startxref" in tail


def is_message(head: bytes) -> bool:
    """
    Whether this begins with a mail message's header.

    A text may begin with From, To and Date as well: at least one field that
    only programs write must be there, or a mailbox's line before them.
    """
    before = BEFORE.match(head)
    assert before is not None  # it matches nothing as well
    mailbox = bool(before[1])  # a program wrote that line
    names: list[bytes] = []
    start = before.end()
    for line in re.split(rb"\r\n|\n|\r", head[start : start + (32 << 10)]):
        if not line:
            break
        if line[:1] in b" \t":
            if not names:
                return False
            continue
        match = _HEADER.match(line)
        if match is None:
            return False
        names.append(match[1].lower())
    said = frozenset(names)
    known = len(said & (WRITTEN | BY_MACHINE))
    return known >= 3 and (mailbox or bool(said & BY_MACHINE))


def text_kind(file: BinaryIO, head: bytes) -> str:
    """
    TXT, when it reads as text and is not the source of something else.

    Raises:
        Unacceptable: UNSUPPORTED_TYPE.
    """
    if not head:
        raise unsupported("nothing", "send the file again")
    found = encoding_of(file, head)
    if found is None:
        raise unsupported(guessed(head))
    text = head.decode(found.name, "replace")
    start = text[:PAGE_WITHIN]
    for sign, kind in CONTACTS:
        if start.lstrip("\ufeff \r\n").upper().startswith(sign):
            raise unsupported(kind, "save what should be read as PDF and send that")
    if _MARKUP.match(start.lstrip("\ufeff")) or _PAGE.search(start):
        svg = re.search(r"<svg\b", start, re.I)
        raise unsupported("SVG" if svg else "HTML or XML", AS_PDF)
    if re.search(r"\d+ \d+ obj\b", text) and "endobj" in text:
        raise unsupported("a PDF without its header", "export it again")
    return TXT


def guessed(head: bytes) -> str:
    """What bytes of no kind of ours seem to be."""
    import puremagic

    try:
        guess: str = puremagic.from_string(head[:1024], mime=True)
    except (puremagic.PureError, ValueError, LookupError):
        return "of no known type"
    # Its texts are known by a word or two, and this one cannot be printed.
    return "of no known type" if not guess or guess.startswith("text/") else guess


def unsupported(kind: str, hint: str = "") -> Unacceptable:
    """The error for a file of a kind that is not taken."""
    return Unacceptable(
        f"the content is {kind}",
        code="UNSUPPORTED_TYPE",
        hint=hint or "save it as PDF, PNG, JPEG or TIFF and send it again",
    )


# -- ZIP ------------------------------------------------------------------------------


def zip_kind(file: BinaryIO, head: bytes) -> str:
    """
    DOCX or ZIP.

    Raises:
        Unacceptable: UNSUPPORTED_TYPE, another office file.
    """
    if OPEN_DOCUMENT in head[:128]:
        raise unsupported("an OpenDocument file", AS_PDF)
    names = set(entry_names(file))
    if "[Content_Types].xml" in names and DOCX_MARK in names:
        return DOCX
    for start, kind in OFFICE:
        if any(name.startswith(start) for name in names):
            raise unsupported(kind, AS_PDF)
    return ZIP


def entry_names(file: BinaryIO) -> Iterator[str]:
    """
    Names of a ZIP's first entries, by its central directory; none when damaged.

    `zipfile` would first make an object of every entry, and a directory may list
    ten million.
    """
    file.seek(0, 2)
    size = file.tell()
    file.seek(max(0, size - 65_557))  # 22 bytes and a comment of up to 65,535
    tail = file.read(65_557)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        return
    count, length, offset = struct.unpack_from("<HII", tail, at + 10)
    end = max(0, size - len(tail)) + at
    # What stands before the archive moves it; the directory ends where this begins.
    file.seek(end - length if length <= end and offset != 0xFFFFFFFF else 0)
    for _ in range(min(count, NAMES_MAX)):
        entry = file.read(46)
        if len(entry) < 46 or entry[:4] != b"PK\x01\x02":
            return
        name, extra, comment = struct.unpack_from("<HHH", entry, 28)
        yield file.read(name).decode("utf-8", "replace")
        file.seek(extra + comment, 1)
