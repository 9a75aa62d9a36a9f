"""
A bad network between the service and its database: a program of its own.

    python -m loadtest.driver.proxy SOCKET

It listens on a port of 127.0.0.1, which it prints, and hands everything to the unix
socket and back.  A line on stdin says how from now on:

    {"way": "pass"}
    {"way": "delay", "s": 0.05}     every piece, each way
    {"way": "cut"}                  all connections end now; new ones are let in
    {"way": "cut-commit"}           the next COMMIT goes through, its answer does not
    {"way": "half-open"}            everything is swallowed, nothing is closed
    {"target": "/…/.s.PGSQL.5432"}  where new connections lead

It ends with its stdin.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

import anyio
from anyio.abc import ByteStream, SocketAttribute

PIECE_BYTES = 1 << 16
COMMITS = (b"COMMIT\0", b"COMMIT;\0")  # as drivers send it
CLOSED = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)


@dataclass(eq=False)
class Line:
    """One connection; `spoilt` when something of it was swallowed."""

    client: ByteStream
    server: ByteStream | None = None
    spoilt: bool = False
    committing: bool = False  # its COMMIT went out, and the answer is not to come back

    async def close(self) -> None:
        """Both ends, at once."""
        for end in (self.client, self.server):
            if end is not None:
                await anyio.aclose_forcefully(end)


class Proxy:
    """Everything that stands between; `cuts` counts answers that were cut off."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._way = "pass"
        self._delay_s = 0.0
        self._armed = 0
        self._lines: set[Line] = set()
        self.cuts = 0

    @property
    def open(self) -> int:
        """Connections just now."""
        return len(self._lines)

    async def steer(self, order: dict[str, Any]) -> None:
        """Another way from now on."""
        self._target = order.get("target", self._target)
        way = order.get("way", self._way)
        self._delay_s = float(order.get("s", 0.05)) if way == "delay" else 0.0
        if way == "cut-commit":
            self._armed += 1
            way = "pass"
        for line in list(self._lines):
            if way == "cut" or (line.spoilt and way != "half-open"):
                await line.close()
        self._way = "pass" if way == "cut" else way

    async def serve(self, client: ByteStream) -> None:
        """One connection, until either end closes it."""
        line = Line(client)
        self._lines.add(line)
        try:
            if self._way != "half-open":
                line.server = await anyio.connect_unix(self._target)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._pump, line, True, tasks.cancel_scope)
                if line.server is not None:
                    tasks.start_soon(self._pump, line, False, tasks.cancel_scope)
        except OSError:
            pass  # the server is away: so is the connection
        finally:
            self._lines.discard(line)
            await line.close()

    async def _pump(self, line: Line, out: bool, scope: anyio.CancelScope) -> None:
        """One way of a connection: `out` is to the server."""
        source = line.client if out else line.server
        sink = line.server if out else line.client
        assert source is not None
        try:
            while True:
                piece = await source.receive(PIECE_BYTES)
                if self._way == "half-open" or sink is None:
                    line.spoilt = True
                    continue
                if self._delay_s:
                    await anyio.sleep(self._delay_s)
                if not out and line.committing:
                    self.cuts += 1
                    break
                if out and self._armed and any(word in piece for word in COMMITS):
                    self._armed -= 1
                    line.committing = True
                await sink.send(piece)
        except (*CLOSED, OSError):
            pass
        scope.cancel()


async def main(target: str) -> None:
    """Until stdin ends."""
    proxy = Proxy(target)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)  # noqa: S610  # of a socket
    print(json.dumps({"port": port}), flush=True)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, proxy.serve)
        async for line in anyio.wrap_file(sys.stdin):
            await proxy.steer(json.loads(line))
            print(json.dumps({"cuts": proxy.cuts}), flush=True)
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], backend_options={"use_uvloop": True})
