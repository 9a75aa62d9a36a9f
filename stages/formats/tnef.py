"""
TNEF: the `winmail.dat` into which Outlook packs a message for its own kind.

A stream of attributes; some of them hold properties of their own.  What a person would
read or open is taken: the text, and the attached files with their names.  The format is
Microsoft's [MS-OXTNEF]; the library for it has had no release since 2021.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from pipeline.errors import Unacceptable
from stages.formats.charsets import decoded
from stages.formats.markup import text_of_html

SIGN = b"\x78\x9f\x3e\x22"
KINDS = ("application/ms-tnef", "application/vnd.ms-tnef")

# Attributes: what they say, and of the message or an attachment.
CODEPAGE, BODY, MESSAGE = 0x9007, 0x800C, 0x9003
BEGINS, TITLE, DATA, ATTACHMENT = 0x9002, 0x8010, 0x800F, 0x9005
# Properties.
P_BODY, P_HTML, P_RTF = 0x1000, 0x1013, 0x1009
P_DATA, P_SHORT_NAME, P_NAME = 0x3701, 0x3704, 0x3707
FIXED = {2: 4, 3: 4, 4: 4, 10: 4, 11: 4, 5: 8, 6: 8, 7: 8, 20: 8, 64: 8, 72: 16}
OBJECT, STRING, UNICODE, BINARY = 0x0D, 0x1E, 0x1F, 0x102
MANY = 0x1000  # of one kind
PROPERTIES_MAX = 10_000
INTERFACE_BYTES = 16  # before an embedded object


@dataclass(slots=True)
class File:
    """A file that was attached."""

    name: str = ""
    data: bytes = b""


@dataclass(slots=True)
class Opened:
    """
    What a TNEF stream holds.

    Attributes:
        rich: Its text is in RTF alone, which is not read.
    """

    text: str = ""
    rich: bool = False
    files: list[File] = field(default_factory=list)


def opened(data: bytes) -> Opened:
    """
    The message in a TNEF stream.

    Raises:
        Unacceptable: CORRUPT, saying that it is TNEF.
    """
    found = Opened()
    try:
        html, codepage = "", "cp1252"
        for name, value in attributes(data):
            if name == CODEPAGE:
                codepage = f"cp{struct.unpack_from('<I', value)[0]}"
            elif name == BODY:
                found.text = spelled(value, codepage)
            elif name == MESSAGE:
                for kind, key, content in properties(value):
                    if key == P_BODY:
                        found.text = worded(kind, content, codepage) or found.text
                    elif key == P_HTML:
                        html = worded(kind, content, codepage)
                    elif key == P_RTF:
                        found.rich = True
            elif name == BEGINS:
                found.files.append(File())
            elif found.files:
                attach(found.files[-1], name, value, codepage)
    except (struct.error, IndexError, ValueError) as error:
        raise Unacceptable(
            f"it is TNEF (winmail.dat) and cannot be opened ({type(error).__name__})",
            code="CORRUPT",
            hint="ask the sender for the files themselves, or for mail in plain text",
        ) from None
    found.text = found.text.strip() or text_of_html(html)[0]
    found.rich = found.rich and not found.text
    return found


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Attributes and their bytes, checked by their sums."""
    if not data.startswith(SIGN):
        raise ValueError("no TNEF")
    at = len(SIGN) + 2
    while at < len(data):
        _, name, _, length = struct.unpack_from("<BHHI", data, at)
        at += 9
        value = data[at : at + length]
        (total,) = struct.unpack_from("<H", data, at + length)
        if sum(value) & 0xFFFF != total:
            raise ValueError("a sum is wrong")
        at += length + 2
        yield name, value


def attach(file: File, name: int, value: bytes, codepage: str) -> None:
    """Take what one attribute says of an attachment."""
    if name == TITLE:
        file.name = file.name or spelled(value, codepage)
    elif name == DATA:
        file.data = value
    elif name == ATTACHMENT:
        names: dict[int, str] = {}
        for kind, key, content in properties(value):
            if key in (P_NAME, P_SHORT_NAME):
                names[key] = worded(kind, content, codepage)
            elif key == P_DATA and content:
                file.data = content[INTERFACE_BYTES:] if kind == OBJECT else content
        file.name = names.get(P_NAME) or file.name or names.get(P_SHORT_NAME, "")


def properties(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Kind, key and first value of each property."""
    (count,) = struct.unpack_from("<I", data)
    at = 4
    if count > PROPERTIES_MAX:
        raise ValueError("too many properties")
    for _ in range(count):
        kind, key = struct.unpack_from("<HH", data, at)
        at += 4
        if key >= 0x8000:  # it has a name: a GUID, and a number or a string
            by_string, size = struct.unpack_from("<II", data, at + 16)
            at += 24 + (padded(size) if by_string else 0)
        single = kind & ~MANY
        varies = single in (OBJECT, STRING, UNICODE, BINARY)
        values = 1
        if varies or kind & MANY:
            (values,) = struct.unpack_from("<I", data, at)
            at += 4
        first = b""
        for number in range(values):
            if varies:
                (size,) = struct.unpack_from("<I", data, at)
                at += 4
            else:
                size = FIXED[single]
            if at + size > len(data):
                raise ValueError("a property ends behind its attribute")
            first = data[at : at + size] if number == 0 else first
            at += padded(size)
        yield single, key, first


def padded(size: int) -> int:
    """`size` up to the next multiple of four."""
    return size + -size % 4


def worded(kind: int, value: bytes, codepage: str) -> str:
    """The text of a property."""
    if kind == UNICODE:
        return value.decode("utf-16-le", "replace").rstrip("\0")
    return spelled(value, codepage)


def spelled(value: bytes, codepage: str) -> str:
    """Text of bytes that end with a NUL."""
    return decoded(value.rstrip(b"\0"), codepage).text
