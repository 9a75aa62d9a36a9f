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

from pipeline.errors import Refused, StoreUnavailable, Usage, WaybillError

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
# InternalClientError: a process that was stopped for longer than its timeouts finds
# the driver's own state in disorder when it goes on; the connection is terminated.
_AWAY = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)

BUDGET_S = 10.0  # of one transaction; statements are cut by the server at 8 s


class Database:
    """
    A small pool of connections to one database.

    The pool is small on purpose: a process needs one connection for claims, two
    for the journal, one for its lease and one or two for people.
    """

    def __init__(self, url: str, *, size: int = 6) -> None:
        self._url = url
        self._size = size
        self._pool: asyncpg.Pool | None = None

    def __repr__(self) -> str:
        return f"<Database pool={self._pool.get_size() if self._pool else 0}>"

    async def open(self) -> None:
        """
        Connect once, to say early when the database cannot be had.

        Raises:
            StoreUnavailable: with the server's reason, never the URL's password.
        """
        try:
            self._pool = await asyncpg.create_pool(
                self._url,
                min_size=1,
                max_size=self._size,
                timeout=5,
                command_timeout=BUDGET_S,
                max_inactive_connection_lifetime=60,
                server_settings={
                    "application_name": "waybill",
                    "statement_timeout": "8000",
                    "lock_timeout": "4000",
                    "idle_in_transaction_session_timeout": "15000",
                    "client_connection_check_interval": "2000",
                    "jit": "off",  # short statements: compiling them costs more
                    # The hot tables are in memory.  At the default of 4 a claim of 500
                    # read a backlog of 50,000 from end to end, twice.
                    "random_page_cost": "1.1",
                },
            )
        except ValueError:
            # Its message may quote a piece of the password.
            raise Usage(
                "WAYBILL_DATABASE_URL is no URL of a PostgreSQL",
                hint="postgresql://USER:PASSWORD@HOST:PORT/DATABASE; what is not "
                "a-z, A-Z or 0-9 in a password is written as %XX",
            ) from None
        except _AWAY as error:
            raise StoreUnavailable(
                f"the database cannot be reached ({type(error).__name__})",
                hint="is PostgreSQL up, and WAYBILL_DATABASE_URL right?",
            ) from None

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
                    transaction = (
                        con.transaction(isolation="repeatable_read", readonly=True)
                        if snapshot
                        else con.transaction()
                    )
                    await transaction.start()
                    result = await work(con)
                    committing = True
                    await transaction.commit()
                    return result
                except (WaybillError, *_AGAIN, *_REFUSED):
                    # The server is sound and at most wants a ROLLBACK.
                    if not committing and con.is_in_transaction():
                        await transaction.rollback()
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
        except _AWAY as error:
            raise StoreUnavailable(
                f"the database did not answer ({type(error).__name__})",
                in_doubt=committing,
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
        """Like `tx` for a single statement, which the server commits by itself."""
        try:
            with anyio.fail_after(BUDGET_S, shield=True):
                con = await self._acquire(BUDGET_S)
                try:
                    return await work(con)
                except (*_AGAIN, *_REFUSED):
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
        except _AWAY as error:
            raise StoreUnavailable(
                f"the database did not answer ({type(error).__name__})", in_doubt=True
            ) from None

    async def _acquire(self, budget_s: float) -> Connection:
        if self._pool is None:
            await self.open()
        assert self._pool is not None
        return await self._pool.acquire(timeout=budget_s)

    async def _release(self, con: Connection) -> None:
        if self._pool is not None:
            await self._pool.release(con, timeout=2)


class Topic:
    """One topic of the store: its statements, over one database."""

    def __init__(self, database: Database) -> None:
        self._db = database
