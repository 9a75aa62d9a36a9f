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
from email.message import EmailMessage, Message
from functools import partial
from pathlib import Path

from pipeline.errors import Unacceptable
from stages.formats import message as messages
from stages.formats import tnef
from stages.formats.archive import BUNDLE_SIGNS
from stages.formats.charsets import decoded
from stages.formats.enclosed import ALL, Contents, Enclosed, too_many_parts, visible
from stages.formats.kinds import AS_PDF, EML
from stages.formats.pages import texts

# Mail servers refuse more than 25 to 50 MB; the parser takes five times as much
# memory as the mail has bytes.
MAIL_BYTES_MAX = 128 << 20
# A picture inside the text is a logo or an icon when it is narrower or lower than this,
# or small in both bytes and pixels.  Bytes alone say nothing: a page scanned in black
# and white has 5,000.
DECORATION_SIDE = 100
DECORATION_BYTES, DECORATION_PIXELS = 10_000, 60_000
PICTURES = ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP")
SIGNATURES = (
    "application/pkcs7-signature",
    "application/x-pkcs7-signature",
    "application/pgp-signature",
)
# Other forms of the text that a program shows instead of it.
SAME_AGAIN = ("text/plain", "text/html", "text/enriched")
# What goes into a calendar or an address book, by type, by ending, and by its first
# words: counted, and no letter.
CONTACTS = {
    "calendar": (("text/calendar", "application/ics"), ".ics", b"BEGIN:VCALENDAR"),
    "card": (("text/vcard", "text/x-vcard"), ".vcf", b"BEGIN:VCARD"),
}
SAME = "other form"
MAILS = (EML, "message/global")
SUFFIXES = {EML: ".eml", "text/plain": ".txt", "image/jpeg": ".jpg"}
# What the parser and its header decoder raise at broken mail.
BROKEN = (ValueError, LookupError, TypeError, AttributeError, RuntimeError)


@contextmanager
def opened(
    path: str, parts_max: int, part_bytes_max: int, within: slice = ALL
) -> Iterator[Contents]:
    """
    The parts of a mail: its text first, if it says anything, then attachments.

    Those of a mailbox file are its mails.

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
    contents = Contents([])
    several = messages.mailbox(path)
    if len(several) > parts_max:
        raise too_many_parts(parts_max)
    if several:
        for number, data in enumerate(several, 1):
            name = f"mail {number}.eml"
            contents.parts.append(enclosed(name, data, part_bytes_max, EML))
        yield Contents(contents.parts[within])
        return
    message = messages.read_message(path)
    shown = messages.shown(message)
    says = any(messages.said(part).text.strip() for part in shown)
    if says:
        pages = sum(1 for _ in texts(messages.body_of(message)))
        contents.parts.append(Enclosed("message", 0, no_pieces, pages=pages))
    own = {id(part) for part in shown}
    for leaf, inside in leaves(message):
        if id(leaf) in own:
            continue
        word = passed_over(leaf, inside)
        if word == SAME:
            contents.skipped[word] += 1
        elif word:
            contents.leave_out(word, name_of(leaf, len(contents.parts) + 1))
        else:
            number = len(contents.parts) + 1
            found = attached(leaf, number, part_bytes_max, text=not says)
            contents.parts.extend(found)
        if len(contents.parts) > parts_max:
            raise too_many_parts(parts_max)
    yield Contents(contents.parts[within], contents.skipped, contents.left_out)


@contextmanager
def opened_tnef(
    path: str, parts_max: int, part_bytes_max: int, within: slice = ALL
) -> Iterator[Contents]:
    """The parts of a `winmail.dat` that came alone; as `opened`."""
    if Path(path).stat().st_size > MAIL_BYTES_MAX:
        raise Unacceptable(
            f"the winmail.dat has more than {MAIL_BYTES_MAX >> 20} MB",
            code="TOO_LARGE",
            hint="ask the sender for the files themselves",
        )
    parts = tnef_parts(Path(path).read_bytes(), 1, part_bytes_max, text=True)
    if len(parts) > parts_max:
        raise too_many_parts(parts_max)
    yield Contents(parts[within])


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
    for word, (kinds, tail, start) in CONTACTS.items():
        if kind in kinds or declared(leaf).lower().endswith(tail):
            return word
        if (content(leaf) or b"")[:200].lstrip(b"\xef\xbb\xbf \r\n").startswith(start):
            return word
    if disposition == "attachment":
        return ""
    if "alternative" in inside and kind in SAME_AGAIN and not declared(leaf):
        return SAME
    inline = disposition == "inline" or "related" in inside
    if inline and leaf.get_content_maintype() == "image" and is_decoration(leaf):
        return "decoration"
    return ""


def is_decoration(leaf: Message) -> bool:
    """Whether a picture is too small for text; no, where it does not say its size."""
    from PIL import Image, UnidentifiedImageError

    data = content(leaf) or b""
    try:
        with Image.open(io.BytesIO(data), formats=PICTURES) as image:
            width, height = image.size
    except (UnidentifiedImageError, OSError, SyntaxError, *BROKEN):
        return not data
    few = width * height < DECORATION_PIXELS and len(data) < DECORATION_BYTES
    return few or min(width, height) < DECORATION_SIDE


def attached(
    leaf: Message, number: int, part_bytes_max: int, *, text: bool
) -> list[Enclosed]:
    """The part that a leaf is; of a `winmail.dat` all that is in it."""
    data = content(leaf) or b""
    if leaf.get_content_type() not in tnef.KINDS and not data.startswith(tnef.SIGN):
        return [attachment(leaf, number, part_bytes_max)]
    try:
        return tnef_parts(data, number, part_bytes_max, text=text)
    except Unacceptable as error:
        why = f"{error.message}: {error.hint}"
        return [refused(name_of(leaf, number), why, len(data))]


def tnef_parts(
    data: bytes, number: int, part_bytes_max: int, *, text: bool
) -> list[Enclosed]:
    """The parts of a TNEF stream; its `text` only where the mail says nothing else."""
    found = tnef.opened(data)
    parts = []
    if text and found.text:
        parts.append(enclosed("message.txt", found.text.encode(), part_bytes_max))
    elif text and found.rich:
        parts.append(refused("message.rtf", f"its text is in RTF: {AS_PDF}", 0))
    for place, file in enumerate(found.files, number + len(parts)):
        name = file.name or f"part {place}.bin"
        parts.append(enclosed(name, file.data, part_bytes_max))
    return parts


def attachment(leaf: Message, number: int, part_bytes_max: int) -> Enclosed:
    """A file sent with the mail."""
    kind, data = leaf.get_content_type(), content(leaf)
    label = messages.charset(leaf) if kind == "text/plain" else ""
    if data and label and not data.isascii():
        # The mail alone knows what it is in: as a file it is to say so itself.
        text, doubt = decoded(data, label)
        data = data if doubt else text.encode("utf-8", "replace")
    return enclosed(name_of(leaf, number), data, part_bytes_max, kind)


def name_of(leaf: Message, number: int) -> str:
    """What a leaf is called, by its sender or by us."""
    kind, name = leaf.get_content_type(), declared(leaf)
    if kind in MAILS:
        name = name or f"{subject(leaf) or f'mail {number}'}.eml"
    return name or f"part {number}{SUFFIXES.get(kind) or suffix(kind)}"


def enclosed(
    name: str, data: bytes | None, part_bytes_max: int, kind: str = ""
) -> Enclosed:
    """A part of these bytes; None could not be had."""
    code, why = refusal(data, part_bytes_max)
    return Enclosed(
        visible(name),
        len(data or b""),
        partial(pieces, data or b""),
        nests=partial(nests, kind, name, data or b""),
        code=code,
        why=why,
    )


def refused(name: str, why: str, size_bytes: int) -> Enclosed:
    """A part of a kind that is not read."""
    shown = visible(name)
    code = "UNSUPPORTED_TYPE"
    return Enclosed(shown, size_bytes, no_pieces, code=code, why=why)


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
    mail = kind in MAILS or name.lower().endswith(".eml")
    return mail or data.startswith((*BUNDLE_SIGNS, tnef.SIGN))


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
            data = inside.as_bytes() if isinstance(inside, Message) else None
            # Against the rules and yet sent: the mail inside as base64.
            how = str(leaf.get("content-transfer-encoding", "")).strip().lower()
            if data is None or how not in ("base64", "quoted-printable"):
                return data
            undone = EmailMessage()
            undone["Content-Transfer-Encoding"] = how
            undone.set_payload(data.lstrip())
            plain = undone.get_payload(decode=True)
            return plain if isinstance(plain, bytes) else None
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
    return re.split(r"[/\\]", messages.heading(name).text)[-1]


def subject(leaf: Message) -> str:
    """The subject of a mail inside the mail, or ""."""
    if not leaf.is_multipart():
        return ""
    inside = leaf.get_payload(0)
    return (
        messages.header(inside, "Subject").text if isinstance(inside, Message) else ""
    )


def pieces(data: bytes) -> Iterator[bytes]:
    """The bytes, in one piece."""
    yield data


def no_pieces() -> Iterator[bytes]:
    """The text of a mail is read from the mail itself."""
    yield b""
