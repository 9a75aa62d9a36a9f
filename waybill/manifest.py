"""
The manifest: one row a finished document, beside the documents.

Written from the database, whole and atomically, so that it has exactly one row for
every done item however often a worker died.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from pipeline.artifacts.durable import write_atomically
from stages.document import PRINTED
from waybill.compose import App

COLUMNS = ("item", "name", "file", "pages", "bytes", "artifact", "finished_at")
# A spreadsheet would take a cell that begins like this for a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


async def write_manifest(app: App, batch_id: int) -> Path:
    """Write `manifest.csv` of a batch into its output folder; returns its path."""
    batch = await app.store.batch(batch_id)
    rows = [
        [
            done.item,
            _cell(done.name),
            *(
                _cell(str(done.facts.get(fact, "")))
                for fact in ("file", "pages", "size_bytes")
            ),
            done.artifact or "",
            done.at.isoformat(timespec="seconds"),
        ]
        for done in await app.store.finished(batch_id, PRINTED)
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    path = out_folder(app, batch.tenant, batch.name) / "manifest.csv"
    write_atomically(path, text.getvalue().encode("utf-8"))
    return path


def out_folder(app: App, tenant: str, batch: str) -> Path:
    """Where a batch's finished documents lie."""
    return app.settings.out_dir / tenant / batch


def _cell(text: str) -> str:
    return "'" + text if text.startswith(FORMULA) else text
