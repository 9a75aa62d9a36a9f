"""
The only way to reach PostgreSQL: one pool, one transaction shape, one mapping
of the driver's errors to ours.

A transaction runs shielded under its own budget: a deadline that hits a thousand
tasks must not cut a thousand queries (each cut query opens a connection to send
the cancel, and leaves its transaction open behind the task group).  Whatever
goes wrong other than a clean refusal by the server terminates the connection: an
uncertain session is never reused, and a COMMIT is never cancelled.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import asyncpg

from pipeline.errors import Refused, StoreUnavailable, WaybillError
from pipeline.store.connection import AWAY, FAILURES, Line

T = TypeVar("T")
if TYPE_CHECKING:
    Connection = asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
else:
    Connection = asyncpg.pool.PoolConnectionProxy  # generic in its stubs alone

# The server rolled back by itself and the session is sound: try again.
_AGAIN = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
    asyncpg.InvalidCachedStatementError,
)
# The server looked at our rows and said no.
_REFUSED = (
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.DataError,
    asyncpg.PostgresSyntaxError,
    asyncpg.ProgramLimitExceededError,
)
CONNECTIONS = 5  # at most, of one process; docs/operations.md counts with it
SNAPSHOT = "set transaction isolation level repeatable read, read only"
BUDGET_S = 10.0  # of one transaction; statements are cut by the server at 8 s


class Database:
    """
    A small pool of connections to one database.

    Small on purpose: a worker needs one for claims, two for the journal, one for its
    lease and one to look for dead neighbours; a command one.
    """

    def __init__(self, url: str, *, size: int = CONNECTIONS) -> None:
        self._line = Line(url)
        self._size = size
        self._pool: asyncpg.Pool | None = None

    def __repr__(self) -> str:
        return f"<Database pool={self._pool.get_size() if self._pool else 0}>"

    async def open(self) -> None:
        """
        Connect once, to say early when the database cannot be had.

        Raises:
            StoreUnavailable: with the reason, and nothing of the URL.
            Usage: the URL is none.
        """
        try:
            self._pool = await asyncpg.create_pool(
                min_size=1,
                max_size=self._size,
                command_timeout=BUDGET_S,
                max_inactive_connection_lifetime=60,
                connect=self._line.connect,
                reset=_nothing,
            )
        except FAILURES as error:
            raise self._line.unreachable(error) from None

    async def close(self) -> None:
        """Close the pool; what hangs is terminated after two seconds."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        with anyio.move_on_after(2, shield=True):
            await pool.close()
            return
        pool.terminate()

    async def tx(
        self,
        work: Callable[[Connection], Awaitable[T]],
        *,
        budget_s: float = BUDGET_S,
        snapshot: bool = False,
    ) -> T:
        """
        Run `work` in one READ COMMITTED transaction and return its result; in one
        that reads a single `snapshot` and writes nothing, when it is asked for.

        Raises:
            StoreUnavailable: the database did not answer; `in_doubt` when the
                failure came during COMMIT.
            Refused: a constraint or a value was refused; nothing was written.
            WaybillError: whatever `work` raised itself; nothing was written.
        """
        committing = False
        try:
            with anyio.fail_after(budget_s, shield=True):
                con = await self._acquire(min(budget_s, BUDGET_S))
                try:
                    begin = self._line.begin
                    await con.execute(f"{begin}; {SNAPSHOT}" if snapshot else begin)
                    result = await work(con)
                    committing = True
                    await con.execute("COMMIT")
                    return result
                except (WaybillError, *_AGAIN, *_REFUSED):
                    # The server is sound and at most wants a ROLLBACK.
                    if not committing and con.is_in_transaction():
                        await con.execute("ROLLBACK")
                    raise
                except BaseException:
                    con.terminate()
                    raise
                finally:
                    await self._release(con)
        except WaybillError:
            raise
        except _REFUSED as error:
            raise Refused(
                f"the database refused the rows ({type(error).__name__}: "
                f"{getattr(error, 'constraint_name', None) or error.sqlstate})"
            ) from None
        except _AGAIN as error:
            raise StoreUnavailable(
                f"the database asks to try again ({type(error).__name__})"
            ) from None
        except AWAY as error:
            raise self._line.said(
                error, otherwise="the database did not answer", in_doubt=committing
            ) from None

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        """One statement in a transaction of its own; its rows."""

        async def run(con: Connection) -> list[asyncpg.Record]:
            return await con.fetch(sql, *args)

        return await self.single(run)

    async def fetchval(self, sql: str, *args: Any) -> Any:
        """One statement; its first value, or None."""

        async def run(con: Connection) -> Any:
            return await con.fetchval(sql, *args)

        return await self.single(run)

    async def single(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Like `tx` for a single statement; straight, the server commits by itself."""
        try:
            with anyio.fail_after(BUDGET_S, shield=True):
                con = await self._acquire(BUDGET_S)
                try:
                    if not self._line.pooled:
                        return await work(con)
                    # The driver prepares, then asks: both must meet one session.
                    await con.execute(self._line.begin)
                    result = await work(con)
                    await con.execute("COMMIT")
                    return result
                except (*_AGAIN, *_REFUSED):
                    if con.is_in_transaction():
                        await con.execute("ROLLBACK")
                    raise
                except BaseException:
                    con.terminate()
                    raise
                finally:
                    await self._release(con)
        except _REFUSED as error:
            raise Refused(
                f"the database refused the rows ({type(error).__name__})"
            ) from None
        except AWAY as error:
            raise self._line.said(
                error, otherwise="the database did not answer", in_doubt=True
            ) from None

    async def _acquire(self, budget_s: float) -> Connection:
        if self._pool is None:
            await self.open()
        assert self._pool is not None
        return await self._pool.acquire(timeout=budget_s)

    async def _release(self, con: Connection) -> None:
        if self._pool is not None:
            await self._pool.release(con, timeout=2)


async def _nothing(_: asyncpg.Connection[asyncpg.Record]) -> None:
    """No session is left in a state of ours: a round trip saved in each transaction."""


class Topic:
    """One topic of the store: its statements, over one database."""

    def __init__(self, database: Database) -> None:
        self._db = database
