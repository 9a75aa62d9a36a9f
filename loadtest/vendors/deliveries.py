"""
Callbacks: what a vendor sends by itself, signed, until it is taken.

A delivery is tried a few times, at growing distances; 2xx takes it, 410 ends it.  Only
addresses of this machine are called.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from urllib.parse import urlsplit

import anyio

from loadtest.vendors.book import now
from loadtest.vendors.kinds import Delivery
from loadtest.vendors.signing import signed

TRIES = 6
FIRST_WAIT_S = 0.2  # doubles
TRY_S = 10.0
HEAD_BYTES_MAX = 16_384
GONE = 410


async def deliver(delivery: Delivery, sent: Callable[[int], None]) -> None:
    """Try until it is taken; `sent` gets the status of each try, 0 for none."""
    await anyio.sleep(delivery.after_s)
    for number in range(TRIES):
        status = 0
        with anyio.move_on_after(TRY_S):
            status = await _try(delivery)
        sent(status)
        if 200 <= status < 300 or status == GONE:
            return
        await anyio.sleep(FIRST_WAIT_S * 2**number)


async def _try(delivery: Delivery) -> int:
    """The status of one POST; 0 when there is no answer."""
    parts = urlsplit(delivery.url)
    host, port = parts.hostname or "", parts.port or 80
    if parts.scheme != "http" or not _here(host):
        return 0
    headers = {
        "host": parts.netloc,
        "content-type": "application/json",
        "content-length": str(len(delivery.body)),
        "connection": "close",
        **signed(delivery.secret, delivery.id, now(), delivery.body),
    }
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"POST {target} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    try:
        async with await anyio.connect_tcp(host, port) as stream:
            await stream.send(head + delivery.body)
            answer = b""
            while b"\r\n" not in answer and len(answer) < HEAD_BYTES_MAX:
                answer += await stream.receive()
    except (OSError, anyio.EndOfStream, anyio.BrokenResourceError):
        return 0
    word = answer.split(b" ", 2)[1:2]
    return int(word[0]) if word and word[0].isdigit() else 0


def _here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
