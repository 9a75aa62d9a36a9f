"""HTTP of callbacks: bounded in bytes, time and number, whatever comes in."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest
from anyio.abc import ByteStream

from ingest.http.server import Request, Response, Server

MAX = 1000


class Wire(ByteStream):
    """A peer that sends these parts, so far apart, and what it was answered."""

    def __init__(self, *parts: bytes, every_s: float = 0.0, stays: bool = True) -> None:
        self.parts = list(parts)
        self.every_s = every_s
        self.stays = stays
        self.sent = b""
        self.ended = self.closed = False

    async def receive(self, max_bytes: int = 65536) -> bytes:
        await anyio.sleep(self.every_s)
        if self.parts:
            return self.parts.pop(0)
        if self.stays and not self.ended:
            await anyio.sleep(10_000)
        raise anyio.EndOfStream

    async def send(self, item: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        self.sent += item

    async def send_eof(self) -> None:
        self.ended = True

    async def aclose(self) -> None:
        self.closed = True


class House:
    """A server, and what reached its handler."""

    def __init__(self, **bounds: float) -> None:
        self.seen: list[Request] = []
        self.took_s = 0.0
        self.server = Server(self.handle, bytes_max=MAX, **bounds)  # type: ignore[arg-type]

    async def handle(self, request: Request) -> Response:
        self.seen.append(request)
        await anyio.sleep(self.took_s)
        if request.body == b"bug":
            raise KeyError("secret")
        return Response(200, {"taken": "now"}, 0)

    async def status(self, wire: Wire) -> int:
        """What the peer was answered; 0: nothing."""
        await self.server._stay(wire)
        assert wire.closed
        return int(wire.sent.split(b" ", 2)[1]) if wire.sent else 0


def request(body: bytes = b"1", *more: str, first: str = "POST /a HTTP/1.1") -> bytes:
    lines = [first, "Host: x", *(more or [f"Content-Length: {len(body)}"]), "", ""]
    return "\r\n".join(lines).encode() + body


def pieces(data: bytes, size: int) -> Sequence[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


async def test_a_request_is_answered_and_the_line_closed() -> None:
    """However it is cut."""
    for size in (1, 7, 1000):
        house = House()
        wire = Wire(*pieces(request(b"hello", "Content-Length: 5", "X-A: b"), size))
        assert await house.status(wire) == 200
        [seen] = house.seen
        assert seen[:2] == ("POST", "/a")
        assert seen.headers["x-a"] == "b"
        assert seen.body == b"hello"
        assert b"connection: close" in wire.sent.lower()
        assert wire.sent.endswith(b'{"taken": "now"}')


async def test_chunks_and_a_hundred() -> None:
    """A body without a length; one that waits to be asked for."""
    house = House()
    chunked = request(b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", "Transfer-Encoding: chunked")
    assert await house.status(Wire(chunked)) == 200
    head = request(b"", "Content-Length: 1", "Expect: 100-continue")
    asked = Wire(head, b"x")
    await house.server._stay(asked)
    assert asked.sent.startswith(b"HTTP/1.1 100")
    assert b"HTTP/1.1 200" in asked.sent
    assert [seen.body for seen in house.seen] == [b"abc", b"x"]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request(b"x" * (MAX + 1)), 413),
        (request(b"", "Content-Length: 99999999999"), 413),
        (request(b"400\r\n" + b"x" * 1024, "Transfer-Encoding: chunked"), 413),
        (request(b"", "Content-Length: -1"), 400),
        (request(b"", "Content-Length: 1", "Content-Length: 2"), 400),
        (b"\x16\x03\x01\x02\x00", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET /" + b"a" * 20_000, 431),
        (request(b"", "X: " + "a" * 40_000), 431),
    ],
)
async def test_what_is_too_much_or_no_http(sent: bytes, status: int) -> None:
    """Nobody's handler sees it."""
    house = House()

    assert await house.status(Wire(*pieces(sent, 4096))) == status

    assert house.seen == []


@pytest.mark.parametrize(
    "sent", [b"", b"POST /a HT", request(b"12", "Content-Length: 9")]
)
async def test_who_hangs_up_is_let_go(sent: bytes) -> None:
    """In the middle of a request, or before it."""
    house = House()

    await house.server._stay(Wire(sent, stays=False))

    assert house.seen == []
    assert "open=-1" in repr(house.server)  # counted where it was accepted


async def test_a_slow_peer_is_told_so_in_time() -> None:
    """Also one that sends a byte now and then."""
    house = House()
    began = anyio.current_time()

    slow = await house.status(Wire(*pieces(request(), 1), every_s=1))
    silent = await house.status(Wire())

    assert (slow, silent) == (408, 408)
    assert anyio.current_time() - began < 25
    assert house.seen == []


async def test_a_handler_that_hangs_or_fails_ends_its_own_line() -> None:
    """Nothing of what it raised is said or logged."""
    house = House()
    house.took_s = 1000
    began = anyio.current_time()
    assert await house.status(Wire(request())) == 0
    assert anyio.current_time() - began < 35
    house.took_s = 0

    assert await house.status(Wire(request(b"bug"))) == 0
    assert await house.status(Wire(request())) == 200


class Listener:
    """Hands out connections, and fails now and then."""

    def __init__(self, *wires: Wire | OSError) -> None:
        self.wires = list(wires)

    async def accept(self) -> Wire:
        await anyio.sleep(0.01)
        if not self.wires:
            await anyio.sleep(10_000)
        found = self.wires.pop(0)
        if isinstance(found, OSError):
            raise found
        return found

    async def __aenter__(self) -> Listener:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None


async def test_slow_peers_make_room_for_who_comes() -> None:
    """More of them than places: whoever is quick is answered at once."""
    house = House(connections=10)
    slow = [Wire(*pieces(request(), 1), every_s=1) for _ in range(50)]
    quick = Wire(request())
    lack = OSError(24, "Too many open files")
    listener = Listener(*slow, lack, quick)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(house.server.serve, listener)
        await anyio.sleep(2)
        assert quick.sent.startswith(b"HTTP/1.1 200")
        assert sum(wire.closed for wire in slow) == 41
        await anyio.sleep(20)
        assert all(wire.closed for wire in slow)
        assert "open=0" in repr(house.server)
        tasks.cancel_scope.cancel()
