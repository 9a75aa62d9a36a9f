"""
The PostgreSQL store: everything the port asks, and the reports, over one pool.

Every statement is put together from literals; values are its parameters.
"""

from __future__ import annotations

from types import TracebackType

from pipeline.store.database import CONNECTIONS, Database
from pipeline.store.postgres.admission import PostgresAdmission
from pipeline.store.postgres.breakers import PostgresBreakers
from pipeline.store.postgres.budgets import PostgresBudgets
from pipeline.store.postgres.calls import PostgresCalls
from pipeline.store.postgres.cancels import PostgresCancels
from pipeline.store.postgres.claims import PostgresClaims
from pipeline.store.postgres.commits import PostgresCommits
from pipeline.store.postgres.counts import PostgresCounts
from pipeline.store.postgres.deadlines import PostgresDeadlines
from pipeline.store.postgres.effects import PostgresEffects
from pipeline.store.postgres.holds import PostgresHolds
from pipeline.store.postgres.items import PostgresItems
from pipeline.store.postgres.limits import PostgresLimits
from pipeline.store.postgres.moderated import PostgresModerated
from pipeline.store.postgres.paces import PostgresPaces
from pipeline.store.postgres.purses import PostgresPurses
from pipeline.store.postgres.reports import PostgresReports
from pipeline.store.postgres.results import PostgresResults
from pipeline.store.postgres.sessions import PostgresSessions
from pipeline.store.postgres.signals import PostgresSignals
from pipeline.store.postgres.trees import PostgresTrees
from pipeline.store.postgres.trials import PostgresTrials


class PostgresStore(
    PostgresSessions,
    PostgresClaims,
    PostgresCommits,
    PostgresCalls,
    PostgresBudgets,
    PostgresAdmission,
    PostgresDeadlines,
    PostgresEffects,
    PostgresHolds,
    PostgresCancels,
    PostgresBreakers,
    PostgresLimits,
    PostgresCounts,
    PostgresItems,
    PostgresModerated,
    PostgresPaces,
    PostgresPurses,
    PostgresReports,
    PostgresResults,
    PostgresSignals,
    PostgresTrees,
    PostgresTrials,
):
    """
    Everything durable, in one PostgreSQL database.

    Use it as an async context manager; entering connects once, and raises
    `StoreUnavailable` when that fails.
    """

    def __init__(self, url: str, *, pool: int = CONNECTIONS) -> None:
        self.database = Database(url, size=pool)
        super().__init__(self.database)

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
