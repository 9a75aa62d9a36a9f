"""`waybill batches`: what was submitted together, and whether it adds up."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipeline.errors import Integrity
from pipeline.store.rows import Audit, BatchRow, StageRow
from waybill import terminal
from waybill.commands.counts import EFFECTS, law, outside, summary
from waybill.commands.options import (
    ABatch,
    Header,
    Json,
    Limit,
    batch_id,
    find_batch,
    until,
)
from waybill.commands.run import run_app
from waybill.commands.spending import cost_line, spent_json
from waybill.compose import App
from waybill.manifest import out_folder

NOTE_EVERY = 200_000  # rows: some seconds' work

batches = typer.Typer(help="What was submitted together.", no_args_is_help=True)


@batches.command("ls")
def batches_ls(limit: Limit = 50, header: Header = False, json: Json = False) -> None:
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
        ["batch", "due", *words, "trial"],
        (
            [
                f"{r['tenant']}/{r['name']}",
                terminal.due(r["deadline_at"]),
                *(r[w] for w in words),
                "trial" if r["trial"] else "",
            ]
            for r in rows
        ),
        header=header,
    )


@batches.command("show")
def batches_show(
    batch: ABatch,
    json: Json = False,
) -> None:
    """One batch: its counts, what stands at each stage, where its output lies."""

    async def main(opened: App) -> dict[str, Any]:
        b = await find_batch(opened, batch)
        counts = await opened.store.counts(b.id)
        out = out_folder(opened, b.tenant, b.name)
        return {
            **b._asdict(),
            **summary(counts),
            "stages": await opened.store.stages(b.id),
            "spent": await opened.store.spent(batch_id=b.id),
            "effects": outside(await opened.store.count_effects(b.id)),
            "out": str(out) if out.exists() else None,
        }

    found = run_app(main)
    if json:
        terminal.print_json({**found, "spent": spent_json(found["spent"])})
        return
    found["spent"] = cost_line(found["spent"]) or None
    for key, value in found.items():
        if key not in ("stages", "effects"):
            shown = "-" if value is None else terminal.safe(terminal.plain(value))
            terminal.out.print(f"{key:12} {shown}")
    terminal.print_table(StageRow._fields, found["stages"])
    if found["effects"]:
        terminal.print_table(EFFECTS, (e.values() for e in found["effects"]))


@batches.command("set")
def batches_set(
    batch: ABatch,
    deadline: Annotated[
        str, typer.Option(help="21d or 6h from now, or 2026-12-18T17:00.")
    ],
    json: Json = False,
) -> None:
    """Give a batch another deadline; what is not done of it follows."""
    due_s = until(deadline)

    async def main(opened: App) -> tuple[BatchRow, int]:
        b = await find_batch(opened, batch)
        who = opened.settings.reviewer
        moved = await opened.store.set_deadline(b.id, who, deadline_s=due_s)
        return await opened.store.batch(b.id), moved

    now, moved = run_app(main)
    if json:
        terminal.print_json({**now._asdict(), "items": moved})
        return
    name = terminal.safe(f"{now.tenant}/{now.name}")
    due = terminal.due(now.deadline_at)
    terminal.err.print(f"{name} is due in {due}; {moved} open items follow")


@batches.command("reconcile")
def batches_reconcile(
    batch: ABatch = "",
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
