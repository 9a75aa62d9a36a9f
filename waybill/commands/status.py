"""`waybill status`: what is where, who works, and what keeps them from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import anyio
import typer

from ingest.watch.survey import Survey
from pipeline.errors import StoreUnavailable
from pipeline.jail.jail import refused_here
from pipeline.store.rows import Counts, Pace, StageRow, TroubleRow
from pipeline.threads import in_thread
from waybill import terminal
from waybill.board import LONG, a_minute, display, frame
from waybill.commands.counts import EFFECTS, outside, summary
from waybill.commands.options import InBatch, Json, find_batch
from waybill.commands.run import run_app
from waybill.commands.spending import cost_line, spent_json
from waybill.compose import App
from waybill.desk.terminal import print_line
from waybill.foreground import workers_up
from waybill.health import ASKED_S, seen_here, troubles, why_weak
from waybill.inbox import survey_of
from waybill.pace import brakes, done_in, sentence, still, when_done
from waybill.settings import read_settings

SHOWN_MAX = 10  # of what is left in the inbox; `quarantine ls` shows all


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Redraw each second.")] = False,
    batch: InBatch = "",
    json: Json = False,
) -> None:
    """What is where, who works, and what is wrong."""

    async def main(opened: App) -> None:
        if not watch:
            counts, found = await _look(opened, batch)
            if json:
                _print_json(found)
            else:
                _print_status(counts, found)
            return
        with display() as live:
            while True:
                counts, found = await _look(opened, batch, watch=True)
                if live is None:
                    _print_json(found)
                else:
                    live.update(
                        frame(
                            counts,
                            found["stages"],
                            counts.received,
                            found["documents"],
                            found["pace"],
                            _end(counts, found),
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
    one = await find_batch(opened, batch) if batch else None
    number = one.id if one else None
    counts = await opened.store.counts(number)
    workers = await workers_up(opened)
    wrong = await in_thread(troubles, opened.settings, workers)
    inbox = None
    if number is None and not watch:  # it would be listed again each second
        inbox = await in_thread(survey_of, opened.settings)
    stages = await opened.store.stages(number)
    pace = await opened.store.pace(number)
    spent = await opened.store.spent(batch_id=number)
    limited = await brakes(opened, number, counts, stages, len(workers))
    kept = bool(wrong) or not workers
    return counts, {
        **summary(counts),
        "inbox": inbox,
        "stages": stages,
        "pace": pace,
        "done_in_s": done_in(counts, pace, kept=kept, stay=still(limited)),
        "deadline_at": one.deadline_at if one else None,
        "limited_by": limited,
        "spent": spent,
        "documents": await opened.store.in_work(batch_id=number, longer_than=LONG),
        "effects": outside(await opened.store.count_effects(number)),
        "workers": [
            {"pid": w.origin.pid, "host": w.origin.host.partition("/")[0]}
            for w in workers
        ],
        "troubles": wrong,
        "jail_lacks": refused_here(),
        "role_lines": await opened.store.role_lines() if number is None else [],
    }


def _print_json(found: dict[str, Any]) -> None:
    terminal.print_json({**found, "spent": spent_json(found["spent"])})


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


def _print_status(counts: Counts, found: dict[str, Any]) -> None:
    terminal.print_table(counts._fields, [counts])
    pace: Pace = found["pace"]
    if not counts.live:
        pace = pace._replace(stages={})  # that of work which is over
    if found["stages"] or pace.stages:
        terminal.print_table(*_stage_table(found["stages"], pace))
    if found["documents"]:
        terminal.print_table(
            ["document", "stage", "finished", "of"],
            [[d.name, d.stage, d.done, d.total] for d in found["documents"]],
        )
    if found["inbox"] is not None:
        print_left(found["inbox"])
    if found["spent"]:
        terminal.err.print(f"spent: {terminal.safe(cost_line(found['spent']))}")
    if found["effects"]:
        terminal.print_table(EFFECTS, (e.values() for e in found["effects"]))
    if any(e["state"] == "in_doubt" for e in found["effects"]):
        terminal.err.print("in doubt: `waybill effects ls --state in_doubt`")
    working = ", ".join(str(w["pid"]) for w in found["workers"]) or "none"
    terminal.err.print(f"workers: {working}")
    if end := _end(counts, found):
        terminal.err.print(end)
    for brake in found["limited_by"]:
        terminal.err.print(f"limited by {terminal.safe(sentence(brake))}")
    for line in found["role_lines"]:
        print_line(line)
    _print_troubles(found["troubles"])
    if lacks := found["jail_lacks"]:
        terminal.err.print(f"jail: limits alone here; {terminal.safe(why_weak(lacks))}")


def _end(counts: Counts, found: dict[str, Any]) -> str:
    """When it will be done; "" when nothing moves."""
    kept = bool(found["troubles"]) or not found["workers"]
    stay = still(found["limited_by"])
    return when_done(counts, found["pace"], found["deadline_at"], kept=kept, stay=stay)


def _stage_table(
    stages: Sequence[StageRow], pace: Pace
) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows: what stands at each stage, and what came through it."""
    standing = {row.stage: row for row in stages}
    rows = [
        [*standing.get(stage, StageRow(stage, 0, 0, 0, 0)), a_minute(pace, stage)]
        for stage in sorted({*standing, *pace.stages})
    ]
    return [*StageRow._fields, "a minute"], rows


def print_left(inbox: Survey) -> None:
    """What lies in the inbox; nothing when nothing is left there."""
    if inbox.left:
        terminal.print_table(
            ["left in the inbox", "code", "why", "for"],
            [
                [x.name, x.code, x.why, terminal.span(x.for_s)]
                for x in inbox.left[:SHOWN_MAX]
            ],
        )
    if more := inbox.more + len(inbox.left[SHOWN_MAX:]):
        terminal.err.print(
            f"and {more} more are left in the inbox: `waybill quarantine ls`"
        )
    if inbox.waiting:
        terminal.err.print(f"in the inbox, on their way: {inbox.waiting}")
