"""`waybill db`: the database's schema."""

from __future__ import annotations

from typing import Any

import typer

from pipeline.errors import StoreUnavailable
from pipeline.store.migrate import APP_ROLE, Migrated, available, migrate
from waybill import terminal
from waybill.commands.options import Json
from waybill.commands.run import run_app, run_async
from waybill.compose import App
from waybill.database import owner
from waybill.settings import read_settings

# A script shall not go on: the service cannot connect.
NO_ROLE = StoreUnavailable.exit_code

db = typer.Typer(help="The database's schema.", no_args_is_help=True)


@db.command("migrate")
def db_migrate(json: Json = False) -> None:
    """Bring the schema up to date, as the database's owner."""
    url, variable = owner(read_settings(as_owner=True))

    async def main() -> Migrated:
        return await migrate(url, variable)

    done = run_async(main)
    if json:
        terminal.print_json(done)
        raise typer.Exit(0 if done.granted else NO_ROLE)
    applied = ", ".join(done.applied)
    terminal.err.print(f"applied {applied}" if applied else "up to date")
    if not done.granted:
        terminal.err.print(
            f"there is no role {APP_ROLE} yet, as which the service connects: "
            f"`create role {APP_ROLE} login password …`, then run this again"
        )
        raise typer.Exit(NO_ROLE)


@db.command("status")
def db_status(json: Json = False) -> None:
    """The schema's version, here and in the database."""

    async def main(opened: App) -> dict[str, Any]:
        there = await opened.store.schema_version()
        return {"database": there, "this_version": available()[-1].number}

    found = run_app(main)
    if json:
        terminal.print_json(found)
    else:
        terminal.print_table(list(found), [list(found.values())])
