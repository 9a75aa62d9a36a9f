"""`waybill export`: what became of a batch, as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import Integrity, Usage
from waybill import exporting, terminal
from waybill.commands.options import ABatch, Json, find_batch
from waybill.commands.run import run_app
from waybill.compose import App


def export(
    batch: ABatch,
    to: Annotated[
        str,
        typer.Option(help="A folder, or a .zip, .csv or .jsonl file.", metavar="TO"),
    ],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what is there.")
    ] = False,
    json: Json = False,
) -> None:
    """A batch's results so far: a row each file received, and in a folder the files."""
    kind = exporting.kind_of(to)

    async def main(opened: App) -> exporting.Exported:
        found = await find_batch(opened, batch)
        if found.trial:
            raise Usage(
                f"the batch {found.name} is a trial: nothing of it is a result",
                code="BATCH_IS_TRIAL",
                hint="`waybill eval` has written what was scored, below evals/ in the "
                "home",
            )
        counts = await opened.store.counts(found.id)
        with terminal.progress("rows", counts.received) as note:
            return await exporting.export(
                opened, found, Path(to), kind, overwrite=overwrite, note=note
            )

    made = run_app(main)
    if json:
        terminal.print_json(made)
    else:
        states = ", ".join(f"{n} {state}" for state, n in made.states.items())
        files = f", {_counted(made.files, 'file')}" if made.files else ""
        rows = _counted(made.rows, "row")
        terminal.err.print(f"{rows}{files}: {states or 'nothing yet'}")
        terminal.out.print(terminal.safe(made.to))
    if made.incomplete:
        if not json:
            named = ", ".join(f"{i} {code}" for i, code in made.incomplete.items())
            terminal.err.print(f"incomplete, by item: {named}")
        raise typer.Exit(Integrity.exit_code)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
