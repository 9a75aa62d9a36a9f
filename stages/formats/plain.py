"""
Plain text: whether bytes are text, in which encoding, and the text itself.

Text is text when most of it can be printed, whatever its first bytes are.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from stages.formats.charsets import BOMS, SHIFTED, UNDECODED, guess, mostly_utf8
from stages.formats.pages import READ_CHARS

HEAD_BYTES = 64 << 10
CONTROL_MAX = 0.005  # share of bytes; random bytes have 0.1
# Share of bytes that are NUL: old printers and databases leave some.  More is padding
# or no text; of UTF-16 half of them are, where it is in Latin.
NUL_MAX, WIDE_NUL_MIN = 0.05, 0.2
UNPRINTABLE_MAX = 0.05  # share of characters; an animation read as UTF-16 had 0.3
PRINTED_CHARS = 20_000  # that are looked at for it
_CONTROL = bytes(set(range(1, 32)) - {8, 9, 10, 11, 12, 13, 26, 27}) + b"\x7f"
_HIGH = bytes(range(128, 256))


class Encoding(NamedTuple):
    """The encoding of a text, and whether it is certain."""

    name: str
    certain: bool = True


def read_text(path: str) -> tuple[Iterator[str], bool]:
    """
    A plain text in pieces, and whether its encoding is certain.

    Pieces, because one line of it may be as long as the file.
    """
    with open(path, "rb") as raw:
        found = encoding_of(raw, raw.read(HEAD_BYTES)) or Encoding("utf-8", False)

    def pieces() -> Iterator[str]:
        with open(path, encoding=found.name, errors="replace") as file:
            while piece := file.read(READ_CHARS):
                # No database keeps a NUL, and it may be all that parts two words.
                yield piece.replace("\0", " ")

    return pieces(), found.certain


def encoding_of(file: BinaryIO, head: bytes) -> Encoding | None:
    """The encoding of what may be a text, by samples of it; None: it is no text."""
    for mark, encoding in BOMS:
        if head.startswith(mark):
            return _if_printed(head, Encoding(encoding))
    sample = _samples(file, head)
    nuls = head.count(0) / max(1, len(head))
    if nuls:
        rest = sample.replace(b"\0", b"")
        if nuls >= WIDE_NUL_MIN or not (rest.isascii() or mostly_utf8(rest)):
            wide = unmarked(head)
            if wide or nuls > NUL_MAX:
                return wide
        if nuls > NUL_MAX:
            return None
        sample = rest
    if len(sample) - len(sample.translate(None, _CONTROL)) > CONTROL_MAX * len(sample):
        return None
    if sample.isascii() and not SHIFTED.search(sample):
        return Encoding("utf-8")
    if mostly_utf8(sample) and not sample.isascii():
        return Encoding("utf-8")
    return _if_printed(sample, Encoding(*guess(sample)))


def _samples(file: BinaryIO, head: bytes) -> bytes:
    """The head of a file, and a piece of its middle and of its end."""
    file.seek(0, 2)
    size = file.tell()
    # Where a sample is cut, a character may be: it is left out.
    sample = head if size == len(head) else head.rstrip(_HIGH)
    for place in (size // 2, size - HEAD_BYTES):
        if place > HEAD_BYTES:
            file.seek(place)
            sample += file.read(HEAD_BYTES).strip(_HIGH)
    return sample


def unmarked(head: bytes) -> Encoding | None:
    """UTF-16 or UTF-32 without a mark: characters of one text share their high byte."""
    for encoding in ("utf-32-le", "utf-32-be"):
        try:
            head[: len(head) // 4 * 4].decode(encoding)
        except UnicodeDecodeError:
            continue
        return _if_printed(head, Encoding(encoding))
    even, odd = set(head[::2]), set(head[1::2])
    encoding = "utf-16-le" if len(odd) <= len(even) else "utf-16-be"
    return _if_printed(head[: len(head) // 2 * 2], Encoding(encoding))


def _if_printed(data: bytes, found: Encoding) -> Encoding | None:
    """The encoding, when most of what it makes of bytes can be printed."""
    text = data.decode(found.name, "replace")[:PRINTED_CHARS]
    bad = sum(
        char == UNDECODED
        or (char < " " and char not in "\b\t\n\v\f\r\x1a\x1b")
        or (char > "~" and unicodedata.category(char) in ("Cc", "Cn", "Co", "Cs"))
        for char in text
    )
    return found if bad <= UNPRINTABLE_MAX * len(text) else None
