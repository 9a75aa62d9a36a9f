"""
`waybill demo`: forty letters, from the inbox to printed replies, in a minute; with
`--pipeline contracts` eight contracts, from the inbox to records and abstracts, and
with `--pipeline quotes` ten requests, from the inbox to quotes, by a simulated ERP.

Everything is real: the embedded PostgreSQL, the watcher, tesseract, the typesetter.
The documents are generated.  Killed in the middle, the next call goes on with what
the last one received and lost nothing.
"""

from __future__ import annotations

import json as jsonlib
import shlex
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import anyio
import typer

from ingest.watch.watcher import Pace
from pipeline.artifacts.durable import write_atomically
from pipeline.errors import Usage
from pipeline.holds.parking import whole
from pipeline.holds.ruling import ANSWERED_BY
from pipeline.names import number_in
from pipeline.outbox import EffectState
from pipeline.store.rows import Counts, HoldRow
from waybill import terminal
from waybill.board import Board
from waybill.commands.counts import exit_code, law, outside, summary
from waybill.commands.options import Json
from waybill.commands.run import log_to_home, run_async
from waybill.commands.shows import SHOWS, Played
from waybill.compose import App, open_app
from waybill.database import database
from waybill.foreground import work_until
from waybill.manifest import out_folder, write_manifest
from waybill.settings import read_settings

LIMIT_S = 900.0  # a stuck demo says so instead of hanging
LATE = 6  # exit code of such a one
TELL_S = 5.0  # for who interrupted it, and waits
FAILURES_MAX = 20  # named


def demo(
    pipeline: Annotated[
        str, typer.Option(help=f"What to show: {', '.join(SHOWS)}.")
    ] = "letters",
    seed: Annotated[int, typer.Option(help="Other documents.")] = 1,
    json: Json = False,
) -> None:
    """Make 40 letters, 8 contracts or 10 requests, run them through, show the end."""
    if pipeline not in SHOWS:
        raise Usage(f"there is no demo of {pipeline!r}", hint=", ".join(SHOWS))
    settings = read_settings()
    log_to_home(settings)
    say("starting PostgreSQL")
    urls = database(settings)

    number, begun = _current(settings.home / "demo", pipeline)
    with ExitStack() as stack:
        played = Played()
        if (world := SHOWS[pipeline].world) is not None:
            folder = settings.home.resolve() / "demo" / str(number)
            played = stack.enter_context(world(folder))
            settings = settings.model_copy(update={"vendors": played.vendors})

        async def main() -> dict[str, Any]:
            async with open_app(settings, urls) as opened:
                return await run(opened, pipeline, seed, number, begun)

        result = run_async(main)
    result["vendors"] = str(played.vendors or "")
    result["world"] = played.again
    code = result.pop("exit")
    if json:
        terminal.print_json(result)
    else:
        report(result)
    raise typer.Exit(code)


def say(text: str) -> None:
    """One line of progress on stderr."""
    terminal.err.print(f"[dim]{terminal.safe(text)}[/dim]")


async def run(
    opened: App, pipeline: str, seed: int, number: int, begun: bool
) -> dict[str, Any]:
    """The demo itself; returns what `--json` prints, and the exit code."""
    show = SHOWS[pipeline]
    tenant = f"demo-{number}"
    folder = opened.settings.home / "demo" / str(number)
    folders = opened.folders(inbox=folder / "inbox", beside=folder)
    if begun:
        say(f"going on with {tenant}, which was interrupted")
    else:
        say(f"making {show.files} {show.what}")
        _drop(folder, folders.inbox / tenant / pipeline / pipeline, pipeline, seed)
    started = time.monotonic()
    _, loaded = await opened.publish(pipeline)
    batch = await opened.store.open_batch(
        tenant, pipeline, deadline_s=loaded.deadline_s
    )
    watcher = opened.watcher(folders, Pace(rescan_s=0.5, settle_s=0.3))
    board = Board(opened, batch.id, show.files)

    async def done() -> bool:
        counts = await board.look()
        if time.monotonic() - started > LIMIT_S:
            return True
        ended = counts.received >= show.files and counts.live == 0
        # Whoever is played for the demo alone is there until all is done outside too.
        return ended and (show.world is None or await _all_sent(opened, batch.id))

    say(f"{show.does} them (tenant {tenant})")
    try:
        with board.show():
            await work_until(opened, done, beside=[watcher.run])
    except anyio.get_cancelled_exc_class():
        with anyio.move_on_after(TELL_S, shield=True):
            counts = await opened.store.counts(batch.id)
            for line in stopped(counts, pipeline, "it was interrupted"):
                terminal.err.print(terminal.safe(line), soft_wrap=True)
        raise
    counts = await opened.store.counts(batch.id)
    stuck = counts.received < show.files or counts.live > 0
    if not stuck:
        write_atomically(folder / "finished", b"")
    manifest = await write_manifest(opened, batch.id)
    return {
        **summary(counts),
        "batch": f"{tenant}/{pipeline}",
        "seconds": round(time.monotonic() - started, 1),
        "out": str(out_folder(opened, tenant, pipeline)),
        "manifest": str(manifest),
        "made": show.made,
        "documents": show.files,
        "pipeline": pipeline,
        "stopped": f"it came to no end in {LIMIT_S:g} s" if stuck else "",
        "holds": await _holds(opened, tenant),
        "failures": await _ended(opened, batch.id, "failed"),
        "rejections": await _ended(opened, batch.id, "rejected"),
        "effects": outside(await opened.store.count_effects(batch.id)),
        "quarantine": [
            {"name": r.name, "code": r.code}
            for r in await opened.store.quarantined(batch_id=batch.id)
        ],
        "exit": LATE if stuck else exit_code(counts),
    }


def _current(home: Path, pipeline: str) -> tuple[int, bool]:
    """The number of this demo, and whether it goes on with an interrupted one."""
    home.mkdir(parents=True, exist_ok=True)
    numbers = sorted(n for p in home.iterdir() if (n := number_in(p.name)) is not None)
    if not numbers:
        return 1, False
    last = home / str(numbers[-1])
    if (last / "finished").exists() or _shows(last) != pipeline:
        return numbers[-1] + 1, False
    # Interrupted before all files were dropped: drop them again, as new ones.
    return numbers[-1], (last / "dropped").exists()


def _shows(folder: Path) -> str:
    """Of which pipeline a demo is."""
    path = folder / "pipeline"
    return path.read_text() if path.exists() else "letters"


def _drop(folder: Path, inbox: Path, pipeline: str, seed: int) -> None:
    """Make the documents beside the inbox, then move them in."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "pipeline", pipeline.encode())
    files = SHOWS[pipeline].make(folder / "made", seed)
    inbox.mkdir(parents=True, exist_ok=True)
    for file in files:
        file.path.replace(inbox / file.path.name)
    write_atomically(
        folder / "dropped",
        jsonlib.dumps({f.path.name: f.expect for f in files}).encode(),
    )


# What is told of a need beside a text.
GIVEN = {"answer_by": "person"}


async def _holds(opened: App, tenant: str) -> list[dict[str, Any]]:
    rows = await opened.store.holds(tenant=tenant)
    return [
        {
            "hold": f"h{h.id}",
            "item": h.item_id,
            "code": h.code,
            "name": h.item_name,
            "needs": h.needs,
            "role": h.role,
            "answer": _answer_of(h),
        }
        for h in [await whole(h, opened.artifacts) for h in rows]
    ]


def _answer_of(hold: HoldRow) -> dict[str, str]:
    """What a hold says of how it is answered: channels or keys of them, and values."""
    shown = hold.shown if isinstance(hold.shown, dict) else {}
    evidence = shown.get("evidence")
    answer = evidence.get("answer") if isinstance(evidence, dict) else None
    return {str(k): str(v) for k, v in answer.items()} if answer else {}


async def _all_sent(opened: App, batch: int) -> bool:
    """Whether every effect was sent."""
    counts = await opened.store.count_effects(batch)
    return not any(s in (EffectState.PLANNED, EffectState.SENDING) for _, s in counts)


async def _ended(opened: App, batch: int, state: str) -> list[dict[str, Any]]:
    """Items that failed, or were rejected, and why."""
    rows = await opened.store.items(state=state, batch_id=batch, limit=FAILURES_MAX)
    return [{"item": r.id, "code": r.code, "name": r.name, "why": r.why} for r in rows]


def stopped(counts: Counts, pipeline: str, why: str) -> list[str]:
    """What a demo that stopped early has done, and what goes on with it."""
    ended = counts.received - counts.live
    me = terminal.command()
    return [
        f"stopped: {why}, with {ended} of {counts.received} items at their end",
        f"nothing is lost: `{me} demo --pipeline {pipeline}` goes on with it",
    ]


def report(result: dict[str, Any]) -> None:
    """The summary a person reads: what came out, and what to do now."""
    counts = Counts(*(result[name] for name in Counts._fields))
    terminal.out.print()
    left, right = law(counts, zeros=False)
    terminal.out.print(f"[bold]{left}[/bold] {right}")
    if parts := counts.received - result["documents"]:
        of = f"{result['documents']} documents, read by {parts} children"
        terminal.out.print(of)
    terminal.out.print(f"in {result['seconds']} s, everything included")
    terminal.out.print(f"\n{result['made']:11} {terminal.safe(result['out'])}")
    terminal.out.print(f"manifest    {terminal.safe(result['manifest'])}")
    for refused in result["quarantine"]:
        line = f"{refused['code']}  {refused['name']}"
        terminal.out.print(f"quarantine  {terminal.safe(line)}")
    for failed in result["failures"]:
        line = f"{failed['code']}  {failed['name']}  {failed['why']}"
        terminal.out.print(f"failed      {terminal.safe(line)}", soft_wrap=True)
    for ended in result["rejections"] if result["world"] else ():
        line = f"{ended['code']}  {ended['name']}  {ended['why']}"
        terminal.out.print(f"refused     {terminal.safe(line)}", soft_wrap=True)
    for done in result["effects"]:
        line = f"{done['sink']}: {done['effects']} {done['state']}"
        terminal.out.print(f"outside     {terminal.safe(line)}")
    for hold in result["holds"]:
        line = f"{hold['hold']}  {hold['code']}  {hold['name']}"
        terminal.out.print(f"held        {terminal.safe(line)}")
    terminal.out.print()
    me = terminal.safe(terminal.command())
    if result["stopped"]:
        for line in stopped(counts, result["pipeline"], result["stopped"]):
            terminal.out.print(terminal.safe(line), soft_wrap=True)
        terminal.out.print(f"  {me} items ls --batch {terminal.safe(result['batch'])}")
    if result["failures"]:
        terminal.out.print("why, and once more:")
        for failed in result["failures"]:
            terminal.out.print(f"  {me} items why {failed['item']}")
            terminal.out.print(f"  {me} items retry {failed['item']}")
    if not result["holds"]:
        terminal.out.print("nothing is held for a person; what was read of each:")
        terminal.out.print(f"  {me} items ls --batch {terminal.safe(result['batch'])}")
    else:
        if result["world"]:
            terminal.out.print("the ERP was simulated; play it again, beside you:")
            world = f"  {terminal.safe(result['world'])}"
            terminal.out.print(world, soft_wrap=True)
        terminal.out.print("be the reviewer:")
        for hold in result["holds"]:
            name = hold["hold"]
            verb = "approve " + name
            if hold["code"] in ANSWERED_BY:
                verb = ANSWERED_BY[hold["code"]].format(name[1:]).partition(",")[0]
            elif hold.get("answer"):
                pairs = hold["answer"].items()
                sets = [f"--set {shlex.quote(f'{k}={v}')}" for k, v in pairs]
                verb = f"edit {name} {' '.join(sets)}"
            elif hold["needs"]:
                given = GIVEN.get(hold["needs"][0], '"what you read"')
                verb = f"edit {name} --set {hold['needs'][0]}={given}"
            role = f"WAYBILL_ROLES={hold['role']} " * bool(hold["role"])
            if result["vendors"]:
                role += f"WAYBILL_VENDORS={terminal.safe(result['vendors'])} "
            terminal.out.print(f"  {me} review show {name}")
            line = f"  {role}{me} review {terminal.safe(verb)}"
            terminal.out.print(line, soft_wrap=True)
