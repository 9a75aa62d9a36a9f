"""The bad network: what comes through, and what does not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.abc import ByteStream, SocketAttribute

from loadtest.driver.proxy import Proxy

pytestmark = pytest.mark.anyio
ANSWER_S = 60.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def between(folder: Path) -> AsyncIterator[tuple[Proxy, int, list[bytes]]]:
    """A server that says everything again, behind a proxy; what it heard."""
    heard: list[bytes] = []

    async def serve(stream: ByteStream) -> None:
        async with stream:
            async for piece in stream:
                heard.append(piece)
                await stream.send(piece)

    socket = folder / "server"
    proxy = Proxy(str(socket))
    async with (
        await anyio.create_unix_listener(socket) as server,
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(server.serve, serve)
        tasks.start_soon(listener.serve, proxy.serve)
        port = listener.extra(SocketAttribute.local_port)
        with anyio.fail_after(ANSWER_S):
            yield proxy, port, heard
            for _ in range(100):
                await anyio.sleep(0.02)  # what was closed is closed a turn later
                if not proxy.open:
                    break
        tasks.cancel_scope.cancel()


async def test_a_commit_goes_through_and_its_answer_does_not(tmp_path: Path) -> None:
    async with between(tmp_path) as (proxy, port, heard):
        async with await anyio.connect_tcp("127.0.0.1", port) as line:
            await line.send(b"insert")
            assert await line.receive() == b"insert"
            await proxy.steer({"way": "cut-commit"})
            await line.send(b"Q\0\0\0\x0bCOMMIT\0")
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await line.receive()
        assert heard[-1].endswith(b"COMMIT\0")
        assert proxy.cuts == 1

        async with await anyio.connect_tcp("127.0.0.1", port) as line:
            await line.send(b"Q\0\0\0\x0bCOMMIT\0")
            assert await line.receive() == b"Q\0\0\0\x0bCOMMIT\0"  # only one was


async def test_half_open_swallows_and_closes_afterwards(tmp_path: Path) -> None:
    async with between(tmp_path) as (proxy, port, heard):
        async with await anyio.connect_tcp("127.0.0.1", port) as line:
            await line.send(b"before")
            assert await line.receive() == b"before"
            await proxy.steer({"way": "half-open"})
            await line.send(b"nobody hears it")
            with anyio.move_on_after(0.1) as silent:
                await line.receive()
            assert silent.cancelled_caught
            await proxy.steer({"way": "pass"})
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await line.receive()
        assert heard == [b"before"]


async def test_a_server_that_is_away_is_a_closed_connection(tmp_path: Path) -> None:
    async with between(tmp_path) as (proxy, port, _):
        await proxy.steer({"target": str(tmp_path / "nowhere")})
        async with await anyio.connect_tcp("127.0.0.1", port) as line:
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await line.receive()
