"""
Items without documents: admitted straight into the database, as a sender with a
connection of its own would.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import NamedTuple

from loadtest.driver.stand import Stand
from pipeline.artifacts.files import FileArtifacts
from pipeline.folder import Builtin, Catalogue
from pipeline.model import Submission
from pipeline.store.postgres import PostgresStore
from stages.document import Document

SLICE = 500  # rows of one transaction


class Row(NamedTuple):
    """One of them; `data` is what makes it another one."""

    name: str
    data: bytes


class Rows:
    """Admits rows into the pipeline of a run."""

    def __init__(self, store: PostgresStore, pipeline_id: int) -> None:
        self._store = store
        self._pipeline_id = pipeline_id

    async def admit(
        self, rows: Sequence[Row], *, tenant: str, batch: str, deadline_s: float
    ) -> None:
        """All of them, acknowledged when this returns."""
        into = await self._store.open_batch(tenant, batch, deadline_s=deadline_s)
        for at in range(0, len(rows), SLICE):
            keys = [
                (one.name, sha256(one.data).hexdigest())
                for one in rows[at : at + SLICE]
            ]
            await self._store.admit(
                into,
                self._pipeline_id,
                [Submission(name, key, key, 1, {}) for name, key in keys],
            )


@asynccontextmanager
async def admitting(it: Stand) -> AsyncIterator[Rows]:
    """Publish the run's pipeline, and admit into it while the block lasts."""
    async with PostgresStore(it.server.app_url) as store:
        artifacts = FileArtifacts(it.home / "objects")
        known = Builtin({}, Document)
        catalogue = Catalogue(artifacts, it.home / "pipelines", known)
        number, _ = await catalogue.publish(it.pipelines / it.pipeline, store)
        yield Rows(store, number)
