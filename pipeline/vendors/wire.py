"""
HTTP/1.1 by httpx: one service's connections, thousands of them at once.

httpx's own pool looks at every connection for every call: five thousand calls of two
seconds were not done in 150.  So its engine's connections are kept in a list that is
ours, and a call takes the one that rested longest; decision 0023 has the figures.
"""

from __future__ import annotations

import re
import ssl
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import anyio
import httpcore
import httpx
from anyio.streams.tls import TLSStream

from pipeline.calls import Moment

KEPT_S = 20.0  # an idle connection is closed then; many servers do so after 30 to 60
CLOSE_S = 1.0  # for the goodbye of TLS
# So long a connection rests between two calls: a second answer to the first comes on
# its heels as a rule, and is seen then.  Whoever calls oftener has more connections.
REST_S = 0.05
INTERIM_MAX = 20  # before an answer, those that say nothing yet; arbitrary
HEADERS_MAX = 256  # of an answer; arbitrary
HEAD_BYTES_MAX = 64 << 10  # of an answer; the usual bound of servers is 8 to 32 kB


class Unreached(Exception):
    """No connection came about: the vendor knows nothing of the call."""

    def __init__(self, why: str, error: OSError | None = None) -> None:
        super().__init__(why)
        self.error = error


class Lost(Exception):
    """The connection broke; whether the vendor got the call is not known."""


class Misspoken(Exception):
    """What came back is no HTTP."""


class Asked(NamedTuple):
    """
    One request, ready to be sent.

    Attributes:
        url: With an address in place of the host, quoted.
        name: The host as it is called, whose certificate is asked for.
        connect_s: The longest that a connection may take.
    """

    method: str
    url: str
    name: str
    headers: Mapping[str, str]
    body: bytes
    connect_s: float


class Heard(NamedTuple):
    """The head of an answer, and its body as it was sent, piece by piece."""

    status: int
    headers: Mapping[str, str]  # their names in small letters, the first of each
    body: AsyncGenerator[bytes, None]


class Wire:
    """The connections of one service; `aclose` ends them."""

    def __init__(self, verify: ssl.SSLContext) -> None:
        self._kept = _Kept(verify)

    async def aclose(self) -> None:
        """Close every idle connection."""
        await self._kept.aclose()

    @asynccontextmanager
    async def exchange(
        self, asked: Asked, when: Moment | None = None
    ) -> AsyncIterator[Heard]:
        """
        Send it, once; what is left unread when the block ends costs the connection.

        With `when` it is sent when that returns, on a connection that stands already.

        Raises:
            Unreached, Lost, Misspoken: none of them quotes what was sent.
        """
        request = httpx.Request(
            asked.method,
            asked.url,
            # As bytes: httpx takes a text for ASCII, and a header may be Latin-1.
            headers=[
                (k.encode(), v.encode("latin-1")) for k, v in asked.headers.items()
            ],
            content=asked.body or None,
            extensions={
                # The whole has a bound of its own, around us.
                "timeout": {"connect": asked.connect_s},
                "sni_hostname": asked.name,
                "when": when,
            },
        )
        try:
            response = await self._kept.handle_async_request(request)
        except _FAILURES as error:
            raise _plain(error) from None
        try:
            yield Heard(response.status_code, _small(response), _pieces(response))
        finally:
            with anyio.move_on_after(CLOSE_S, shield=True):
                await response.aclose()


async def _pieces(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    try:
        async for piece in response.aiter_raw():
            yield piece
    except _FAILURES as error:
        raise _plain(error) from None


def _small(response: httpx.Response) -> dict[str, str]:
    small: dict[str, str] = {}
    for name, value in response.headers.multi_items():
        small.setdefault(name.lower(), value)
    return small


_Idle = deque[tuple[float, httpcore.AsyncHTTPConnection]]  # since when


class _Kept(httpx.AsyncBaseTransport):
    """httpx over connections of httpcore, its engine, that lie in a list."""

    def __init__(self, verify: ssl.SSLContext) -> None:
        self._verify = verify
        self._idle: dict[str, _Idle] = {}  # by origin, who rested longest first

    async def aclose(self) -> None:
        """Close what is idle; what is in use closes when its answer does."""
        idle, self._idle = self._idle, {}
        for connections in idle.values():
            for _, connection in connections:
                await connection.aclose()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it on a kept connection, or on a new one."""
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        asked = httpcore.Request(
            request.method,
            url,
            headers=request.headers.raw,
            content=request.content,
            extensions=request.extensions,
        )
        connection = await self._one(url.origin)
        when, new = request.extensions["when"], connection._connection is None
        if new or when is not None:
            trace = _watching(connection, new, when)
            asked.extensions = {**request.extensions, "trace": trace}
        try:
            response = await connection.handle_async_request(asked)
        except _Ended:
            # It was, while we waited: nothing was sent.
            await _close(connection)
            request.extensions["when"] = None
            return await self.handle_async_request(request)
        except BaseException as error:
            said = _left_over(connection)
            await _close(connection)
            if isinstance(error, httpcore.ProtocolError) and not said.startswith(
                b"HTTP/1"[: len(said)]
            ):
                raise Misspoken(type(error).__name__) from None
            raise
        head = response.headers
        if (
            len(head) > HEADERS_MAX
            or sum(len(n) + len(v) for n, v in head) > HEAD_BYTES_MAX
        ):
            await _close(connection)
            raise Misspoken("large head")
        idle = self._idle.setdefault(str(url.origin), deque())
        body = _Body(response, connection, idle)
        return httpx.Response(response.status, headers=response.headers, stream=body)

    async def _one(self, origin: httpcore.Origin) -> httpcore.AsyncHTTPConnection:
        idle = self._idle.get(str(origin), deque())
        while idle and anyio.current_time() - idle[0][0] >= REST_S:
            _, connection = idle.popleft()
            # Also when something lies in its socket: the end, or what nobody asked.
            if not connection.has_expired() and not _left_over(connection):
                return connection
            await _close(connection)
        return httpcore.AsyncHTTPConnection(
            origin, ssl_context=self._verify, keepalive_expiry=KEPT_S
        )


class _Ended(Exception):
    """The other side ended the connection, or said something, before it was asked."""


def _watching(
    connection: httpcore.AsyncHTTPConnection, new: bool, when: Moment | None
) -> Callable[[str, Any], Awaitable[None]]:
    """What httpcore calls at each step of a call: before the first byte, wait."""

    async def trace(step: str, _: Any) -> None:
        if step != "http11.send_request_headers.started":
            return
        inner: Any = connection._connection
        if new:
            inner._h11_state.next_event = _bounded(inner._h11_state.next_event)
        if when is not None:
            await when()
            if inner._network_stream.get_extra_info("is_readable"):
                raise _Ended

    return trace


def _bounded(next_event: Callable[[], Any]) -> Callable[[], Any]:
    """
    What comes next on a connection, and no answers without end that say nothing yet.

    httpcore reads over them (100, 103) as long as they come: megabytes of them would
    keep a core busy for the whole of the call's time.
    """
    interim = 0

    def one() -> Any:
        nonlocal interim
        event = next_event()
        kind = type(event).__name__
        if kind == "InformationalResponse":
            interim += 1
        elif kind == "Response":
            interim = 0
        if interim > INTERIM_MAX:
            raise httpcore.RemoteProtocolError("interim answers without end")
        return event

    return one


class _Body(httpx.AsyncByteStream):
    """An answer's body; read to its end, its connection is kept."""

    def __init__(
        self,
        response: httpcore.Response,
        connection: httpcore.AsyncHTTPConnection,
        idle: _Idle,
    ) -> None:
        self._response = response
        self._connection = connection
        self._idle = idle
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._response.aiter_stream():
            yield piece

    async def aclose(self) -> None:
        """Keep the connection, or close it."""
        if self._closed:
            return
        self._closed = True
        await self._response.aclose()
        # Idle: its answer came whole, and both sides wish to go on.
        if self._connection.is_idle() and not _left_over(self._connection):
            self._idle.append((anyio.current_time(), self._connection))
        else:
            await _close(self._connection)


def _left_over(connection: httpcore.AsyncHTTPConnection) -> bytes:
    """
    What was read from it beyond its answer.

    A second answer to the last call would be taken for the answer to the next one.
    Nobody has a word for it, so this looks into the parser of httpcore and below it
    into the streams of anyio.
    """
    inner: Any = connection._connection
    if inner is None:  # there never was one
        return b""
    more: bytes = inner._h11_state.trailing_data[0]
    stream: Any = inner._network_stream._stream
    if isinstance(stream, TLSStream):
        if stream._read_bio.pending or stream._ssl_object.pending():
            more += b"\0"  # still packed, and whatever it is
        stream = stream.transport_stream
    return more + b"".join(stream._protocol.read_queue)


async def _close(connection: httpcore.AsyncHTTPConnection) -> None:
    with anyio.move_on_after(CLOSE_S, shield=True):
        await connection.aclose()


_FAILURES = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.ConnectionNotAvailable,
)


def _plain(error: Exception) -> Exception:
    # Their texts may quote what was sent, or an address: only kinds are told.
    kind = type(error).__name__
    match error:
        case httpcore.ConnectTimeout():
            return Unreached("timeout")
        case httpcore.ConnectError():
            return Unreached(kind, _os_error(error))
        case httpcore.ProtocolError() if not _CUT.search(str(error)):
            return Misspoken(kind)
        case _:
            return Lost(kind)


# httpcore and h11 tell a connection that ended too soon as an error of the protocol.
_CUT = re.compile(r"disconnected|peer closed|incomplete", re.IGNORECASE)


def _os_error(error: BaseException | None) -> OSError | None:
    """What the system said, beneath what was made of it."""
    while error is not None:
        if isinstance(error, OSError):
            return error
        error = error.__cause__ or error.__context__
    return None
