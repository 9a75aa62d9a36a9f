"""
A mail message as a person reads it: who, when, about what, and its text.

Mail is what people's programs made of it in forty years: saved with a blank or an
mbox line before it, in encodings under any name, headers in raw bytes.  What does not
decode is a doubt, and never passes for the letter.
"""

from __future__ import annotations

import binascii
import email
import quopri
import re
from email.errors import InvalidBase64CharactersDefect, InvalidBase64LengthDefect
from email.message import EmailMessage, Message
from email.policy import default as mail_policy
from typing import Any, cast

from pipeline.errors import Unacceptable
from stages.formats.charsets import Decoded, codec, decoded
from stages.formats.markup import text_of_html
from stages.formats.pages import MALFORMED, Text, corrupt

CONTAINERS_MAX = 200  # of a message; a long thread of forwards has twenty
HEADS = ("From", "To", "Date", "Subject")
# What may stand before a message's first header: a mark, blank lines, and the line
# that parts messages in a mailbox file.
BEFORE = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(>?From [^\r\n]*\d\d:\d\d[^\r\n]*\r?\n)?", re.ASCII
)
_PARTING = re.compile(
    rb"^>?From [^\r\n]*\d\d:\d\d[^\r\n]*\r?\n(?=[A-Za-z][A-Za-z0-9-]*:)", re.M
)
_WORD = re.compile(r"=\?([^?\s*]+)(?:\*[^?\s]*)?\?([bBqQ])\?([^?]*)\?=")
_META = re.compile(rb"<meta\b[^>]{0,200}?\bcharset\s*=\s*[\"']?([\w:.-]+)", re.I)
_UNBASED = (InvalidBase64CharactersDefect, InvalidBase64LengthDefect)


def read_message(path: str) -> EmailMessage:
    """
    A mail message.

    Raises:
        Unacceptable: CORRUPT.
    """
    with open(path, "rb") as file:
        return parsed(file.read())


def parsed(data: bytes) -> EmailMessage:
    """The message of these bytes; raises as `read_message`."""
    if data.count(b"boundary") > 2 * CONTAINERS_MAX:
        # The parser takes 6 ms for each that is in another one.
        raise Unacceptable(
            f"the message has more than {CONTAINERS_MAX} containers of parts",
            code="CORRUPT",
            hint="save its attachments and send them as files",
        )
    before = BEFORE.match(data)
    assert before is not None  # it matches nothing as well
    try:
        return email.message_from_bytes(data[before.end() :], policy=mail_policy)
    except MALFORMED as error:
        raise corrupt("the message", error) from None


def mailbox(path: str) -> list[bytes]:
    """The messages of a mailbox file that has several; none of any other mail."""
    with open(path, "rb") as file:
        data = file.read()
    before = BEFORE.match(data)
    if before is None or not before[1]:
        return []
    starts = [found.start() for found in _PARTING.finditer(data)]
    ends = [*starts[1:], len(data)]
    return [data[a:b] for a, b in zip(starts, ends, strict=True)] if starts[1:] else []


def body_of(message: EmailMessage) -> Text:
    """
    What a person reads of a message: its heads and its text.

    Raises:
        Unacceptable: CORRUPT.
    """
    try:
        hint = next((c for part in message.walk() if (c := charset(part))), "")
        heads = [(name, header(message, name, hint)) for name in HEADS]
        found = [said(part) for part in shown(message)]
    except MALFORMED as error:
        raise corrupt("the message", error) from None
    top = "\n".join(f"{name}: {value.text}" for name, value in heads if value.text)
    # Some programs send one text in two forms and do not say so.
    paragraphs = dict.fromkeys([top, *(part.text.strip() for part in found)])
    return Text(
        "\n\n".join(paragraph for paragraph in paragraphs if paragraph),
        sum(part.hidden for part in found),
        any(value.doubt for _, value in heads) or any(part.doubt for part in found),
    )


# -- which parts are the message ------------------------------------------------------


def shown(message: EmailMessage) -> list[EmailMessage]:
    """
    The parts that are shown as the message itself, in order.

    All that is text and no file, for some programs cut a letter at each picture; of
    forms of the same, plain text before HTML.  No recursion: depth is the sender's.
    """
    found: list[EmailMessage] = []
    pending: list[Message] = [message]
    while pending:
        part = cast("EmailMessage", pending.pop())
        if part.is_attachment() or part.get_filename():
            continue
        inside = kids(part)
        if not inside:
            if part.get_content_type() in ("text/plain", "text/html"):
                found.append(part)
            continue
        kind = part.get_content_subtype()
        if kind == "alternative":
            inside = [best(inside)]
        elif kind in ("related", "signed"):
            inside = inside[:1]
        elif kind == "digest":
            inside = []
        pending += reversed(inside)
    return found


def kids(part: Message) -> list[Message]:
    """The parts in a container; none of what is no container."""
    payload = part.get_payload()
    if part.get_content_maintype() != "multipart" or not isinstance(payload, list):
        return []
    return [each for each in payload if isinstance(each, Message)]


def best(forms: list[Message]) -> Message:
    """Of forms of the same, plain text, or else HTML, that says something."""
    for kind in ("text/plain", "text/html"):
        for form in forms:
            if form.get_content_type() == kind and said(form).text.strip():
                return form
    return forms[-1]


# -- their text -----------------------------------------------------------------------


def said(part: Any) -> Text:
    """The text of one part."""
    found = content(part)
    if part.get_content_type() == "text/html":
        return Text(*text_of_html(found.text), found.doubt)
    return Text(found.text, 0, found.doubt)


def content(part: Any) -> Decoded:
    """A text part decoded."""
    data = part.get_payload(decode=True) or b""
    label = charset(part)
    if not label and part.get_content_type() == "text/html":
        named = _META.search(data[:4096])
        label = named[1].decode("ascii") if named else ""
    text, doubt = decoded(data, label)
    # What was sent as base64 and is none came through undecoded.
    doubt = doubt or any(isinstance(each, _UNBASED) for each in part.defects)
    return Decoded(text.replace("\r\n", "\n").replace("\0", " "), doubt)


def charset(part: Message) -> str:
    """The encoding that a part names, "" when it is none that says anything."""
    label = str(part.get_content_charset("") or "")
    return label if codec(label) else ""


# -- headers --------------------------------------------------------------------------


def header(message: Message, name: str, hint: str = "") -> Decoded:
    """
    A header's text, on one line; empty when it is not there.

    Args:
        hint: The encoding of its raw bytes, if they are no UTF-8.
    """
    for key, value in message.raw_items():
        if key.lower() == name.lower():
            return heading(str(value), hint)
    return Decoded("")


def heading(raw: str, hint: str = "") -> Decoded:
    """A header as it came, its encoded words and raw bytes decoded."""
    doubt = False
    if not raw.isascii():
        raw, doubt = decoded(raw.encode("utf-8", "surrogateescape"), hint)
    pieces: list[str] = []
    # Words of one encoding go together: a character may be cut between two.
    label, data, end = "", b"", 0

    def end_words() -> None:
        nonlocal label, data, doubt
        if data:
            text, odd = decoded(data, label)
            pieces.append(text)
            doubt = doubt or odd
        label, data = "", b""

    for word in _WORD.finditer(raw):
        between = raw[end : word.start()]
        if between.strip() or not end or word[1].lower() != label:
            end_words()
            pieces.append(between if between.strip() or not end else "")
        label, end = word[1].lower(), word.end()
        data += word_bytes(word[2], word[3])
    end_words()
    pieces.append(raw[end:])
    return Decoded(" ".join("".join(pieces).split()), doubt)


def word_bytes(how: str, text: str) -> bytes:
    """The bytes of an encoded word; broken ones as they stand."""
    plain = text.encode("utf-8", "replace")
    if how in "qQ":
        return quopri.decodestring(plain, header=True)
    try:
        return binascii.a2b_base64(plain + b"==")
    except binascii.Error:
        return plain
