"""`waybill review export`: what reviewers decided, as cases for `waybill eval`."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Annotated

import typer

from pipeline.artifacts.durable import write_atomically
from pipeline.errors import Conflict
from waybill import terminal
from waybill.commands.options import (
    AtStage,
    Called,
    InBatch,
    Json,
    OfPipeline,
    OfTenant,
    Since,
    WithCode,
    holds_met,
    sought,
)
from waybill.commands.run import run_app
from waybill.compose import App
from waybill.evals.corrections import Documents, Exported, exported

LEFT_OUT_MAX = 20  # that are named on a terminal; --json has them all


def review_export(
    to: Annotated[Path, typer.Option(help="A .jsonl file.")],
    documents: Annotated[
        Documents, typer.Option(help="Named in this home's store, or their text.")
    ] = Documents.ARTIFACT,
    name: Called = "",
    code: WithCode = "",
    stage: AtStage = "",
    pipeline: OfPipeline = "",
    tenant: OfTenant = "",
    batch: InBatch = "",
    since: Since = "",
    limit: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Decisions, newest first.")
    ] = 10_000,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what is there.")
    ] = False,
    json: Json = False,
) -> None:
    """Decisions on findings as labelled cases, for `waybill eval`."""
    wanted = sought(name, code, stage, pipeline, since)
    met = holds_met(wanted, tenant, batch, limit, decided=True)
    if to.exists() and not overwrite:
        raise Conflict(
            f"{to} is there already",
            code="EXPORT_EXISTS",
            hint="name another one, or say --overwrite",
        )

    async def main(opened: App) -> Exported:
        return await exported(opened, await met(opened), documents)

    found = run_app(main)
    # In ASCII: what steers a terminal is an escape.
    text = "".join(jsonlib.dumps(line) + "\n" for line in found.lines)
    write_atomically(to.absolute(), text.encode())
    report = {
        "to": str(to.absolute()),
        "cases": len(found.lines),
        "labels": sum(len(line["expect"]) for line in found.lines),
        "corrected": sum(len(line["corrected"]) for line in found.lines),
        "left_out": found.left_out,
    }
    if json:
        terminal.print_json(report)
        return
    terminal.err.print(
        f"{report['cases']} cases with {report['labels']} labels, of which "
        f"{report['corrected']} were corrected, in {terminal.safe(to)}",
        soft_wrap=True,
    )
    for hold, why in list(found.left_out.items())[:LEFT_OUT_MAX]:
        terminal.err.print(f"left out: {hold} {terminal.safe(why)}")
