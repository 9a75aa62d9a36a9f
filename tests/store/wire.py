"""
A wire that can be cut: between a store and its server, at a chosen moment.

It listens on a unix socket of its own, so it stands before servers that do, too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from anyio.abc import ByteStream

SOCKET = ".s.PGSQL.5432"


class Wire:
    """Forwards bytes until `cut_after` was sent; its answer is then lost."""

    def __init__(self, server: Path) -> None:
        self._server = server
        self.cut_after: bytes | None = None
        self.cuts = 0

    @asynccontextmanager
    async def listen(self, folder: Path) -> AsyncIterator[Wire]:
        """Be the server of `folder`."""
        listener = await anyio.create_unix_listener(folder / SOCKET)
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, self._pass_on)
            yield self
            tasks.cancel_scope.cancel()

    async def _pass_on(self, client: ByteStream) -> None:
        lost = anyio.Event()
        server = await anyio.connect_unix(self._server / SOCKET)
        async with client, server, anyio.create_task_group() as tasks:
            tasks.start_soon(self._copy, client, server, lost, True)
            await self._copy(server, client, lost, False)
            tasks.cancel_scope.cancel()

    async def _copy(
        self, source: ByteStream, target: ByteStream, lost: anyio.Event, asking: bool
    ) -> None:
        try:
            while True:
                data = await source.receive()
                if asking and self.cut_after and self.cut_after in data:
                    self.cut_after = None
                    lost.set()
                if lost.is_set() and not asking:
                    # The server has answered, and so has done it: nobody hears.
                    self.cuts += 1
                    return
                await target.send(data)
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return
