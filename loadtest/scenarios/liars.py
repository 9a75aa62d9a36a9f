"""
Vendors that lie on the wire: what each sends, byte by byte, in place of an answer.

Every liar knows the true answer to what it was asked, and a true answer to something
else.  Served from the run's own process, on loopback.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

Said = bytes | float  # what is sent, and seconds to wait
Liar = Callable[[bytes, bytes], list[Said]]

JSON = b"content-type: application/json\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
GZIP = JSON + b"content-encoding: gzip\r\n"
HANG_S = 60.0
END = float("-inf")  # the connection ends here


def _whole(body: bytes, status: bytes = b"200 OK", more: bytes = JSON) -> bytes:
    length = b"content-length: %d\r\n\r\n" % len(body)
    return b"HTTP/1.1 %s\r\n%s%s%s" % (status, more, length, body)


# What comes, and by which name the call must end: a code, or "done".
LIARS: dict[str, tuple[str, Liar]] = {
    "no-http": ("VENDOR_GARBAGE", lambda a, b: [b"SSH-2.0-OpenSSH_9.2\r\n", END]),
    "endless-head": ("VENDOR_GARBAGE", lambda a, b: [OK, *[b"x: y\r\n" * 999] * 99]),
    "long-header": ("VENDOR_GARBAGE", lambda a, b: [OK + b"x: " + b"y" * 300_000]),
    "two-lengths": (
        "VENDOR_GARBAGE",
        lambda a, b: [_whole(a, more=b"content-length: 3\r\n"), END],
    ),
    "short-length": (
        "VENDOR_GARBAGE",
        lambda a, b: [OK + b"content-length: 5\r\n\r\n" + a],
    ),
    "long-length": ("VENDOR_DOWN", lambda a, b: [_whole(a)[:-3], END]),
    "bad-chunk": ("VENDOR_GARBAGE", lambda a, b: [CHUNKED + b"zz\r\n" + a, END]),
    "cut-chunk": ("VENDOR_DOWN", lambda a, b: [CHUNKED + b"ff\r\n" + a[:9], END]),
    "no-end": ("VENDOR_TIMEOUT", lambda a, b: [OK + b"\r\n" + a, HANG_S]),
    "only-hints": (
        "VENDOR_GARBAGE",  # after twenty
        lambda a, b: [b"HTTP/1.1 103 Early Hints\r\n\r\n", 0.05] * 200,
    ),
    "hints": (
        "done",
        lambda a, b: [b"HTTP/1.1 103 Early Hints\r\n\r\n" * 3 + _whole(a)],
    ),
    "switches": (
        "VENDOR_GARBAGE",
        lambda a, b: [b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", END],
    ),
    "part": ("VENDOR_GARBAGE", lambda a, b: [_whole(a, b"206 Partial Content")]),
    "more-gzip": (
        "VENDOR_GARBAGE",
        lambda a, b: [_whole(gzip.compress(a) + b"more", more=GZIP)],
    ),
    "second-gzip": (
        "VENDOR_GARBAGE",
        lambda a, b: [_whole(gzip.compress(a) + gzip.compress(b), more=GZIP)],
    ),
    "second-at-once": ("done", lambda a, b: [_whole(a) + _whole(b)]),
    "second-late": ("done", lambda a, b: [_whole(a), 0.02, _whole(b)]),
    "infinite": ("VENDOR_GARBAGE", lambda a, b: [_whole(a[:-1] + b', "n": 1e999}')]),
    "surrogate": (
        "VENDOR_GARBAGE",
        lambda a, b: [_whole(a[:-1] + b', "n": "\xed\xa0\x80"}')],
    ),
    "nul": ("done", lambda a, b: [_whole(a[:-1] + b', "n": "\\u0000\\ud800"}')]),
    "rate-in-400": (
        "THROTTLED",
        lambda a, b: [_whole(b'{"error": "Rate limit reached"}', b"400 Bad Request")],
    ),
    "quota-in-403": (
        "QUOTA",
        lambda a, b: [
            _whole(b'[{"errorCode": "REQUEST_LIMIT_EXCEEDED"}]', b"403 Forbidden")
        ],
    ),
    "quota-in-429": (
        "QUOTA",
        lambda a, b: [
            _whole(b'{"error": {"code": "insufficient_quota"}}', b"429 Slow Down")
        ],
    ),
}


@asynccontextmanager
async def lying() -> AsyncIterator[str]:
    """All of them; each is called below this URL by its name."""
    server = await asyncio.start_server(_serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    # Cancelled at the end of the run, which is no matter.
    with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
        while await _answered(reader, writer):
            pass
    writer.close()


async def _answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Lie once; whether the connection goes on."""
    head = await reader.readuntil(b"\r\n\r\n")
    name = head.split(b" ", 2)[1].strip(b"/").decode()
    mark = json.loads(await reader.readexactly(_length(head)))["mark"]
    for said in LIARS[name][1](_echo(mark), _echo("somebody else's")):
        if isinstance(said, bytes):
            writer.write(said)
            await writer.drain()
        elif said == END:
            return False
        else:
            await asyncio.sleep(said)
    return True


def _length(head: bytes) -> int:
    lines = (line.partition(b":") for line in head.lower().split(b"\r\n"))
    return next(int(value) for name, _, value in lines if name == b"content-length")


def _echo(mark: str) -> bytes:
    return json.dumps({"json": {"mark": mark}}).encode()
