"""The service: `up`, `worker`, `ingest`, `status`, `db`."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import anyio
import typer

from ingest.admission import Taken
from ingest.candidates import named
from ingest.watch.folders import today
from pipeline.errors import Usage
from pipeline.folder import seconds
from pipeline.model import Disposal
from pipeline.run.supervisor import Supervisor, follow_parent
from pipeline.store.migrate import available, migrate
from waybill import logs, terminal
from waybill.board import Board, at_rest, draw, exit_code, summary, work_until
from waybill.commands.run import Json, app, run_app, run_async
from waybill.compose import App, Urls, database, open_app, open_store
from waybill.desk.pages import LONG_PAGES
from waybill.manifest import write_manifest
from waybill.settings import Settings, read_settings

db = typer.Typer(help="The database's schema.", no_args_is_help=True)


@app.command()
def up(
    processes: Annotated[int, typer.Option(min=1, max=64, help="Workers.")] = 1,
) -> None:
    """Run the service: watch the inbox, work, until SIGTERM (a second: now)."""
    settings = read_settings()
    logs.configure()
    urls = database(settings)

    async def main() -> None:
        async with open_app(settings, urls) as opened:
            folders = opened.folders()
            watcher = opened.watcher(folders)
            terminal.err.print(f"drop files into {terminal.safe(folders.inbox)}")
            fleet = _fleet(settings, processes, urls)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watcher.run)
                await fleet.run()
                tasks.cancel_scope.cancel()

    run_async(main)


@app.command()
def worker(
    processes: Annotated[int, typer.Option(min=1, max=64, help="Workers.")] = 1,
) -> None:
    """Run workers only, until SIGTERM (a second one: now)."""
    settings = read_settings()
    logs.configure()
    urls = database(settings)

    async def main() -> None:
        async with open_store(urls):
            pass  # say early when it cannot be reached
        await _fleet(settings, processes, urls).run()

    run_async(main)


def _fleet(settings: Settings, processes: int, urls: Urls) -> Supervisor:
    """Worker processes that share this machine's cores."""
    cores = max(1, settings.cores // processes)
    environment = {
        "WAYBILL_DATABASE_URL": urls.service,
        "WAYBILL_OWNER_URL": urls.owner,
        "WAYBILL_CORES": str(cores),
    }
    command = [sys.executable, "-m", "waybill", "work"]
    return Supervisor(processes, command, environment)


@app.command(hidden=True)
def work() -> None:
    """One worker process, as the supervisor starts it."""
    logs.configure()
    follow_parent()

    async def main() -> None:
        settings = read_settings()
        async with open_app(settings, database(settings)) as opened:
            it = opened.worker()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(on_stop, it.drain, it.stop)
                await it.run()
                tasks.cancel_scope.cancel()

    run_async(main)


async def on_stop(first: Callable[[], None], second: Callable[[], None]) -> None:
    """SIGTERM or SIGINT: drain; another one: stop now."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        act = first
        async for _ in signals:
            act()
            act = second


@app.command()
def ingest(
    paths: Annotated[list[Path], typer.Argument(help="Files or folders.")],
    pipeline: Annotated[str, typer.Option(help="Name or folder.")] = "",
    tenant: Annotated[str, typer.Option(help="Whose they are.")] = "default",
    batch: Annotated[str, typer.Option(help="Default: today.")] = "",
    deadline: Annotated[
        str, typer.Option(help="21d, 6h, or 2026-12-18T17:00; of a new batch.")
    ] = "",
    wait: Annotated[
        bool, typer.Option("--wait", help="Work here until they are finished.")
    ] = False,
    json: Json = False,
) -> None:
    """Take files in once; they stay where they are."""

    async def main(opened: App) -> int:
        number, loaded = await opened.publish(pipeline or opened.settings.pipeline)
        due_s = _until(deadline) if deadline else loaded.deadline_s
        opened_batch = await opened.store.open_batch(
            tenant, batch or today(), deadline_s=due_s
        )
        files = named(paths, pipeline=loaded.name)
        if not files:
            raise Usage("there is no file to take", hint="name files or folders")
        folders = opened.folders()
        for folder in (folders.archive, folders.quarantine, folders.scratch):
            folder.mkdir(parents=True, exist_ok=True)
        door = opened.admission(folders)
        began = time.monotonic()
        taken: list[Taken] = []
        # In slices, so that somebody who waits sees something.
        for at in range(0, len(files), 200):
            part = files[at : at + 200]
            taken += await door.take(part, opened_batch, number, archive=False)
            if len(files) > 200:
                terminal.err.print(f"taken {len(taken)} of {len(files)}")
        left = [t for t in taken if t.receipt is None]
        if wait:
            await _finish(opened, opened_batch.id, taken)
            counts = await opened.store.counts(opened_batch.id)
            await write_manifest(opened, opened_batch.id)
            code = exit_code(counts)
        else:
            code = 0
            counts = await opened.store.counts(opened_batch.id)
        report = {
            "batch": f"{tenant}/{opened_batch.name}",
            **summary(counts),
            "seconds": round(time.monotonic() - began, 2),
            "files": [_told(t) for t in taken],
        }
        if json:
            terminal.print_json(report)
        else:
            _print_taken(taken, report)
        return 3 if left and not code else code

    raise typer.Exit(run_app(main))


async def _finish(opened: App, batch_id: int, taken: list[Taken]) -> None:
    """Work until nothing of the batch is live."""
    board = Board(opened, lambda: batch_id, len(taken))

    async def done() -> bool:
        counts = await board.look()
        return counts is not None and await at_rest(opened, batch_id, counts)

    with board.show():
        await work_until(opened, done)


def _told(taken: Taken) -> dict[str, Any]:
    receipt = taken.receipt
    return {
        "name": taken.candidate.name,
        "disposal": receipt.disposal.value if receipt else "left",
        "item": receipt.item_id if receipt else None,
        "code": taken.code,
        "why": taken.why,
    }


def _print_taken(taken: list[Taken], report: dict[str, Any]) -> None:
    for t in taken:
        if t.receipt is None or t.receipt.disposal is not Disposal.ITEM:
            told = _told(t)
            line = f"{told['disposal']}: {told['name']} {told['code']} {told['why']}"
            terminal.err.print(terminal.safe(line.rstrip()))
    words = ("received", "live", "held", "done", "rejected", "failed")
    more = ("cancelled", "duplicates", "quarantined")
    terminal.print_table(
        ["batch", *words, *more],
        [[report["batch"], *(report[w] for w in words + more)]],
    )


def _until(text: str) -> float:
    """A duration, or an instant, as seconds from now."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return seconds(text)
    left = (at.astimezone(UTC) - datetime.now(UTC)).total_seconds()
    if left <= 0:
        raise Usage(f"the deadline {text} is over", hint="name a later one")
    return left


@app.command()
def status(
    watch: Annotated[bool, typer.Option("--watch", help="Redraw each second.")] = False,
    batch: Annotated[str, typer.Option(help="Only this one.")] = "",
    json: Json = False,
) -> None:
    """What is where, and who works."""

    async def look(opened: App) -> dict[str, Any]:
        number = (await opened.store.find_batch(batch)).id if batch else None
        counts = await opened.store.counts(number)
        sessions = await opened.store.sessions()
        return {
            **summary(counts),
            "stages": await opened.store.stages(number),
            "documents": await opened.store.in_work(
                batch_id=number, longer_than=LONG_PAGES
            ),
            "workers": [
                {"pid": s.origin.pid, "host": s.origin.host.partition("/")[0]}
                for s in sessions
                if s.left_s > 0
            ],
        }

    async def main(opened: App) -> None:
        if not watch:
            found = await look(opened)
            terminal.print_json(found) if json else _print_status(found)
            return
        board = Board(opened, lambda: None, 0)
        with board.show() as live:
            while True:
                found = await look(opened)
                number = (await opened.store.find_batch(batch)).id if batch else None
                counts = await opened.store.counts(number)
                if live is None:
                    terminal.print_json(found)
                else:
                    live.update(
                        draw(
                            counts, found["stages"], counts.received, found["documents"]
                        )
                    )
                await anyio.sleep(1)

    run_app(main)


def _print_status(found: dict[str, Any]) -> None:
    other = ("stages", "documents", "workers", "conserved")
    words = [k for k in found if k not in other]
    terminal.print_table(words, [[found[w] for w in words]])
    if found["stages"]:
        terminal.print_table(
            ["stage", "ready", "running", "waiting", "held"], found["stages"]
        )
    if found["documents"]:
        terminal.print_table(
            ["document", "stage", "pages", "of"],
            [[d.name, d.stage, d.done, d.total] for d in found["documents"]],
        )
    working = ", ".join(str(w["pid"]) for w in found["workers"]) or "none"
    terminal.err.print(f"workers: {working}")
    if found["workers"] == [] and found["live"]:
        terminal.err.print("nothing moves: start `waybill up` or `waybill worker`")


@db.command("migrate")
def db_migrate(json: Json = False) -> None:
    """Bring the schema up to date, as the database's owner."""
    settings = read_settings()
    urls = database(settings)

    async def main() -> list[str]:
        return await migrate(urls.owner)

    done = run_async(main)
    if json:
        terminal.print_json({"applied": done})
    else:
        terminal.err.print(f"applied {', '.join(done)}" if done else "up to date")


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


app.add_typer(db, name="db")
