"""
Writing PDF files object by object, true or not: what no library would do for us.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Sequence

from loadtest.corpora.slips import WISHES

HEAD = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"
BOX = "[0 0 420 120]"
SEEN = b"BT /F1 22 Tf 20 50 Td (PLEASE MAY I HAVE A KITE) Tj ET"
FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"


# -- writing --------------------------------------------------------------------------


def stream(data: bytes, entries: str = "") -> bytes:
    """A stream object."""
    head = f"<< /Length {len(data)} {entries} >>\nstream\n".encode()
    return head + data + b"\nendstream"


def pdf(objects: Sequence[bytes], *, trailer: str = "", head: bytes = HEAD) -> bytes:
    """Objects numbered from 1, the first being the catalogue; a true xref table."""
    out = bytearray(head)
    places: list[int] = []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n" % number + body + b"\nendobj\n"
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    size = "" if "/Size" in trailer else f"/Size {len(objects) + 1}"
    root = "" if "/Root" in trailer else "/Root 1 0 R"
    out += f"trailer\n<< {size} {root} {trailer} >>\n".encode()
    out += b"startxref\n%d\n%%%%EOF\n" % start
    return bytes(out)


def page(
    content: bytes | None = SEEN,
    *,
    box: str = BOX,
    catalogue: str = "",
    pages: str = "/Kids [3 0 R] /Count 1",
    leaf: str = "",
    resources: str = "",
    body: bytes | None = None,
    more: Sequence[bytes] = (),
    trailer: str = "",
    head: bytes = HEAD,
) -> bytes:
    """
    A PDF of one page.

    Objects: 1 catalogue, 2 pages, 3 the page, 4 its content, 5 a font, then `more`.
    `body` is the whole object 4, where it is more than a stream of `content`.
    """
    used = f"/Resources << /Font << /F1 5 0 R >> {resources} >>"
    box = f"/MediaBox {box}" if box else ""
    third = f"/Type /Page /Parent 2 0 R {box} /Contents 4 0 R {used} {leaf}"
    return pdf(
        [
            f"<< /Type /Catalog /Pages 2 0 R {catalogue} >>".encode(),
            f"<< /Type /Pages {pages} >>".encode(),
            f"<< {third} >>".encode(),
            body if body is not None else stream(content or b""),
            FONT,
            *more,
        ],
        trailer=trailer,
        head=head,
    )


def plain(number: int = 0) -> bytes:
    """An honest typed page."""
    wish = WISHES[number % len(WISHES)]
    text = f"BT /F1 22 Tf 20 50 Td (PLEASE MAY I HAVE {wish}) Tj ET % {number}"
    return page(text.encode())


def empty(number: int) -> bytes:
    """A page with nothing on it; no two alike."""
    return page(f"% {number}".encode())


def swelling(part: bytes, times: int) -> bytes:
    """A zlib stream of `part` repeated, made without ever holding all of it."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    deflate.compress(part)
    deflate.flush(zlib.Z_FULL_FLUSH)
    once = deflate.compress(part) + deflate.flush(zlib.Z_FULL_FLUSH)
    # The checksum behind it is wrong; readers of PDF do not look at it.
    return b"\x78\xda" + once * times + b"\x03\x00" + bytes(4)


# -- passwords ------------------------------------------------------------------------

_PAD = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")


def rc4(key: bytes, data: bytes) -> bytes:
    """The cipher of PDF 1.3: a real one salts itself, and bytes must repeat."""
    state = list(range(256))
    j = 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    out = bytearray()
    i = j = 0
    for byte in data:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        out.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(out)


def locked(user: str, owner: str) -> bytes:
    """A page behind 40-bit RC4; an empty `user` opens without a password."""

    def md5(data: bytes) -> bytes:
        return hashlib.md5(data, usedforsecurity=False).digest()

    def padded(word: str) -> bytes:
        return (word.encode() + _PAD)[:32]

    key_id = md5(f"{user}:{owner}".encode())
    by_owner = rc4(md5(padded(owner))[:5], padded(user))
    key = md5(padded(user) + by_owner + struct.pack("<i", -4) + key_id)[:5]
    content = rc4(md5(key + struct.pack("<I", 4)[:3] + b"\0\0")[:10], SEEN)
    rules = (
        f"/Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <{by_owner.hex()}>"
        f" /U <{rc4(key, _PAD).hex()}> >> /ID [<{key_id.hex()}> <{key_id.hex()}>]"
    )
    return page(content, trailer=rules)
