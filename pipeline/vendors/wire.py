"""
HTTP/1.1 as aiohttp speaks it: one service's connections, thousands of them at once.

Measured with 5,000 calls under way against a vendor that takes 2 s (2 shared cores,
uvloop, loopback; CPU seconds of the client on new connections, then on kept ones):

    httpx, one pool                     more than 150: its pool looks at all, each time
    httpx, 20 and 100 smaller pools     21.6, 29.3 and 10.7, 17.0; 195 MB
    httpx, HTTP/2, 50 connections       5.4, 5.8; 118 MB, where the vendor speaks it
    httpcore, a list of idle ones       5.1, 2.9; 159 MB
    aiohttp                             2.6, 1.3; 131 MB

What aiohttp would do and we will not have: send a call again by itself when its
connection was lost, follow redirects, heed proxies, keep cookies, unpack answers.
"""

from __future__ import annotations

import io
import select
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import anyio
from yarl import URL

KEPT_S = 20.0  # an idle connection is closed then; many servers do so after 30 to 60
CONNECTIONS_MAX = 10_000  # of one service: more than a worker has items
READ_BYTES = 64 << 10
UNQUIET_MAX = 8  # connections tried for one call; arbitrary
TURNS = 3  # of the loop, until it has read what waits in a socket


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
        self._client = aiohttp.ClientSession(
            connector=_Connector(
                limit=CONNECTIONS_MAX, ssl=verify, keepalive_timeout=KEPT_S
            ),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            middlewares=(_once,),
            read_bufsize=READ_BYTES,
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.close()

    @asynccontextmanager
    async def exchange(self, asked: Asked) -> AsyncIterator[Heard]:
        """
        Send it, once; what is left unread when the block ends costs the connection.

        Raises:
            Unreached, Lost, Misspoken: none of them quotes what was sent.
        """
        secure = asked.url.startswith("https:")
        try:
            response = await self._client.request(
                asked.method,
                URL(asked.url, encoded=True),
                # Not as bytes: a large body would hold up the loop as one piece.
                data=io.BytesIO(asked.body) if asked.body else None,
                headers=asked.headers,
                skip_auto_headers=("content-type", "user-agent", "accept"),
                allow_redirects=False,
                server_hostname=asked.name if secure else None,
                # The whole has a bound of its own, around us.
                timeout=aiohttp.ClientTimeout(None, sock_connect=asked.connect_s),
            )
        except _FAILURES as error:
            raise _plain(error) from None
        try:
            yield Heard(response.status, _small(response), _pieces(response))
        finally:
            if response.content.at_eof():
                response.release()
            else:
                response.close()


async def _pieces(response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
    try:
        while piece := await response.content.readany():
            yield piece
    except _FAILURES as error:
        raise _plain(error) from None


def _small(response: aiohttp.ClientResponse) -> dict[str, str]:
    small: dict[str, str] = {}
    for name, value in response.headers.items():
        small.setdefault(name.lower(), value)
    return small


class _Connector(aiohttp.TCPConnector):
    """
    A connection is used when nothing came on it that nobody asked for.

    A second answer to the last call would be taken for the answer to the next one.
    """

    async def connect(self, *given: Any, **named: Any) -> aiohttp.connector.Connection:
        for _ in range(UNQUIET_MAX):
            connection = await super().connect(*given, **named)
            if await _is_quiet(connection):
                return connection
            connection.close()
        raise Misspoken("it speaks before it is asked")


async def _is_quiet(connection: aiohttp.connector.Connection) -> bool:
    try:
        # What waits is heard first: it may be a message of TLS itself.
        for _ in range(TURNS):
            if not _waits(connection):
                break
            await anyio.lowlevel.checkpoint()
    except BaseException:
        connection.close()
        raise
    protocol = connection.protocol
    return (
        protocol is not None and protocol.is_connected() and not protocol.should_close
    )


def _waits(connection: aiohttp.connector.Connection) -> bool:
    """Whether bytes, or the end, wait in the socket."""
    transport = connection.transport
    end = None if transport is None else transport.get_extra_info("socket")
    if end is None or end.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(end.fileno(), select.POLLIN)
    return bool(poll.poll(0))


async def _once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """aiohttp repeats what it takes for idempotent when a connection was lost."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _plain(error) from None


_FAILURES = (aiohttp.ClientError, OSError, TimeoutError)


def _plain(error: Exception) -> Exception:
    # Their texts may quote what was sent, or an address: only kinds are told.
    kind = type(error).__name__
    match error:
        case aiohttp.ConnectionTimeoutError():
            return Unreached("timeout")
        case aiohttp.ClientConnectorError():
            return Unreached(kind, error.os_error)
        case aiohttp.ClientResponseError():
            return Misspoken(kind)
        case _:
            return Lost(kind)
