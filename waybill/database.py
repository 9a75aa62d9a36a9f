"""
Where the database is: the embedded server, or one of your own; and the store in it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from pipeline.errors import StoreUnavailable
from pipeline.store import embedded
from pipeline.store.database import CONNECTIONS
from pipeline.store.migrate import available, migrate
from pipeline.store.postgres import PostgresStore
from waybill.settings import Settings


@dataclass(frozen=True)
class Urls:
    """
    Where the database is.

    Attributes:
        service: As the service's role.
        owner: As its owner, of the embedded server; "" of a server of your own.
    """

    service: str = field(repr=False)
    owner: str = field(repr=False, default="")

    @property
    def embedded(self) -> bool:
        """Whether the server is ours."""
        return self.owner != ""


def database(settings: Settings, *, wait_s: float = embedded.START_S) -> Urls:
    """
    The database's URLs; starts the embedded server when none is configured, and
    waits so long for it.

    Blocks for about a second on first use, so call it before the event loop.
    """
    url = settings.database_url.get_secret_value()
    if url:
        return Urls(url)
    server = embedded.start(settings.home / "postgres", wait_s=wait_s)
    embedded.watch(settings.home / "postgres")
    return Urls(server.app_url, server.owner_url)


def owner(settings: Settings) -> tuple[str, str]:
    """
    The URL that migrates, and the variable it comes from.

    The owner's own, else the service's, else that of the embedded server.
    """
    for variable, secret in (
        ("WAYBILL_OWNER_URL", settings.owner_url),
        ("WAYBILL_DATABASE_URL", settings.database_url),
    ):
        if url := secret.get_secret_value():
            return url, variable
    return database(settings).owner, "WAYBILL_HOME"


@asynccontextmanager
async def open_store(
    urls: Urls, connections: int = CONNECTIONS
) -> AsyncIterator[PostgresStore]:
    """
    The store, migrated (embedded) or checked (your own server).

    Args:
        connections: At most, at the same time.

    Raises:
        StoreUnavailable: it cannot be reached, or its schema is older than this
            version; the hint says what to run.
    """
    if urls.embedded:
        await migrate(urls.owner)
    async with PostgresStore(urls.service, pool=connections) as store:
        there, wanted = await store.schema_version(), available()[-1].number
        if there < wanted:
            raise StoreUnavailable(
                f"the database's schema is at {there:04d}, this version needs "
                f"{wanted:04d}",
                hint="run `waybill db migrate`",
            )
        yield store
