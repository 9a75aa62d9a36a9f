"""
One server a session, one database for nearly all tests, emptied before each.

`WAYBILL_TEST_DATABASE_URL`, an owner's URL, names a server of one's own instead of
the embedded one; it needs the right to create databases and roles.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import asyncpg
import pytest

from pipeline.store import embedded
from pipeline.store.migrate import APP_ROLE, migrate
from pipeline.store.postgres import PostgresStore
from tests.store.world import Lawful, ServerClock, StillMemory, World, clock_sql

TABLES = (
    *("decisions", "holds", "receipts", "ready", "running", "waiting", "joining"),
    *("outcomes", "open_children", "checkpoints", "attempts", "cancels", "audit"),
    *("workers", "progress", "products", "breakers", "limits", "signals", "effects"),
    *("calls", "budgets", "budget_waits", "purses", "purse_holdings"),
    *("items", "batches", "pipelines", "tenants"),  # late: others refer to them
    *("tallies", "tally_changes"),  # last: triggers write here what was deleted
)

CLOCK = "select prosrc from pg_proc where oid = 'waybill.clock()'::regprocedure"
ENDED = (
    asyncpg.AdminShutdownError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    OSError,
)
EMPTY = ";".join(f"delete from waybill.{table}" for table in TABLES)


class Urls(NamedTuple):
    """One database, as its owner and as the service."""

    owner: str
    app: str


class Server:
    """A PostgreSQL server on which tests make databases."""

    def __init__(self, owner_url: str, app_url: str) -> None:
        self._owner_url = owner_url
        self._app_url = app_url
        self._numbers = count(1)

    def make(self, how: str = "") -> Urls:
        """A new, empty database; `how` as in `create database`."""
        name = f"waybill_test_{os.getpid()}_{next(self._numbers)}"
        run(self._admin(f'create database "{name}" {how}'))
        return Urls(*(_named(url, name) for url in (self._owner_url, self._app_url)))

    def drop(self, urls: Urls) -> None:
        """Delete a database that `make` made."""
        name = urlsplit(urls.owner).path[1:]
        run(self._admin(f'drop database "{name}" with (force)'))

    async def _admin(self, sql: str) -> None:
        con = await asyncpg.connect(self._owner_url)
        try:
            await con.execute(sql)
        finally:
            await con.close()


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine outside of any test's loop."""
    with asyncio.Runner() as runner:
        return runner.run(work)


def _named(url: str, database: str) -> str:
    return urlsplit(url)._replace(path=f"/{database}").geturl()


async def _role(owner_url: str) -> None:
    con = await asyncpg.connect(owner_url)
    try:
        await con.execute(f"create role {APP_ROLE} login")
    except asyncpg.DuplicateObjectError:
        return
    finally:
        await con.close()


async def _hurry(owner_url: str) -> None:
    """No test pulls the plug of this server: it need not wait for the disk."""
    con = await asyncpg.connect(owner_url)
    try:
        await con.execute("alter system set fsync = off")
        await con.execute("select pg_reload_conf()")
    finally:
        await con.close()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The embedded server, or the one of WAYBILL_TEST_DATABASE_URL."""
    owner = os.environ.get("WAYBILL_TEST_DATABASE_URL")
    if owner:
        run(_role(owner))
        # Acts as the service's role from the first statement on, without its
        # password.
        joint = "&" if urlsplit(owner).query else "?"
        yield Server(owner, f"{owner}{joint}options={quote(f'-c role={APP_ROLE}')}")
        return
    with TemporaryDirectory(prefix="waybill-") as home:
        urls = embedded.start(Path(home) / "postgres")
        run(_hurry(urls.owner_url))
        yield Server(*urls)
        embedded.stop(Path(home) / "postgres")


@pytest.fixture
def empty_database(server: Server) -> Iterator[Urls]:
    """A database without Waybill's schema, for one test."""
    urls = server.make()
    yield urls
    server.drop(urls)


@pytest.fixture(scope="session")
def shared(server: Server) -> Iterator[Urls]:
    """A migrated database that tests empty before they use it."""
    urls = server.make()
    run(migrate(urls.owner))
    yield urls
    server.drop(urls)


@pytest.fixture(scope="session")
def emptying(shared: Urls) -> Iterator[Callable[[], None]]:
    """
    Empties the shared database, by a connection that stays.

    A new session of the server learns anew of every table and of its triggers.
    """
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        con = runner.run(asyncpg.connect(shared.owner))

        async def empty() -> None:
            nonlocal con
            try:
                await con.execute(EMPTY)
            except ENDED:  # a test ended every session there was
                con.terminate()
                con = await asyncpg.connect(shared.owner)
                await con.execute(EMPTY)
            # A function that is replaced has every session plan its statements anew.
            if await con.fetchval(CLOCK) not in clock_sql(0):
                await con.execute(clock_sql(0))

        yield lambda: runner.run(empty())
        runner.run(con.close())


@pytest.fixture
def emptied(shared: Urls, emptying: Callable[[], None]) -> Urls:
    """The shared database; no rows, and a clock that tells the time."""
    emptying()
    return shared


@pytest.fixture
async def owner(emptied: Urls) -> AsyncIterator[asyncpg.Connection]:
    """The shared database's owner."""
    con = await asyncpg.connect(emptied.owner)
    yield con
    await con.close()


@pytest.fixture
async def postgres(emptied: Urls) -> AsyncIterator[World]:
    """A world on PostgreSQL, audited after every call."""
    clock = ServerClock(emptied.owner)
    async with PostgresStore(emptied.app) as store:
        yield await World(Lawful(store), clock).open()
    await clock.close()


@pytest.fixture
async def memory() -> World:
    """A world in memory, audited after every call."""
    store = StillMemory()
    return await World(Lawful(store), store).open()


@pytest.fixture(params=["memory", "postgres"])
def world(request: pytest.FixtureRequest) -> World:
    """The same tests on both stores."""
    return request.getfixturevalue(request.param)
