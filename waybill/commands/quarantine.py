"""`waybill quarantine`: files that could not be taken."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from ingest.watch.survey import Left
from pipeline.threads import in_thread
from waybill import terminal
from waybill.commands.options import Header, InBatch, Json, Limit, batch_id
from waybill.commands.run import run_app
from waybill.compose import App
from waybill.inbox import survey_of

quarantine = typer.Typer(help="Files that could not be taken.", no_args_is_help=True)


@quarantine.command("ls")
def quarantine_ls(
    batch: InBatch = "",
    taken: Annotated[
        bool, typer.Option("--all", help="Also those that became items since.")
    ] = False,
    limit: Limit = 50,
    header: Header = False,
    json: Json = False,
) -> None:
    """Files that could not be taken, and why: in quarantine, or left in the inbox."""

    async def main(opened: App) -> list[dict[str, Any]]:
        number = await batch_id(opened, batch)
        rows = await opened.store.quarantined(batch_id=number, limit=limit, taken=taken)
        home = opened.settings.home
        found = [
            {**r._asdict(), "kept_at": _kept(home, r.kept_at), "in": "quarantine"}
            for r in rows
        ]
        if number is None:
            inbox = await in_thread(survey_of, opened.settings)
            now = datetime.now(UTC)
            found += [_lying(opened.settings.inbox_dir, x, now) for x in inbox.left]
        return found[:limit]

    rows = run_app(main)
    if json:
        terminal.print_json(rows)
        return
    if not rows:
        more = "" if taken else "; --all lists what was, and became an item since"
        what = "nothing of this batch" if batch else "nothing"
        terminal.err.print(f"{what} is in quarantine{more}")
    terminal.print_table(
        ["at", "batch", "name", "code", "why", "kept at", "now item"],
        (
            [
                terminal.clock(r["at"]),
                f"{r['tenant']}/{r['batch']}",
                r["name"],
                r["code"],
                r["why"],
                _short(r["kept_at"]),
                r["item"] or "",
            ]
            for r in rows
        ),
        header=header,
    )


def _lying(inbox: Path, left: Left, now: datetime) -> dict[str, Any]:
    """A file that was not taken, as a row like those of quarantined ones."""
    return {
        "id": None,
        **left._asdict(),
        "kept_at": str(inbox / left.name),
        "size_bytes": None,
        "at": now - timedelta(seconds=left.for_s),
        "item": None,
        "in": "inbox",
    }


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
