"""Items, batches and quarantine: what became of every file."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.errors import Integrity, Usage
from pipeline.model import Checkpoint, State
from pipeline.store.port import ItemRow
from pipeline.store.postgres.reports import STATES, Event, RefusedRow
from waybill import terminal
from waybill.board import summary, work_until
from waybill.commands.run import Json, app, run_app
from waybill.compose import App
from waybill.desk.pages import Pages, pages_of, print_pages
from waybill.desk.people import whoami
from waybill.manifest import out_folder

items = typer.Typer(help="Documents on their way.", no_args_is_help=True)
batches = typer.Typer(help="What was submitted together.", no_args_is_help=True)
quarantine = typer.Typer(help="Files that could not be taken.", no_args_is_help=True)

Limit = Annotated[int, typer.Option(min=1, max=10_000, help="Rows at most.")]
LAST = 2**63 - 1  # what the database can count to
Number = Annotated[int, typer.Argument(min=1, max=LAST, help="Item number.")]
Numbers = Annotated[list[int], typer.Argument(min=1, max=LAST, help="Item numbers.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@items.command("ls")
def items_ls(
    state: Annotated[str, typer.Option(help=", ".join(STATES))] = "",
    batch: Annotated[str, typer.Option(help="Number, name or TENANT/NAME.")] = "",
    tenant: Annotated[str, typer.Option()] = "",
    parent: Annotated[
        int, typer.Option(min=0, max=LAST, help="Found in this item.")
    ] = 0,
    limit: Limit = 50,
    json: Json = False,
) -> None:
    """Items, newest first."""
    if state and state not in STATES:
        raise Usage(f"no state {state!r}", hint=f"one of {', '.join(STATES)}")

    async def main(opened: App) -> list[ItemRow]:
        number = (await opened.store.find_batch(batch)).id if batch else None
        return await opened.store.items(
            state=state or None,
            batch_id=number,
            tenant=tenant or None,
            parent=parent or None,
            limit=limit,
        )

    rows = run_app(main)
    if json:
        terminal.print_json(rows)
        return
    terminal.print_table(
        ["item", "state", "stage", "since", "due", "code", "batch", "name"],
        (
            [
                r.id,
                r.state.value,
                r.stage,
                terminal.ago(r.since),
                terminal.due(r.deadline_at) if r.state in LIVE else "",
                r.code,
                f"{r.tenant}/{r.batch}",
                r.name,
            ]
            for r in rows
        ),
    )


MOVING = (State.READY, State.RUNNING, State.WAITING)
LIVE = (*MOVING, State.HELD)


@items.command("show")
def items_show(
    item: Number,
    at: Annotated[str, typer.Option(help="Its state after this stage.")] = "",
    pages: Annotated[
        bool, typer.Option("--pages", help="What became of each page.")
    ] = False,
    json: Json = False,
) -> None:
    """One item: where it is, what it holds, and everything that happened."""

    async def main(opened: App) -> dict[str, Any]:
        row = await opened.store.item(item)
        history = (await opened.store.history([item]))[item]
        state = await _state(opened, item, history, at)
        return {
            "item": row,
            "children": await opened.store.children(item),
            "pages": await pages_of(state, history, opened.artifacts),
            "state": state,
            "timeline": await opened.store.timeline(item),
        }

    found = run_app(main)
    if json:
        terminal.print_json(found)
        return
    row: ItemRow = found["item"]
    _print_facts(row, found["children"], found["pages"])
    if found["pages"] and (pages or found["pages"].doubtful):
        print_pages(found["pages"])
    terminal.out.rule("state" + (f" after {at}" if at else ""), align="left")
    for name, value in found["state"].items():
        text = value if isinstance(value, str) else jsonlib.dumps(value)
        terminal.out.print(f"[bold]{terminal.safe(name)}[/bold]")
        terminal.out.print("  " + terminal.safe(text[:2000], lines=True), style="dim")
    terminal.out.rule("timeline", align="left")
    events: list[Event] = found["timeline"]
    terminal.print_table(
        ["at", "event", "stage", "detail", "took"],
        (
            [
                terminal.clock(e.at),
                e.event,
                e.stage,
                e.detail,
                "" if e.took_s is None else f"{e.took_s:.2f} s",
            ]
            for e in events
        ),
    )


def _print_facts(row: ItemRow, children: dict[str, int], pages: Pages | None) -> None:
    head = f"item {row.id}  {row.state.value}  at {row.stage or '-'}"
    terminal.out.print(terminal.safe(head), style="bold")
    terminal.out.print(
        terminal.safe(
            f"{row.name}  ·  {row.tenant}/{row.batch}  ·  received "
            f"{terminal.clock(row.received_at)}  ·  due in "
            f"{terminal.due(row.deadline_at)}"
        )
    )
    if row.code or row.why:
        terminal.out.print(terminal.safe(f"{row.code} {row.why}".strip()))
    if row.parent_id is not None:
        terminal.out.print(f"found in item {row.parent_id}")
    if children:
        told = ", ".join(f"{n} {state}" for state, n in children.items())
        terminal.out.print(f"{sum(children.values())} children: {told}")
    if pages is not None:
        terminal.out.print(f"pages {pages.done} of {pages.total}")


async def _state(
    opened: App, item: int, history: Sequence[Checkpoint], at: str
) -> dict[str, Any]:
    """The fold of the item's checkpoints, to the end or to after stage `at`."""
    pipeline_id, facts = await opened.store.facts(item)
    pipeline = await opened.catalogue.get(pipeline_id, opened.store)
    if at and at not in pipeline.stages:
        raise Usage(
            f"the pipeline {pipeline.name} has no stage {at!r}",
            hint=f"its stages: {', '.join(pipeline.stages)}",
        )
    updates = []
    for c in history:
        if c.step is not None:
            continue
        text = c.update
        if text is None and c.ref is not None:
            text = (await opened.artifacts.get(c.ref)).decode()
        updates.append(text or "{}")
        if c.stage == at:
            break
    state = pipeline.channels.fold(jsonlib.loads(facts), updates)
    return state.model_dump(mode="json", exclude_defaults=True)


@items.command("why")
def items_why(item: Number, json: Json = False) -> None:
    """One paragraph: where it is, what it waits for, what you can do."""

    async def main(opened: App) -> dict[str, Any]:
        row = await opened.store.item(item)
        ahead = await opened.store.ahead(item) if row.state is State.READY else 0
        alive = [s for s in await opened.store.sessions() if s.left_s > 0]
        hold = None
        if row.state is State.HELD:
            hold = (await opened.store.hold_of(item)).id
        children = await opened.store.children(item) if row.joining else {}
        text = explain(row, ahead, len(alive), hold, children)
        return {"item": item, "state": row.state, "code": row.code, "why": text}

    found = run_app(main)
    if json:
        terminal.print_json(found)
    else:
        terminal.out.print(terminal.safe(found["why"]))


def explain(
    row: ItemRow,
    ahead: int,
    workers: int,
    hold: int | None,
    children: Mapping[str, int] | None = None,
) -> str:
    """Why an item is where it is; `children` are those it waits for, by state."""
    children = children or {}
    late = row.deadline_at < datetime.now(UTC)
    where = f"Item {row.id} is {row.state.value}"
    match row.state:
        case State.READY:
            line = f"{ahead} of its tenant's items come before it"
            who = f"{workers} workers are up" if workers else "no worker is up"
            do = "" if workers else " Start `waybill up` or `waybill worker`."
            text = f"{where} for {row.stage}: {line}, and {who}.{do}"
        case State.RUNNING:
            text = f"{where}: stage {row.stage}, since {terminal.ago(row.since)}."
        case State.WAITING if row.joining:
            still = sum(n for state, n in children.items() if state in LIVE)
            text = (
                f"{where} before {row.stage}: it waits for {still} of "
                f"{sum(children.values())} children. "
                f"Look: `waybill items ls --parent {row.id}`."
            )
        case State.WAITING:
            until = terminal.due(row.until) if row.until else "?"
            text = (
                f"{where} before {row.stage} because of {row.why or 'its own wish'}; "
                f"it goes on in {until}, after {row.attempt} charged attempts."
            )
        case State.HELD:
            text = (
                f"{where} at {row.stage} for a person: {row.code} {row.why} "
                f"Look: `waybill review show h{hold}`."
            )
        case State.DONE:
            return f"{where}, since {terminal.clock(row.since)}."
        case _:
            return (
                f"{where} at {row.stage}: {row.code} {row.why} "
                f"`waybill items retry {row.id}` puts it back in line."
            )
    return text + (" Its deadline is over." if late else "")


@items.command("retry")
def items_retry(
    item: Numbers = [],  # noqa: B006
    state: Annotated[str, typer.Option(help="All that are: failed, rejected …")] = "",
    batch: Annotated[str, typer.Option(help="Only of this batch.")] = "",
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Put failed, rejected or cancelled items back in line where they ended."""
    _move(item, state, batch, yes, json, "retry")


@items.command("cancel")
def items_cancel(
    item: Numbers = [],  # noqa: B006
    state: Annotated[str, typer.Option(help="All that are: ready, held …")] = "",
    batch: Annotated[str, typer.Option(help="Only of this batch.")] = "",
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Cancel items that are not finished; a running one stops within 2 s."""
    _move(item, state, batch, yes, json, "cancel")


def _move(
    chosen: list[int], state: str, batch: str, yes: bool, json: bool, verb: str
) -> None:
    if not chosen and not state and not batch:
        raise Usage(f"nothing to {verb}", hint="name items, or --state and --batch")
    if state and state not in STATES:
        raise Usage(f"no state {state!r}", hint=f"one of {', '.join(STATES)}")

    async def main(opened: App) -> dict[int, str]:
        ids = list(chosen)
        if state or batch:
            number = (await opened.store.find_batch(batch)).id if batch else None
            rows = await opened.store.items(
                state=state or None, batch_id=number, limit=1_000_000
            )
            ids += [r.id for r in rows]
        for one in chosen:
            await opened.store.item(one)  # says which one does not exist
        if len(ids) > 1 and not yes:
            terminal.err.print(f"{verb} {len(ids)} items?")
            if not typer.confirm("go on", err=True):
                raise typer.Exit(2)
        act = opened.store.retry if verb == "retry" else opened.store.cancel
        return await act(ids, whoami())

    said = run_app(main)
    if json:
        terminal.print_json(said)
    else:
        terminal.print_table(["item", "is"], said.items())


@batches.command("ls")
def batches_ls(limit: Limit = 50, json: Json = False) -> None:
    """Batches with their counts, newest first."""

    async def main(opened: App) -> list[dict[str, Any]]:
        found = []
        for b in await opened.store.batches(limit=limit):
            counts = await opened.store.counts(b.id)
            found.append({**b._asdict(), **summary(counts)})
        return found

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
    batch: Annotated[str, typer.Argument(help="Number, name or TENANT/NAME.")],
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
    terminal.print_table(
        ["stage", "ready", "running", "waiting", "held"], found["stages"]
    )


@batches.command("reconcile")
def batches_reconcile(
    batch: Annotated[str, typer.Argument(help="Default: everything.")] = "",
    json: Json = False,
) -> None:
    """Check the conservation law; exit 8 when something is missing."""

    async def main(opened: App) -> dict[str, Any]:
        number = (await opened.store.find_batch(batch)).id if batch else None
        counts = await opened.store.counts(number)
        astray = await opened.store.astray(number)
        return {**summary(counts), "astray": astray}

    found = run_app(main)
    broken = not found["conserved"] or found["astray"]
    if json:
        terminal.print_json(found)
    else:
        terms = [k for k in found if k not in ("received", "conserved", "astray")]
        told = " + ".join(f"{found[t]} {t}" for t in terms)
        sign = "=" if found["conserved"] else "≠"
        terminal.out.print(f"{found['received']} received {sign} {told}")
    if broken and json:
        raise typer.Exit(Integrity.exit_code)
    if broken:
        raise Integrity(
            f"the law is broken; astray: {found['astray'] or 'none'}",
            code="NOT_CONSERVED",
            hint="`waybill items show` each; nothing was deleted",
        )


@quarantine.command("ls")
def quarantine_ls(
    batch: Annotated[str, typer.Option(help="Only of this batch.")] = "",
    limit: Limit = 50,
    json: Json = False,
) -> None:
    """Files that could not be taken, and why."""

    async def main(opened: App) -> list[RefusedRow]:
        number = (await opened.store.find_batch(batch)).id if batch else None
        rows = await opened.store.quarantined(batch_id=number, limit=limit)
        home = opened.settings.home
        return [r._replace(kept_at=_kept(home, r.kept_at)) for r in rows]

    rows = run_app(main)
    if json:
        terminal.print_json(rows)
        return
    terminal.print_table(
        ["at", "batch", "name", "code", "why", "kept at"],
        (
            [
                terminal.clock(r.at),
                f"{r.tenant}/{r.batch}",
                r.name,
                r.code,
                r.why,
                _short(r.kept_at),
            ]
            for r in rows
        ),
    )


def _kept(home: Path, kept_at: str) -> str:
    """The whole path of a quarantined file; a demo keeps its own."""
    for root in (home, *sorted(home.glob("demo/*"))):
        path = root / "quarantine" / kept_at
        if path.exists():
            return str(path)
    return kept_at


def _short(path: str) -> str:
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path


async def finish_here(opened: App, item: int) -> None:
    """Work in this process until the item, and what waits for it, stop moving."""

    async def done() -> bool:
        at: int | None = item
        while at is not None:
            row = await opened.store.item(at)
            parked = row.joining and await opened.store.open_children(at) > 0
            if row.state in MOVING and not parked:
                return False
            at = row.parent_id
        return True

    await work_until(opened, done)


app.add_typer(items, name="items")
app.add_typer(batches, name="batches")
app.add_typer(quarantine, name="quarantine")
