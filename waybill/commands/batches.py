"""`waybill batches`: what was submitted together, and whether it adds up."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipeline.errors import Integrity
from pipeline.model import ItemId
from pipeline.store.rows import Counts, StageRow
from waybill import terminal
from waybill.commands.counts import law, summary
from waybill.commands.options import BATCH, Json, Limit, batch_id
from waybill.commands.run import run_app
from waybill.compose import App
from waybill.manifest import out_folder

batches = typer.Typer(help="What was submitted together.", no_args_is_help=True)


@batches.command("ls")
def batches_ls(limit: Limit = 50, json: Json = False) -> None:
    """Batches with their counts, newest first."""

    async def main(opened: App) -> list[dict[str, Any]]:
        found = []
        for b in await opened.store.batches(limit=limit):
            counts = await opened.store.counts(b.id)
            found.append({**b._asdict(), **summary(counts)})
        return found

    rows = run_app(main)
    if json:
        terminal.print_json(rows)
        return
    words = ["received", "live", "held", "done", "rejected", "failed"]
    terminal.print_table(
        ["batch", "due", *words],
        (
            [
                f"{r['tenant']}/{r['name']}",
                terminal.due(r["deadline_at"]),
                *(r[w] for w in words),
            ]
            for r in rows
        ),
    )


@batches.command("show")
def batches_show(
    batch: Annotated[str, typer.Argument(help=f"Which one: {BATCH}.")],
    json: Json = False,
) -> None:
    """One batch: its counts, what stands at each stage, where its output lies."""

    async def main(opened: App) -> dict[str, Any]:
        b = await opened.store.find_batch(batch)
        counts = await opened.store.counts(b.id)
        out = out_folder(opened, b.tenant, b.name)
        return {
            **b._asdict(),
            **summary(counts),
            "stages": await opened.store.stages(b.id),
            "out": str(out) if out.exists() else None,
        }

    found = run_app(main)
    if json:
        terminal.print_json(found)
        return
    for key, value in found.items():
        if key != "stages":
            terminal.out.print(f"{key:12} {terminal.safe(terminal.plain(value))}")
    terminal.print_table(StageRow._fields, found["stages"])


@batches.command("reconcile")
def batches_reconcile(
    batch: Annotated[str, typer.Argument(help="Default: everything.")] = "",
    json: Json = False,
) -> None:
    """Check the conservation law; exit 8 when something is missing."""

    async def main(opened: App) -> tuple[Counts, list[ItemId]]:
        number = await batch_id(opened, batch)
        return await opened.store.counts(number), await opened.store.astray(number)

    counts, astray = run_app(main)
    broken = not counts.conserved or astray
    if json:
        terminal.print_json({**summary(counts), "astray": astray})
        raise typer.Exit(Integrity.exit_code if broken else 0)
    terminal.out.print(" ".join(law(counts)))
    if broken:
        raise Integrity(
            f"the law is broken; astray: {astray or 'none'}",
            code="NOT_CONSERVED",
            hint="`waybill items show` each; nothing was deleted",
        )
