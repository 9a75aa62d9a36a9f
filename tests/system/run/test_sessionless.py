"""A worker process that comes to no session, while the database answers."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import anyio
import asyncpg
import pytest
from structlog.testing import capture_logs

from pipeline.run.spare import Spares
from pipeline.run.supervisor import Supervisor
from pipeline.store.postgres import PostgresStore
from tests.system.command import Home, alive, eventually, pictures

SESSIONLESS_S = 8.0  # a start, on a busy machine, is shorter


@pytest.mark.proof
def test_it_is_replaced_and_its_successor_works(home: Home, tmp_path: Path) -> None:
    """Its session's row cannot be written, while everything can be read."""
    folder = home.pipeline("plain", act="return Advance()")
    home.ok("ingest", *pictures(tmp_path, ["a.png"]), "--pipeline", folder)

    with capture_logs() as logs:
        anyio.run(supervised, home, logs)

    said = [line for line in logs if line["event"] == "worker_sessionless"]
    started = [line["pid"] for line in logs if line["event"] == "worker_started"]
    assert home.ends() == {"done": 1}
    assert said[0]["pid"] == started[0]
    assert eventually(lambda: not alive(started), within_s=10)


async def supervised(home: Home, logs: list[dict[str, object]]) -> None:
    """A fleet of one; sessions can be opened when one was replaced for want of it."""
    command = [sys.executable, "-m", "waybill", "work"]
    added = {k: v for k, v in home.environment.items() if os.environ.get(k) != v}
    owner = await asyncpg.connect(home.environment["WAYBILL_OWNER_URL"])
    async with PostgresStore(home.environment["WAYBILL_DATABASE_URL"]) as store:
        fleet = Supervisor(
            1, Spares(command, added), store, 3.0, sessionless_s=SESSIONLESS_S
        )
        async with anyio.create_task_group() as tasks:
            try:
                async with owner.transaction():
                    await owner.execute("lock table waybill.workers in share mode")
                    tasks.start_soon(fleet.run)
                    with anyio.fail_after(60):
                        while "worker_sessionless" not in {x["event"] for x in logs}:  # noqa: ASYNC110
                            await anyio.sleep(0.2)
                with anyio.fail_after(60):
                    while (await store.counts()).live:  # noqa: ASYNC110
                        await anyio.sleep(0.2)
            finally:
                tasks.cancel_scope.cancel()
                await owner.close(timeout=5)
