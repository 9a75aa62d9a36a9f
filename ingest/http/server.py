"""
HTTP for callbacks: one request a connection, bounded in bytes, in time and in number.

The protocol is h11's.  A server for this alone, because the servers there are give a
connection no total time: one that sends a byte now and then keeps its place for ever.
Whoever is slow loses its place here to whoever comes.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NamedTuple

import anyio
import h11
import structlog
from anyio.abc import ByteStream, SocketListener, TaskGroup

from ingest.http.page import HEADERS, Page

log = structlog.get_logger()

READ_S = 10.0  # for a whole request
ANSWER_S = 30.0  # for all of it, with the database
CLOSE_S = 1.0
HEAD_BYTES_MAX = 16 << 10
CONNECTIONS_MAX = 64  # each may hold a body
JSON: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)
AGAIN_S = 1.0  # after the machine had no descriptor for a connection
GONE = (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)


class Request(NamedTuple):
    """A request as it came; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Response(NamedTuple):
    """An answer: a status, and what becomes JSON."""

    status: int
    said: dict[str, Any]
    retry_after_s: int = 0


Handle = Callable[[Request], Awaitable[Response | Page]]


class Server:
    """
    Answers requests by `handle`, whose bodies have at most `bytes_max` bytes.

    Args:
        handle: Must answer; what it raises ends that connection alone.
    """

    def __init__(
        self,
        handle: Handle,
        *,
        bytes_max: int,
        read_s: float = READ_S,
        answer_s: float = ANSWER_S,
        connections: int = CONNECTIONS_MAX,
    ) -> None:
        self._handle = handle
        self._bytes_max = bytes_max
        self._read_s = read_s
        self._answer_s = answer_s
        self._most = connections
        self._reading: dict[anyio.CancelScope, None] = {}  # oldest first
        self._open = 0

    def __repr__(self) -> str:
        return f"<Server open={self._open}>"

    async def serve(self, listener: SocketListener) -> None:
        """Take connections for ever."""
        async with listener, anyio.create_task_group() as tasks:
            while True:
                await self._accept(listener, tasks)

    async def _accept(self, listener: SocketListener, tasks: TaskGroup) -> None:
        try:
            stream = await listener.accept()
        except OSError as error:
            # No descriptor, or the peer has gone: the next one may be well.
            log.warning("callback_not_accepted", why=error.strerror)
            await anyio.sleep(AGAIN_S)
            return
        if self._open >= self._most:
            if not self._reading:  # everybody is quick, and there are too many
                await stream.aclose()
                return
            next(iter(self._reading)).cancel()
        self._open += 1
        tasks.start_soon(self._stay, stream)

    async def _stay(self, stream: ByteStream) -> None:
        """One connection, whatever it does."""
        try:
            with anyio.move_on_after(self._answer_s):
                await self.converse(stream)
        except GONE:
            pass
        except Exception as error:
            # The edge of the house: a fault of ours ends this connection alone, and
            # not the process that keeps workers.  What it says may quote a body.
            log.error("callback_failed", error=type(error).__name__)
        finally:
            self._open -= 1
            with anyio.move_on_after(CLOSE_S, shield=True), suppress(*GONE):
                await stream.aclose()

    async def converse(self, stream: ByteStream) -> None:
        """Read one request, answer it."""
        wire = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        found: Request | Response | Page | None = None
        with anyio.CancelScope(deadline=anyio.current_time() + self._read_s) as scope:
            self._reading[scope] = None
            try:
                found = await self._request(wire, stream)
            except h11.RemoteProtocolError as error:
                found = Response(error.error_status_hint, {"error": "BAD_REQUEST"})
            finally:
                self._reading.pop(scope, None)
        if found is None:
            found = Response(408, {"error": "TOO_SLOW"})
        if isinstance(found, Request):
            found = await self._handle(found)
        if wire.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            await stream.send(_written(wire, found))
        if wire.their_state is h11.SEND_BODY:
            # Closed with bytes unread, it would take our answer along.
            with anyio.move_on_after(CLOSE_S), suppress(anyio.EndOfStream):
                await stream.send_eof()
                while True:
                    await stream.receive()

    async def _request(
        self, wire: h11.Connection, stream: ByteStream
    ) -> Request | Response:
        """The whole request, or why it is not read to its end."""
        head = None
        body = bytearray()
        while True:
            event = wire.next_event()
            if event is h11.NEED_DATA:
                if wire.they_are_waiting_for_100_continue:
                    go_on = h11.InformationalResponse(status_code=100, headers=[])
                    await stream.send(wire.send(go_on) or b"")
                try:
                    wire.receive_data(await stream.receive())
                except anyio.EndOfStream:
                    wire.receive_data(b"")
            elif isinstance(event, h11.Request):
                head = event
                if _length(event) > self._bytes_max:
                    return Response(413, {"error": "SIGNAL_SIZE"})
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > self._bytes_max:
                    return Response(413, {"error": "SIGNAL_SIZE"})
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                return Request(
                    head.method.decode("ascii"),
                    head.target.decode("ascii"),
                    {k.decode("ascii"): v.decode("latin-1") for k, v in head.headers},
                    bytes(body),
                )
            else:  # gone before it had said anything
                raise anyio.ClosedResourceError


def _length(head: h11.Request) -> int:
    """What it says that its body has; h11 has seen to it that it is a number."""
    return next((int(v) for k, v in head.headers if k == b"content-length"), 0)


def _written(wire: h11.Connection, response: Response | Page) -> bytes:
    if isinstance(response, Page):
        body, kind = response.html.encode(), HEADERS
    else:
        body, kind = json.dumps(response.said).encode(), JSON
    headers = [
        *kind,
        ("content-length", str(len(body))),
        ("cache-control", "no-store"),
        ("connection", "close"),
    ]
    if response.retry_after_s:
        headers.append(("retry-after", str(response.retry_after_s)))
    head = h11.Response(status_code=response.status, headers=headers)
    sent = (wire.send(head), wire.send(h11.Data(data=body)))
    return b"".join(part or b"" for part in (*sent, wire.send(h11.EndOfMessage())))
