"""The PostgreSQL store: `WorkStore`, `Desk` and the reports, over one pool."""

from __future__ import annotations

from types import TracebackType

from pipeline.store.database import Database
from pipeline.store.postgres.claims import PostgresWork
from pipeline.store.postgres.holds import PostgresDesk
from pipeline.store.postgres.reports import PostgresReads


class PostgresStore(PostgresWork, PostgresDesk, PostgresReads):
    """
    Everything durable, in one PostgreSQL database.

    Use it as an async context manager; entering connects once, and raises
    `StoreUnavailable` when that fails.
    """

    def __init__(self, url: str, *, pool: int = 6) -> None:
        self.database = Database(url, size=pool)
        PostgresWork.__init__(self, self.database)
        PostgresDesk.__init__(self, self.database)
        PostgresReads.__init__(self, self.database)

    def __repr__(self) -> str:
        return f"<PostgresStore {self.database!r}>"

    async def __aenter__(self) -> PostgresStore:
        await self.database.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.database.close()
