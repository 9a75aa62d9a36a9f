"""`waybill ingest`: files are taken in once, from where they lie."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

import typer

from ingest.answers import Taken
from ingest.candidates import Candidate, named
from ingest.watch.folders import today
from pipeline.errors import Trouble, Usage
from pipeline.folder import seconds
from pipeline.model import Batch, Disposal, Receipt
from pipeline.store.rows import Counts, ItemRow
from pipeline.trouble import ours
from waybill import terminal
from waybill.board import Board
from waybill.commands.counts import exit_code, summary
from waybill.commands.options import Json
from waybill.commands.run import run_app
from waybill.compose import App
from waybill.foreground import at_once, at_rest, patiently, work_until
from waybill.manifest import write_manifest

SLICE = 200  # files taken before somebody who waits is told how many
T = TypeVar("T")
LEFT = 3  # exit code: some could not be taken now, and are where they were


class Going(Protocol):
    """How what may meet our own trouble is done: at once, or patiently."""

    async def __call__(self, work: Callable[[], Awaitable[T]]) -> T:
        """What `work` comes to."""
        ...


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
        go = patiently if wait else at_once
        number, loaded = await go(
            partial(opened.publish, pipeline or opened.settings.pipeline)
        )
        due_s = _until(deadline) if deadline else loaded.deadline_s
        name = batch or today()
        into = await go(
            partial(opened.store.open_batch, tenant, name, deadline_s=due_s)
        )
        files = named(paths, pipeline=loaded.name)
        if not files:
            raise Usage("there is no file to take", hint="name files or folders")
        began = time.monotonic()
        taken = await _take(opened, files, into, number, go)
        left = [t for t in taken if t.receipt is None]
        if wait:
            await _finish(opened, into.id, taken)
            await go(partial(write_manifest, opened, into.id))
        known = await go(partial(_known, opened, taken))
        counts = await go(partial(opened.store.counts, into.id))
        code = exit_code(counts) if wait else 0
        report = {
            "batch": f"{tenant}/{into.name}",
            **summary(counts),
            "seconds": round(time.monotonic() - began, 2),
            "files": [_line(t, known) for t in taken],
        }
        if json:
            terminal.print_json(report)
        else:
            _print_taken(report)
        return LEFT if left and not code else code

    raise typer.Exit(run_app(main))


async def _take(
    opened: App, files: Sequence[Candidate], into: Batch, pipeline_id: int, go: Going
) -> list[Taken]:
    """In slices, so that somebody who waits sees something."""
    folders = opened.folders()

    async def prepare() -> None:
        with ours("the home folder", opened.settings.home):
            for folder in (folders.archive, folders.quarantine, folders.scratch):
                folder.mkdir(parents=True, exist_ok=True)

    async def take(part: Sequence[Candidate]) -> list[Taken]:
        answers = await admission.take(part, into, pipeline_id, archive=False)
        for answer in answers:
            if answer.paused and go is patiently:
                # Taken again, what was received has the receipt that it has.
                raise Trouble(answer.why, code=answer.code, hint=answer.hint)
        return answers

    await go(prepare)
    admission = opened.admission(folders)
    taken: list[Taken] = []
    for at in range(0, len(files), SLICE):
        taken += await go(partial(take, files[at : at + SLICE]))
        if len(files) > SLICE:
            terminal.err.print(f"taken {len(taken)} of {len(files)}")
    return taken


async def _finish(opened: App, batch_id: int, taken: list[Taken]) -> None:
    """Work until nothing of the batch is live."""
    board = Board(opened, batch_id, len(taken))

    async def done() -> bool:
        return await at_rest(opened, batch_id, await board.look())

    with board.show():
        await work_until(opened, done)


async def _known(opened: App, taken: Sequence[Taken]) -> dict[int, ItemRow]:
    """The items of files whose bytes, or whose delivery, were known before."""
    receipts = [t.receipt for t in taken if t.receipt is not None]
    ids = sorted({r.item_id for r in receipts if r.item_id and _is_known(r)})
    rows: dict[int, ItemRow] = {}
    for at in range(0, len(ids), SLICE):
        rows |= await opened.store.rows(ids[at : at + SLICE])
    return rows


def _is_known(receipt: Receipt) -> bool:
    return receipt.again or receipt.disposal is Disposal.DUPLICATE


def _line(taken: Taken, known: Mapping[int, ItemRow]) -> dict[str, Any]:
    """What became of a file; of known bytes, what became of their item."""
    receipt = taken.receipt
    item = receipt.item_id if receipt else None
    row = known.get(item or 0) if receipt and _is_known(receipt) else None
    return {
        "name": taken.candidate.name,
        "disposal": receipt.disposal.value if receipt else "left",
        "item": item,
        "known": bool(receipt and _is_known(receipt)),
        "state": row.state.value if row else "",
        "batch": f"{row.tenant}/{row.batch}" if row else "",
        "code": taken.code,
        "why": taken.why,
    }


def _print_taken(report: dict[str, Any]) -> None:
    for line in report["files"]:
        word = "known" if line["disposal"] == "item" else line["disposal"]
        is_item = f"is item {line['item']}, {line['state']}, in {line['batch']}"
        what = f"{line['code']} {line['why']}"
        if line["state"]:
            what = f"{is_item} {what}"
        if line["known"] or line["disposal"] != "item":
            text = f"{word}: {line['name']} {what}"
            terminal.err.print(terminal.safe(text.rstrip()))
    terminal.print_table(
        ["batch", *Counts._fields],
        [[report["batch"], *(report[word] for word in Counts._fields)]],
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
