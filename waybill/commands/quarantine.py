"""`waybill quarantine`: files that could not be taken."""

from __future__ import annotations

from pathlib import Path

import typer

from pipeline.store.rows import RefusedRow
from waybill import terminal
from waybill.commands.options import InBatch, Json, Limit, batch_id
from waybill.commands.run import run_app
from waybill.compose import App

quarantine = typer.Typer(help="Files that could not be taken.", no_args_is_help=True)


@quarantine.command("ls")
def quarantine_ls(batch: InBatch = "", limit: Limit = 50, json: Json = False) -> None:
    """Files that could not be taken, and why."""

    async def main(opened: App) -> list[RefusedRow]:
        rows = await opened.store.quarantined(
            batch_id=await batch_id(opened, batch), limit=limit
        )
        home = opened.settings.home
        return [r._replace(kept_at=_kept(home, r.kept_at)) for r in rows]

    rows = run_app(main)
    if json:
        terminal.print_json(rows)
        return
    terminal.print_table(
        ["at", "batch", "name", "code", "why", "kept at"],
        (
            [
                terminal.clock(r.at),
                f"{r.tenant}/{r.batch}",
                r.name,
                r.code,
                r.why,
                _short(r.kept_at),
            ]
            for r in rows
        ),
    )


def _kept(home: Path, kept_at: str) -> str:
    """The whole path of a quarantined file; a demo keeps its own."""
    for root in (home, *sorted(home.glob("demo/*"))):
        path = root / "quarantine" / kept_at
        if path.exists():
            return str(path)
    return kept_at


def _short(path: str) -> str:
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path
