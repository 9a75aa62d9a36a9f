"""`waybill ingest`: files are taken in once, from where they lie."""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

import typer

from ingest.answers import Taken
from ingest.candidates import Candidate, Waiting, named
from ingest.watch.folders import today
from pipeline.errors import Conflict, Trouble, Usage
from pipeline.model import Batch, Disposal, ItemId, Receipt, State
from pipeline.names import visible
from pipeline.store.rows import Counts, Family, ItemRow
from pipeline.trouble import ours
from waybill import terminal
from waybill.board import Board
from waybill.commands.counts import WITH_FAILED, WITH_HELD, exit_code, summary
from waybill.commands.options import Json, until
from waybill.commands.run import run_app
from waybill.compose import App
from waybill.foreground import at_once, patiently, work_until, workers_up
from waybill.health import NOBODY
from waybill.manifest import out_folder, write_manifest

SLICE = 200  # files taken before somebody who waits is told how many
PASSED_MAX = 100  # lines of what a folder holds beside; --json has them all
SAME_S = 60.0  # two deadlines that are closer are one: it is told by the minute
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

    due_s = until(deadline) if deadline else None

    async def main(opened: App) -> int:
        go = patiently if wait else at_once
        number, loaded = await go(
            partial(opened.publish, pipeline or opened.settings.pipeline)
        )
        passed: list[Waiting] = []
        files = named(paths, pipeline=loaded.name, passed=passed)
        if not files:
            _print_passed(passed)
            raise Usage("there is no file to take", hint="name files or folders")
        into = await go(
            partial(_open_batch, opened, tenant, batch, due_s, loaded.deadline_s)
        )
        began = time.monotonic()
        taken = await _take(opened, files, into, number, go)
        if wait:
            await _finish(opened, into.id, taken)
            await go(partial(write_manifest, opened, into.id))
        rows = await go(partial(_rows, opened, taken, every=wait))
        counts = (await go(partial(_of_this_call, opened, taken))).counts
        whole = await go(partial(opened.store.counts, into.id))
        report = {
            "batch": f"{tenant}/{into.name}",
            **summary(counts),
            "whole_batch": summary(whole),
            "seconds": round(time.monotonic() - began, 2),
            "out": str(out_folder(opened, tenant, into.name)),
            "files": [_line(t, rows, every=wait) for t in taken],
            "passed_over": [_passed(w) for w in passed],
        }
        if json:
            terminal.print_json(report)
        else:
            _print_passed(passed)
            _print_taken(report)
            if wait:
                _print_next(report)
        if not wait and counts.live and not await workers_up(opened):
            terminal.err.print(NOBODY)
        return _code(taken, counts, wait)

    raise typer.Exit(run_app(main))


async def _open_batch(
    opened: App, tenant: str, name: str, due_s: float | None, usual_s: float
) -> Batch:
    """
    The batch to take files into, made when it is new.

    Raises:
        Conflict: DEADLINE_DIFFERS, a deadline was asked for and it has another.
    """
    wanted_s = usual_s if due_s is None else due_s
    into = await opened.store.open_batch(tenant, name or today(), deadline_s=wanted_s)
    left_s = (into.deadline_at - datetime.now(UTC)).total_seconds()
    if due_s is not None and abs(left_s - due_s) > SAME_S:
        called = f"{into.tenant}/{into.name}"
        raise Conflict(
            f"batch {called} is due {into.deadline_at:%Y-%m-%d %H:%M %Z}, not then",
            code="DEADLINE_DIFFERS",
            hint="take them into another batch (--batch), or move this one's: "
            f"waybill batches set {called} --deadline …",
        )
    return into


def _code(taken: Sequence[Taken], counts: Counts, wait: bool) -> int:
    """The exit code: what this call brought in, and whether it brought anything."""
    code = exit_code(counts) if wait else 0
    if wait and counts.live and not code:
        code = WITH_HELD  # for a signal, from a person or a service
    if not code and any(t.receipt is None for t in taken):
        return LEFT
    refused = [t.receipt and t.receipt.disposal is Disposal.QUARANTINED for t in taken]
    return WITH_FAILED if not code and all(refused) else code


async def _of_this_call(opened: App, taken: Sequence[Taken]) -> Family:
    """What this call brought in."""
    receipts = {t.candidate.identity: t.receipt for t in taken if t.receipt}
    kinds = Counter(r.disposal for r in receipts.values())
    family = await opened.store.family(_items(taken, Disposal.ITEM))
    counts = family.counts
    twice, refused = kinds[Disposal.DUPLICATE], kinds[Disposal.QUARANTINED]
    counts = counts._replace(
        received=counts.received + twice + refused,
        duplicates=counts.duplicates + twice,
        quarantined=counts.quarantined + refused,
    )
    return family._replace(counts=counts)


def _items(taken: Sequence[Taken], disposal: Disposal) -> list[ItemId]:
    found = [t.receipt for t in taken if t.receipt and t.receipt.disposal is disposal]
    return sorted({r.item_id for r in found if r.item_id is not None})


async def _take(
    opened: App, files: Sequence[Candidate], into: Batch, pipeline_id: int, go: Going
) -> list[Taken]:
    """In slices, so that somebody who waits sees something."""
    folders = opened.folders()
    ours_now = set[str]()  # received by this call, whatever a second look says

    async def prepare() -> None:
        with ours("the home folder", opened.settings.home):
            for folder in (folders.archive, folders.quarantine, folders.scratch):
                folder.mkdir(parents=True, exist_ok=True)

    async def take(part: Sequence[Candidate]) -> list[Taken]:
        answers = await admission.take(part, into, pipeline_id, archive=False)
        answers = [_first(answer, ours_now) for answer in answers]
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


def _first(answer: Taken, ours_now: set[str]) -> Taken:
    """Of a file that this call received before it was looked at again: no `again`."""
    receipt, key = answer.receipt, answer.candidate.identity
    if receipt is None:
        return answer
    if not receipt.again:
        ours_now.add(key)
    elif key in ours_now:
        return replace(answer, receipt=replace(receipt, again=False))
    return answer


async def _finish(opened: App, batch_id: int, taken: list[Taken]) -> None:
    """Work until nothing of this call moves on without a person."""
    moves = True

    async def count() -> Counts:
        nonlocal moves
        family = await _of_this_call(opened, taken)
        moves = family.moves
        return family.counts

    board = Board(opened, batch_id, len(taken), count)
    known = _items(taken, Disposal.DUPLICATE)

    async def done() -> bool:
        await board.look()
        if moves:
            return False
        return not known or not (await opened.store.family(known)).moves

    with board.show():
        await work_until(opened, done)


async def _rows(
    opened: App, taken: Sequence[Taken], *, every: bool
) -> dict[int, ItemRow]:
    """The items of files; unless `every`, of those that were known before."""
    receipts = [t.receipt for t in taken if t.receipt is not None]
    ids = sorted({r.item_id for r in receipts if r.item_id and (every or _is_known(r))})
    rows: dict[int, ItemRow] = {}
    for at in range(0, len(ids), SLICE):
        rows |= await opened.store.rows(ids[at : at + SLICE])
    return rows


def _is_known(receipt: Receipt) -> bool:
    return receipt.again or receipt.disposal is Disposal.DUPLICATE


def _line(taken: Taken, rows: Mapping[int, ItemRow], *, every: bool) -> dict[str, Any]:
    """What became of a file; of known bytes, or of `every` one, also of its item."""
    receipt = taken.receipt
    item = receipt.item_id if receipt else None
    row = rows.get(item or 0) if receipt and (every or _is_known(receipt)) else None
    ended = taken.refusal or row
    return {
        "name": taken.candidate.name,
        "disposal": receipt.disposal.value if receipt else "left",
        "item": item,
        "known": bool(receipt and _is_known(receipt)),
        "state": row.state.value if row else "",
        "batch": f"{row.tenant}/{row.batch}" if row else "",
        "code": taken.code or (ended.code if ended else ""),
        "why": taken.why or (ended.why if ended else ""),
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
        elif line["state"] and line["state"] != State.DONE:
            text = f"{line['state']}: {line['name']} {line['code']} {line['why']}"
        else:
            continue
        terminal.err.print(terminal.safe(text.rstrip()))
    if report["quarantined"]:
        look = f"waybill quarantine ls --batch {shlex.quote(report['batch'])}"
        todo = f"`{look}` says where they lie; mended, offer them again"
        terminal.err.print(terminal.safe(todo))
    rows = [[report["batch"], *(report[word] for word in Counts._fields)]]
    whole = report["whole_batch"]
    if any(whole[word] != report[word] for word in Counts._fields):
        rows[0][0] = "this call"
        rows.append([report["batch"], *(whole[word] for word in Counts._fields)])
    terminal.print_table(["", *Counts._fields], rows)


def _print_next(report: dict[str, Any]) -> None:
    """Where the files lie, and what to do now."""
    me, batch = terminal.command(), shlex.quote(report["batch"])
    lines = {"out": report["out"]} if report["done"] else {}
    if report["held"]:
        lines["held"] = f"{report['held']} for you: {me} review next"
    for state in (State.REJECTED, State.FAILED):
        named = sum(line["state"] == state for line in report["files"])
        if report[state] > named:  # parts of a bundle: no file of this call
            look = f"{me} items ls --batch {batch} --state {state}"
            lines[state] = f"{report[state] - named} found in other files: {look}"
    if report["live"]:
        lines["waits"] = f"{report['live']} for a signal: {me} items ls --code SIGNAL"
    lines["table"] = f"{me} export {batch} --to results.csv"
    for word, line in lines.items():
        terminal.err.print(f"{word:9}{terminal.safe(line)}", soft_wrap=True)


def _passed(waiting: Waiting) -> dict[str, Any]:
    return {"name": visible(waiting.relative), "code": waiting.code, "why": waiting.why}


def _print_passed(passed: Sequence[Waiting]) -> None:
    """What a folder holds beside files to take; of very much the beginning."""
    for line in map(_passed, passed[:PASSED_MAX]):
        text = f"passed over: {line['name']} {line['code']} {line['why']}"
        terminal.err.print(terminal.safe(text), soft_wrap=True)
    if len(passed) > PASSED_MAX:
        terminal.err.print(f"passed over: {len(passed) - PASSED_MAX} more")
