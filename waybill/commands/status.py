"""`waybill status`: what is where, who works, and what keeps them from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import anyio
import typer

from ingest.watch.survey import Survey
from pipeline.errors import StoreUnavailable
from pipeline.store.rows import Counts, StageRow, TroubleRow
from pipeline.threads import in_thread
from waybill import terminal
from waybill.board import LONG, display, frame
from waybill.commands.counts import summary
from waybill.commands.options import InBatch, Json, batch_id
from waybill.commands.run import run_app
from waybill.compose import App
from waybill.foreground import workers_up
from waybill.health import ASKED_S, seen_here, troubles
from waybill.inbox import survey_of
from waybill.settings import read_settings


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Redraw each second.")] = False,
    batch: InBatch = "",
    json: Json = False,
) -> None:
    """What is where, who works, and what is wrong."""

    async def main(opened: App) -> None:
        if not watch:
            _, found = await _look(opened, batch)
            terminal.print_json(found) if json else _print_status(found)
            return
        with display() as live:
            while True:
                counts, found = await _look(opened, batch, watch=True)
                if live is None:
                    terminal.print_json(found)
                else:
                    live.update(
                        frame(
                            counts, found["stages"], counts.received, found["documents"]
                        )
                    )
                await anyio.sleep(1)

    try:
        run_app(main, wait_s=ASKED_S)
    except StoreUnavailable as error:
        _print_away(error, json)
        raise typer.Exit(error.exit_code) from None


async def _look(
    opened: App, batch: str, *, watch: bool = False
) -> tuple[Counts, dict[str, Any]]:
    number = await batch_id(opened, batch)
    counts = await opened.store.counts(number)
    workers = await workers_up(opened)
    wrong = await in_thread(troubles, opened.settings, workers)
    inbox = None
    if number is None and not watch:  # it would be listed again each second
        inbox = await in_thread(survey_of, opened.settings)
    return counts, {
        **summary(counts),
        "inbox": inbox,
        "stages": await opened.store.stages(number),
        "documents": await opened.store.in_work(batch_id=number, longer_than=LONG),
        "workers": [
            {"pid": w.origin.pid, "host": w.origin.host.partition("/")[0]}
            for w in workers
        ],
        "troubles": wrong,
    }


def _print_away(error: StoreUnavailable, json: bool) -> None:
    """The database is away: what is wrong there, and here."""
    found = seen_here(read_settings())
    if json:
        more = {"troubles": found} if found else {}
        terminal.print_json({**terminal.error_body(error), **more})
    else:
        terminal.print_error(error, as_json=False)
        _print_troubles(found)


def _print_troubles(found: Sequence[TroubleRow]) -> None:
    for what, where, since in found:
        said = f"{what} ({where}), since {terminal.clock(since)}"
        terminal.err.print(f"[red]trouble[/red] {terminal.safe(said)}")


def _print_status(found: dict[str, Any]) -> None:
    words = Counts._fields
    terminal.print_table(words, [[found[w] for w in words]])
    if found["stages"]:
        terminal.print_table(StageRow._fields, found["stages"])
    if found["documents"]:
        terminal.print_table(
            ["document", "stage", "finished", "of"],
            [[d.name, d.stage, d.done, d.total] for d in found["documents"]],
        )
    if found["inbox"] is not None:
        print_left(found["inbox"])
    working = ", ".join(str(w["pid"]) for w in found["workers"]) or "none"
    terminal.err.print(f"workers: {working}")
    if found["workers"] == [] and found["live"]:
        terminal.err.print("nothing moves: start `waybill up` or `waybill worker`")
    _print_troubles(found["troubles"])


def print_left(inbox: Survey) -> None:
    """What lies in the inbox; nothing when nothing is left there."""
    if inbox.left:
        terminal.print_table(
            ["left in the inbox", "code", "why", "for"],
            [[x.name, x.code, x.why, terminal.span(x.for_s)] for x in inbox.left],
        )
    if inbox.more:
        terminal.err.print(f"and {inbox.more} more are left in the inbox")
    if inbox.waiting:
        terminal.err.print(f"in the inbox, on their way: {inbox.waiting}")
