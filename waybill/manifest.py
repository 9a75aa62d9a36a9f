"""
The manifest: a row for each file that a batch received, beside what came of it.

Written from the database, whole and atomically, so that it has exactly one row a file
however often a worker died.  While the service is up its keeper writes that of each
batch in which something ended; a command that works in the foreground writes its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import anyio
import structlog

from pipeline.artifacts.durable import write_atomically
from pipeline.errors import WaybillError
from pipeline.store.rows import StandsRow
from pipeline.threads import in_thread
from waybill.compose import App
from waybill.results import columns, csv_lines, csv_values, results

log = structlog.get_logger()

FILE = "manifest.csv"
MARK = ".manifest"  # beside it: how the batch stood when it was read
LOOK_S = 2.0
SHARE = 0.1  # of its time that the keeper writes at most


async def write_manifest(app: App, batch_id: int) -> Path:
    """
    Write `manifest.csv` of a batch into its output folder; returns its path.

    Raises:
        Trouble: a full disk, a folder that cannot be written to.
    """
    # Before the rows: what changes while they are read is written again.
    stands = [row.stands for row in await app.store.stands([batch_id])]
    batch = await app.store.batch(batch_id)
    names = await columns(app, batch_id)
    lines = csv_lines([names])
    async for some in results(app, batch_id):
        lines += csv_lines(csv_values(result, names) for result in some)
    folder = out_folder(app, batch.tenant, batch.name)
    await in_thread(write_atomically, folder / FILE, lines.encode("utf-8"))
    await in_thread(write_atomically, folder / MARK, "".join(stands).encode())
    return folder / FILE


class ManifestKeeper:
    """Writes the manifests of batches in which something has ended."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._known: dict[int, str] = {}  # batch -> how it stood when it was written
        self._failed: dict[int, str] = {}  # and what keeps it from being written
        self._looked = False

    async def run(self) -> None:
        """Look and write, for ever; what cannot be done now is tried again."""
        while True:
            began = anyio.current_time()
            with suppress(WaybillError):  # the store is away: others say so
                await self.look()
            took_s = anyio.current_time() - began
            await anyio.sleep(max(LOOK_S, took_s * (1 - SHARE) / SHARE))

    async def look(self) -> list[int]:
        """
        Write what has changed since the last look; returns which batches.

        The first look leaves alone what stands as its manifest says, and a batch whose
        folder is not there any more: whoever it was for took it away.
        """
        rows = await self._app.store.stands()
        if not self._looked:
            self._looked = True
            as_written = await in_thread(self._as_written, rows)
            self._known |= {row.batch: row.stands for row in as_written}
        changed = [r for r in rows if self._known.get(r.batch) != r.stands]
        written = [row for row in changed if await self._write(row.batch)]
        self._known |= {row.batch: row.stands for row in written}
        return [row.batch for row in written]

    def _as_written(self, rows: Sequence[StandsRow]) -> list[StandsRow]:
        return [row for row in rows if self._mark(row) in (None, row.stands)]

    def _mark(self, row: StandsRow) -> str | None:
        """How a batch stood when its manifest was read; None without a folder."""
        folder = out_folder(self._app, row.tenant, row.name)
        if not folder.is_dir():
            return None
        try:
            return (folder / MARK).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    async def _write(self, batch_id: int) -> bool:
        """Whether it could be written; if not, it is tried again at the next look."""
        try:
            await write_manifest(self._app, batch_id)
        except WaybillError as error:
            if self._failed.get(batch_id) != error.code:
                self._failed[batch_id] = error.code
                log.warning("manifest_not_written", batch=batch_id, code=error.code)
            return False
        self._failed.pop(batch_id, None)
        return True


def out_folder(app: App, tenant: str, batch: str) -> Path:
    """Where a batch's finished documents lie."""
    return app.settings.out_dir / tenant / batch
