"""A server that says exactly these bytes, and keeps what it was asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
from anyio.abc import SocketAttribute, SocketStream

from pipeline.vendors.declared import VendorSpec

JSON = b"content-type: application/json\r\n"


def whole(body: bytes, *, status: str = "200 OK", more: bytes = JSON) -> bytes:
    """An answer with its length."""
    return b"HTTP/1.1 %s\r\n%scontent-length: %d\r\n\r\n%s" % (
        status.encode(),
        more,
        len(body),
        body,
    )


@dataclass
class Wires:
    """
    What was heard.

    Attributes:
        connections: Requests of each connection, head and body.
        late: Said on a connection a while after its answer.
    """

    port: int
    says: Iterator[bytes]
    late: bytes = b""
    hangs_up: bool = False
    connections: list[list[bytes]] = field(default_factory=list)

    @property
    def asked(self) -> list[bytes]:
        """All requests."""
        return [request for each in self.connections for request in each]

    def spec(self, **more: object) -> VendorSpec:
        """Declares this server."""
        return VendorSpec.model_validate(
            {
                "name": "crm",
                "url": f"http://127.0.0.1:{self.port}/base",
                "inside": True,
                **more,
            }
        )

    async def serve(self, stream: SocketStream) -> None:
        mine: list[bytes] = []
        self.connections.append(mine)
        heard = b""
        async with stream:
            try:
                while True:
                    while not _complete(heard):
                        heard += await stream.receive()
                    mine.append(heard)
                    heard = b""
                    await stream.send(next(self.says))
                    if self.hangs_up:
                        return
                    if self.late:
                        await anyio.sleep(0.02)
                        await stream.send(self.late)
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return


def _complete(heard: bytes) -> bool:
    head, end, body = heard.partition(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    return bool(end) and len(body) >= length


@asynccontextmanager
async def saying(
    *answers: bytes, late: bytes = b"", hangs_up: bool = False
) -> AsyncIterator[Wires]:
    """A server that gives these answers in turn, and then the last again."""

    def says() -> Iterator[bytes]:
        yield from answers
        while True:
            yield answers[-1]

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)
    wires = Wires(port, says(), late, hangs_up)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, wires.serve)
        yield wires
        tasks.cancel_scope.cancel()
    await listener.aclose()
