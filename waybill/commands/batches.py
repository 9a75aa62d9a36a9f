"""`waybill batches`: what was submitted together, and whether it adds up."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipeline.errors import Integrity
from pipeline.store.rows import Audit, StageRow
from waybill import terminal
from waybill.commands.counts import law, summary
from waybill.commands.options import BATCH, Json, Limit, batch_id
from waybill.commands.run import run_app
from waybill.compose import App
from waybill.manifest import out_folder

NOTE_EVERY = 200_000  # rows: some seconds' work

batches = typer.Typer(help="What was submitted together.", no_args_is_help=True)


@batches.command("ls")
def batches_ls(limit: Limit = 50, json: Json = False) -> None:
    """Batches with their counts, newest first."""

    async def main(opened: App) -> list[dict[str, Any]]:
        found = await opened.store.batches(limit=limit)
        counts = await opened.store.counts_of([b.id for b in found])
        return [{**b._asdict(), **summary(counts[b.id])} for b in found]

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

    def note(looked_at: int) -> None:
        if looked_at % NOTE_EVERY == 0:
            terminal.err.print(f"{looked_at} rows looked at")

    async def main(opened: App) -> Audit:
        return await opened.store.audit(await batch_id(opened, batch), note=note)

    found = run_app(main)
    counts, astray = found.counted, found.astray
    if json:
        tallied = found.tallied._asdict()
        terminal.print_json({**summary(counts), "astray": astray, "tallied": tallied})
        raise typer.Exit(0 if found.sound else Integrity.exit_code)
    terminal.out.print(" ".join(law(counts)))
    if not counts.conserved or astray:
        raise Integrity(
            f"the law is broken; astray: {astray or 'none'}",
            code="NOT_CONSERVED",
            hint="`waybill items show` each; nothing was deleted",
        )
    if not found.sound:
        raise Integrity(
            f"counted: {counts}; `status` would say {found.tallied}",
            code="TALLIES_WRONG",
            hint="nothing is missing; rows were changed behind the triggers",
        )
