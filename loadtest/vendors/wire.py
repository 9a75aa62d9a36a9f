"""
HTTP/1.1 as a vendor speaks it on its worst day: what goes over a connection.

An `Answer` says what is sent, how slowly, and where it breaks off.  A connection is
a protocol of callbacks without a task of its own, so that one process holds thousands
of calls that wait.

Everything is bounded: heads by the parser, bodies here, hangs by `HANG_S`.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal, Protocol, cast

import httptools

BODY_BYTES_MAX = 64 << 20
WAITING_MAX = 16  # requests of one connection that wait for their turn
BACKLOG = 8192
HANG_S = 600.0  # longer than any client should wait

JSON = (("content-type", "application/json"),)


@dataclass(frozen=True, slots=True)
class Answer:
    """
    One answer.

    Attributes:
        after_s: Wait this long before the first byte.
        drip_s: Send the body a byte at a time, this far apart.
        chop: Send only this many bytes of the body, then hang up.
        times: Send the body this often: a flood without the memory for it.
        behind: Bytes that follow the answer unasked.
        ends: What becomes of the connection; "reset" sends nothing at all.
    """

    status: int = 200
    body: bytes = b"{}"
    headers: tuple[tuple[str, str], ...] = JSON
    after_s: float = 0.0
    drip_s: float = 0.0
    chop: int | None = None
    times: int = 1
    behind: bytes = b""
    ends: Literal["keep", "close", "reset"] = "keep"

    def sent(self, *, bare: bool = False) -> Iterator[bytes | float]:
        """What goes over the wire in turn: bytes, and seconds to wait."""
        yield float(self.after_s)
        if self.ends == "reset":
            return
        yield self.head()
        if bare:
            return
        if self.chop is not None:
            yield self.body[: self.chop]
        elif self.drip_s:
            for place in range(len(self.body)):
                yield self.body[place : place + 1]
                yield float(self.drip_s)
        else:
            for _ in range(self.times):
                yield self.body
            yield self.behind

    def head(self) -> bytes:
        """Status line and headers; announces the whole body."""
        try:
            phrase = HTTPStatus(self.status).phrase
        except ValueError:
            phrase = "Simulated"
        length = str(len(self.body) * self.times)
        lines = [f"HTTP/1.1 {self.status} {phrase}"]
        lines += [f"{k}: {v}" for k, v in (*self.headers, ("content-length", length))]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@dataclass(slots=True, eq=False)
class Asked:
    """One request as it came; header names in small letters."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    keep: bool = True  # the client wants to use the connection again
    call: Any = None  # what the vendor knows about it


class Answering(Protocol):
    """A vendor behind the wire."""

    def answer(self, asked: Asked) -> Answer:
        """Decide at once; what takes time stands in the answer."""
        ...

    def ended(self, asked: Asked) -> None:
        """It was answered, or the client is gone."""
        ...


@dataclass(slots=True, eq=False)
class Message:
    """What the parser has of a request so far."""

    target: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)


class Connection(asyncio.Protocol):
    """One connection, until either side has had enough."""

    def __init__(self, vendor: Answering, others: set[Connection]) -> None:
        self._vendor = vendor
        self._others = others
        self._parser = httptools.HttpRequestParser(self)
        self._message = Message()
        self._waiting: deque[Asked] = deque()
        self._asked: Asked | None = None
        self._answer = Answer()
        self._pieces: Iterator[bytes | float] = iter(())
        self._timer: asyncio.TimerHandle | None = None
        self._full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by name
        self._loop = asyncio.get_running_loop()
        self._others.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more is sent; whoever waited is not there any more."""
        self._others.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._asked is not None:
            self._vendor.ended(self._asked)
            self._asked = None
        self._pieces = iter(())
        self._waiting.clear()

    def hang_up(self) -> None:
        """End it at once."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Bytes of a request."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()  # not a client of ours

    # -- called by the parser ------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        self._message = Message()

    def on_url(self, url: bytes) -> None:
        """A part of its target."""
        self._message.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        self._message.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Some ask before they send a large body."""
        if self._message.headers.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """A part of its body."""
        self._message.body += body
        if len(self._message.body) > BODY_BYTES_MAX:
            self.hang_up()

    def on_message_complete(self) -> None:
        """A request is whole."""
        message = self._message
        self._waiting.append(
            Asked(
                self._parser.get_method().decode("latin-1"),
                message.target.decode("latin-1"),
                message.headers,
                bytes(message.body),
                self._parser.should_keep_alive(),
            )
        )
        if len(self._waiting) > WAITING_MAX:
            self.hang_up()
        elif self._asked is None:
            self._next()

    # -- the answer ----------------------------------------------------------------

    def _next(self) -> None:
        self._asked = self._waiting.popleft()
        self._answer = self._vendor.answer(self._asked)
        self._pieces = self._answer.sent(bare=self._asked.method == "HEAD")
        self._go_on()

    def _go_on(self) -> None:
        self._timer = None
        for piece in self._pieces:
            if isinstance(piece, float):
                if piece > 0:
                    self._timer = self._loop.call_later(piece, self._go_on)
                    return
            else:
                self._transport.write(piece)
                if self._full:
                    return  # `resume_writing` goes on
        if self._asked is not None:
            self._finish(self._asked)

    def pause_writing(self) -> None:
        """The client reads slowly."""
        self._full = True

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._full = False
        if self._asked is not None and self._timer is None:
            self._go_on()

    def _finish(self, asked: Asked) -> None:
        self._vendor.ended(asked)
        self._asked = None
        if self._answer.ends == "reset":
            self._transport.abort()
        elif (
            self._answer.ends == "close"
            or self._answer.chop is not None
            or not asked.keep
        ):
            self._transport.close()
        elif self._waiting:
            self._next()


@asynccontextmanager
async def listening(vendor: Answering, port: int = 0) -> AsyncIterator[int]:
    """Serve `vendor` on 127.0.0.1 while the block lasts; gives the port."""
    loop = asyncio.get_running_loop()
    connections: set[Connection] = set()
    server = await loop.create_server(
        lambda: Connection(vendor, connections),
        "127.0.0.1",
        port,
        family=socket.AF_INET,
        backlog=BACKLOG,
    )
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for connection in list(connections):
            connection.hang_up()
        await asyncio.sleep(0)  # their last callbacks
