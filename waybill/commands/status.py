"""`waybill status`: what is where, and who works."""

from __future__ import annotations

from typing import Annotated, Any

import anyio
import typer

from pipeline.store.rows import Counts, StageRow
from waybill import terminal
from waybill.board import LONG_PAGES, display, frame
from waybill.commands.counts import summary
from waybill.commands.options import InBatch, Json, batch_id
from waybill.commands.run import run_app
from waybill.compose import App
from waybill.foreground import workers_up


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Redraw each second.")] = False,
    batch: InBatch = "",
    json: Json = False,
) -> None:
    """What is where, and who works."""

    async def main(opened: App) -> None:
        if not watch:
            _, found = await _look(opened, batch)
            terminal.print_json(found) if json else _print_status(found)
            return
        with display() as live:
            while True:
                counts, found = await _look(opened, batch)
                if live is None:
                    terminal.print_json(found)
                else:
                    live.update(
                        frame(
                            counts, found["stages"], counts.received, found["documents"]
                        )
                    )
                await anyio.sleep(1)

    run_app(main)


async def _look(opened: App, batch: str) -> tuple[Counts, dict[str, Any]]:
    number = await batch_id(opened, batch)
    counts = await opened.store.counts(number)
    return counts, {
        **summary(counts),
        "stages": await opened.store.stages(number),
        "documents": await opened.store.in_work(
            batch_id=number, longer_than=LONG_PAGES
        ),
        "workers": [
            {"pid": w.origin.pid, "host": w.origin.host.partition("/")[0]}
            for w in await workers_up(opened)
        ],
    }


def _print_status(found: dict[str, Any]) -> None:
    words = Counts._fields
    terminal.print_table(words, [[found[w] for w in words]])
    if found["stages"]:
        terminal.print_table(StageRow._fields, found["stages"])
    if found["documents"]:
        terminal.print_table(
            ["document", "stage", "pages", "of"],
            [[d.name, d.stage, d.done, d.total] for d in found["documents"]],
        )
    working = ", ".join(str(w["pid"]) for w in found["workers"]) or "none"
    terminal.err.print(f"workers: {working}")
    if found["workers"] == [] and found["live"]:
        terminal.err.print("nothing moves: start `waybill up` or `waybill worker`")
