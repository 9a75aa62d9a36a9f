"""
Parts of an e-mail: what it says, and each file attached to it.

The text is the one that `stages/formats/text.py` reads; what is neither in it nor
another form of it is a part, whatever its kind, so that nothing sent is lost.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from email.header import decode_header, make_header
from email.message import Message
from functools import partial
from pathlib import Path

from pipeline.errors import Unacceptable
from stages.formats import text
from stages.formats.archive import BUNDLE_SIGNS
from stages.formats.enclosed import ALL, Contents, Enclosed, too_many_parts, visible
from stages.formats.kinds import EML

# Mail servers refuse more than 25 to 50 MB; the parser takes five times as much
# memory as the mail has bytes.
MAIL_BYTES_MAX = 128 << 20
# A picture inside the text that is smaller in bytes, or narrower or lower in
# pixels, is a logo or an icon.  A page that a person can read is larger.
DECORATION_BYTES = 10_000
DECORATION_PIXELS = 100
SIGNATURES = (
    "application/pkcs7-signature",
    "application/x-pkcs7-signature",
    "application/pgp-signature",
)
# Other forms of the text that a program shows instead of it.
SAME_AGAIN = ("text/plain", "text/html", "text/enriched", "text/calendar")
SUFFIXES = {EML: ".eml", "text/plain": ".txt", "image/jpeg": ".jpg"}
# What the parser and its header decoder raise at broken mail.
BROKEN = (ValueError, LookupError, TypeError, AttributeError, RuntimeError)


@contextmanager
def opened(
    path: str, parts_max: int, part_bytes_max: int, within: slice = ALL
) -> Iterator[Contents]:
    """
    The parts of a mail: its text first, if it says anything, then attachments.

    Args:
        within: Which of them are given.

    Raises:
        Unacceptable: CORRUPT, TOO_LARGE, BUNDLE_TOO_MANY.
    """
    if Path(path).stat().st_size > MAIL_BYTES_MAX:
        raise Unacceptable(
            f"the mail has more than {MAIL_BYTES_MAX >> 20} MB",
            code="TOO_LARGE",
            hint="send its attachments as files",
        )
    message = text.read_message(path)
    contents = Contents([])
    body = text.body_parts(message)
    if any(text.said(part).text.strip() for part in body):
        pages = sum(1 for _ in text.texts(text.body_of(message)))
        contents.parts.append(Enclosed("message", 0, no_pieces, pages=pages))
    shown = {id(part) for part in body}
    for leaf, inside in leaves(message):
        if id(leaf) in shown:
            continue
        if word := passed_over(leaf, inside):
            contents.skipped[word] += 1
            continue
        if len(contents.parts) >= parts_max:
            raise too_many_parts(parts_max)
        number = len(contents.parts) + 1
        contents.parts.append(attachment(leaf, number, part_bytes_max))
    yield Contents(contents.parts[within], contents.skipped)


def leaves(message: Message) -> Iterator[tuple[Message, frozenset[str]]]:
    """
    What is no container, in order, and the kinds of the containers it is in.

    A mail inside the mail is one leaf.  No recursion: depth is the sender's.
    """
    pending: list[tuple[Message, frozenset[str]]] = [(message, frozenset())]
    while pending:
        part, inside = pending.pop()
        payload = part.get_payload()
        if part.get_content_maintype() == "multipart" and isinstance(payload, list):
            within = inside | {part.get_content_subtype()}
            pending += [
                (each, within)
                for each in reversed(payload)
                if isinstance(each, Message)
            ]
        else:
            yield part, inside


def passed_over(leaf: Message, inside: frozenset[str]) -> str:
    """A word for what nobody sent as a document, or ""."""
    kind, disposition = leaf.get_content_type(), leaf.get_content_disposition()
    if kind in SIGNATURES:
        return "signature"
    if disposition == "attachment":
        return ""
    if "alternative" in inside and kind in SAME_AGAIN and not declared(leaf):
        return "other form"
    inline = disposition == "inline" or "related" in inside
    if inline and leaf.get_content_maintype() == "image":
        data = content(leaf) or b""
        if len(data) < DECORATION_BYTES or small_picture(data):
            return "decoration"
    return ""


def small_picture(data: bytes) -> bool:
    """Too few pixels to be a page, as its header says; False where it says nothing."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "GIF")) as image:
            return min(image.size) < DECORATION_PIXELS
    except (UnidentifiedImageError, OSError, SyntaxError, *BROKEN):
        return False


def attachment(leaf: Message, number: int, part_bytes_max: int) -> Enclosed:
    """A file sent with the mail."""
    kind = leaf.get_content_type()
    name = declared(leaf)
    if kind == EML:
        name = name or f"{subject(leaf) or f'mail {number}'}.eml"
    name = name or f"part {number}{SUFFIXES.get(kind) or suffix(kind)}"
    data = content(leaf)
    code, why = refusal(data, part_bytes_max)
    return Enclosed(
        visible(name),
        len(data or b""),
        partial(pieces, data or b""),
        nests=partial(nests, kind, name, data or b""),
        code=code,
        why=why,
    )


def refusal(data: bytes | None, part_bytes_max: int) -> tuple[str, str]:
    """Code and sentence of an attachment that is not taken; ("", "") to take it."""
    if data is None:
        return "PART_CORRUPT", "it cannot be decoded"
    if not data:
        return "EMPTY_FILE", "it has no content"
    if len(data) > part_bytes_max:
        return "TOO_LARGE", f"it has more than {part_bytes_max:,} bytes"
    return "", ""


def nests(kind: str, name: str, data: bytes) -> bool:
    """It is a mail, or an archive by its first bytes."""
    mail = kind == EML or name.lower().endswith(".eml")
    return mail or data.startswith(BUNDLE_SIGNS)


def suffix(kind: str) -> str:
    """A file ending made of a media type: `image/png` is `.png`."""
    subtype = kind.partition("/")[2]
    return f".{subtype}" if re.fullmatch(r"[a-z0-9]{1,8}", subtype) else ".bin"


def content(leaf: Message) -> bytes | None:
    """
    Its bytes, decoded; those of a mail inside the mail as it would be sent.

    None when that cannot be had: forwarded hundreds of times, for one.
    """
    try:
        if leaf.is_multipart():
            inside = leaf.get_payload(0)
            return inside.as_bytes() if isinstance(inside, Message) else None
        payload = leaf.get_payload(decode=True)
    except BROKEN:
        return None
    return payload if isinstance(payload, bytes) else None


def declared(leaf: Message) -> str:
    """The file name its sender gave it, without folders; "" for none."""
    try:
        name = leaf.get_filename() or ""
    except BROKEN:
        return ""
    return re.split(r"[/\\]", readable(name))[-1]


def subject(leaf: Message) -> str:
    """The subject of a mail inside the mail, or ""."""
    if not leaf.is_multipart():
        return ""
    inside = leaf.get_payload(0)
    return readable(str(inside["subject"] or "")) if isinstance(inside, Message) else ""


def readable(header: str) -> str:
    """A header's text, its encoded words decoded where they can be."""
    try:
        return str(make_header(decode_header(header)))
    except BROKEN:
        return header


def pieces(data: bytes) -> Iterator[bytes]:
    """The bytes, in one piece."""
    yield data


def no_pieces() -> Iterator[bytes]:
    """The text of a mail is read from the mail itself."""
    yield b""
