"""`waybill items`: where each is, why, and putting it back or ending it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

import typer

from pipeline.errors import Conflict, Usage
from pipeline.model import State
from pipeline.store.outside import Spent
from pipeline.store.rows import AttemptRow, Event, Found, ItemRow
from waybill import terminal
from waybill.commands.made import print_conversations, print_made, print_signals
from waybill.commands.options import (
    LAST,
    AnItem,
    AtStage,
    Called,
    Header,
    InBatch,
    InState,
    Json,
    Limit,
    Numbers,
    OfPipeline,
    OfTenant,
    Since,
    WithCode,
    Yes,
    batch_id,
    check_state,
    find_item,
    sought,
)
from waybill.commands.run import run_app
from waybill.commands.spending import (
    CALL_COLUMNS,
    budget_json,
    call_json,
    call_row,
    cost_line,
    purse_json,
    purse_line,
    spent_json,
)
from waybill.commands.tree import print_tree, tree_json
from waybill.compose import App
from waybill.desk.conversations import conversations_of
from waybill.desk.mended import SENTENCES, bring_on
from waybill.desk.pages import Pages, pages_of
from waybill.desk.state import shown, state_of
from waybill.desk.why import LIVE, explain, reasons
from waybill.foreground import workers_up
from waybill.health import NOBODY

items = typer.Typer(help="Documents on their way.", no_args_is_help=True)

ITEMS_MAX = 1_000_000  # moved by one call; arbitrary, and its ids fit into memory
# What somebody ended, or what a document is, is named by its state or number.
RETRIED = (State.FAILED,)
# With a mended folder: what waits for it.
BROUGHT_ON = (State.FAILED, State.HELD, State.WAITING, State.READY, State.RUNNING)
READY = SENTENCES["ready"]
PAGE = ("number", "status", "code", "confidence", "source")  # of a page, its columns


@items.command("ls")
def items_ls(
    name: Called = "",
    state: InState = "",
    code: WithCode = "",
    stage: AtStage = "",
    pipeline: OfPipeline = "",
    tenant: OfTenant = "",
    batch: InBatch = "",
    since: Since = "",
    parent: Annotated[
        int,
        typer.Option(min=0, max=LAST, show_default=False, help="Found in this item."),
    ] = 0,
    before: Annotated[
        int,
        typer.Option(
            min=1, max=LAST, show_default=False, help="Numbered below this one."
        ),
    ] = LAST,
    limit: Limit = 50,
    header: Header = False,
    json: Json = False,
) -> None:
    """Items, newest first."""
    check_state(state)
    wanted = sought(name, code, stage, pipeline, since)

    async def main(opened: App) -> Found:
        return await opened.store.find(
            state=state or None,
            batch_id=await batch_id(opened, batch),
            tenant=tenant or None,
            parent=parent or None,
            before=before,
            limit=limit,
            sought=wanted,
        )

    found = run_app(main)
    rows = found.rows
    if json:
        terminal.print_json(rows)
        if found.before and len(rows) < limit:
            terminal.err.print(f"that is not all: --before {found.before} goes on")
        return
    terminal.print_table(
        ["item", "state", "stage", "since", "due", "code", "pipeline", "batch", "name"],
        (
            [
                r.id,
                r.state.value,
                r.stage,
                terminal.ago(r.since),
                terminal.due(r.deadline_at) if r.state in LIVE else "",
                r.code,
                r.pipeline,
                f"{r.tenant}/{r.batch}",
                r.name,
            ]
            for r in rows
        ),
        header=header,
    )
    if not rows:
        asked = any(wanted) or state or batch or tenant or parent
        terminal.err.print("no item matches" if asked else "there is no item")
    if found.before:
        terminal.err.print(f"there may be more: --before {found.before}, or --limit")


@items.command("show")
def items_show(
    item: AnItem,
    at: Annotated[str, typer.Option(help="Its state after this stage.")] = "",
    pages: Annotated[bool, typer.Option("--pages", help="Each page as well.")] = False,
    tree: Annotated[bool, typer.Option("--tree", help="All that it led to.")] = False,
    json: Json = False,
) -> None:
    """One item: where it is, what it holds, and everything that happened."""
    found = run_app(lambda opened: _everything(opened, item, at))
    if json:
        money = {
            "calls": [call_json(call) for call in found["calls"]],
            "spent": spent_json(found["spent"]),
            "family": [budget_json(budget) for budget in found["family"]],
            "purse": found["purse"] and purse_json(found["purse"]),
            "tree": tree_json(found["tree"]),
            "conversations": [one.facts() for one in found["conversations"]],
        }
        terminal.print_json({**found, **money})
        return
    _print_facts(found["item"], found["children"], found["pages"])
    _print_spent(found["spent"], [budget.spent for budget in found["family"]])
    if (purse := found["purse"]) is not None:
        terminal.say(f"its agents, with all its family, took {purse_line(purse)}")
    if found["tree"]:
        root: ItemRow = found["item"]
        head = f"{root.id} {terminal.visible(root.name)}"
        print_tree(head, root.id, found["tree"], whole=tree)
    if found["pages"] and (pages or found["pages"].doubtful):
        terminal.out.rule("pages", align="left")
        terminal.print_table(
            ("page", *PAGE[1:]), ([p[k] for k in PAGE] for p in found["pages"].read)
        )
    print_made(found)
    print_signals(found["signals"])
    print_conversations(found["conversations"])
    terminal.out.rule("state" + (f" after {at}" if at else ""), align="left")
    for name, value in found["state"].items():
        text = value if isinstance(value, str) else terminal.compact(value)
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
    if found["calls"]:
        terminal.out.rule("calls, newest first", align="left")
        terminal.print_table(CALL_COLUMNS, map(call_row, found["calls"]))
    if found["failures"]:
        _print_failures(found["failures"])


async def _everything(opened: App, item: str, at: str) -> dict[str, Any]:
    number = await find_item(opened, item)
    row = await opened.store.item(number)
    history = (await opened.store.history([number]))[number]
    state = shown((await state_of(opened, number, history, at))[1])
    return {
        "item": row,
        "children": await opened.store.children(number),
        "pages": await pages_of(state, history, opened.artifacts),
        "conversations": await conversations_of(history, opened.artifacts),
        "products": [
            {**p._asdict(), "path": str(opened.artifacts.path(p.artifact))}
            for p in await opened.store.products(number)
        ],
        "state": state,
        "effects": await opened.store.effects(item_id=number),
        "signals": await opened.store.signals(number),
        "timeline": await opened.store.timeline(number),
        "failures": await opened.store.failures(number),
        "calls": await opened.store.calls_of(number),
        "spent": await opened.store.spent(item=number),
        "family": await opened.store.budget(f"item/{number}"),
        "purse": await opened.store.purse(number),
        "tree": await opened.store.tree(number),
    }


def _print_failures(failures: Sequence[AttemptRow]) -> None:
    terminal.out.rule("failed attempts, newest first", align="left")
    for one in failures:
        head = f"{terminal.clock(one.at)} {one.stage}, attempt {one.attempt + 1}: "
        terminal.out.print(terminal.safe(head + f"{one.code} {one.message}"))
        for frame in one.frames:
            terminal.out.print(terminal.safe(f"  {frame}"), style="dim")


def _print_facts(row: ItemRow, children: dict[str, int], pages: Pages | None) -> None:
    head = f"item {row.id}  {row.state.value}  at {row.stage or '-'}"
    terminal.out.print(terminal.safe(head), style="bold")
    due = terminal.due(row.deadline_at)
    terminal.say(terminal.visible(row.name))
    terminal.say(
        f"{terminal.visible(f'{row.tenant}/{row.batch}')}  ·  received "
        f"{terminal.clock(row.received_at)}"
        + (f"  ·  {'' if due.endswith('late') else 'due in '}{due}")
        * (row.state in LIVE)
    )
    if row.code or row.why:
        terminal.say(f"{row.code} {row.why * (row.why != row.code)}".strip())
    if row.parent_id is not None:
        terminal.out.print(f"found in item {row.parent_id}")
    if children:
        where = ", ".join(f"{n} {state}" for state, n in children.items())
        terminal.out.print(f"{sum(children.values())} children: {where}")
    if pages is not None:
        terminal.out.print(f"pages {pages.done} of {pages.total}")


def _print_spent(own: Sequence[Spent], family: Sequence[Spent]) -> None:
    if own:
        terminal.say(f"spent {cost_line(own)}")
    if family != own and (called := [one for one in family if one.calls]):
        terminal.say(f"spent with all its family {cost_line(called)}")


@items.command("why")
def items_why(item: AnItem, json: Json = False) -> None:
    """Where it is, what it waits for, what failed, what you can do."""

    async def main(opened: App) -> dict[str, Any]:
        why = await reasons(opened, await find_item(opened, item))
        return {
            "item": why.row.id,
            "state": why.row.state,
            "code": why.row.code,
            "why": explain(why),
            "until": why.row.until,
            "limit": why.waits.limit,
            "failures": why.failures,
            "troubles": why.troubles,
        }

    found = run_app(main)
    if json:
        terminal.print_json(found)
    else:
        terminal.say(found["why"])


@items.command("retry")
def items_retry(
    item: Numbers = [],  # noqa: B006
    state: InState = "",
    batch: InBatch = "",
    pipeline: Annotated[
        str,
        typer.Option(
            help="With the pipeline as it stands now: current, a name or a folder."
        ),
    ] = "",
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Put failed items back in line where they ended; others by number or --state."""

    async def retry(opened: App, ids: Sequence[int]) -> dict[int, str]:
        if pipeline:
            return await bring_on(opened, ids, pipeline)
        said = await opened.store.retry(ids, opened.settings.reviewer)
        return {one: SENTENCES[word] for one, word in said.items()}

    meant = BROUGHT_ON if pipeline else RETRIED
    now, idle = _move(item, state, batch, yes, "retry", meant, retry)
    _say(now, json)
    if not now:
        of = f" of batch {batch}" if batch else ""
        nothing = f"nothing to retry: no item{of} is {state or ' or '.join(meant)}"
        terminal.err.print(terminal.safe(f"{nothing}; waybill items ls lists them"))
    moved = [word for word in now.values() if word in (READY, SENTENCES["joining"])]
    if len(moved) < len(now):
        left = f"{len(moved)} of {len(now)} are in line again"
        terminal.err.print(left + "; the others say why not")
    if moved and idle:
        terminal.err.print(NOBODY)
    if now and not moved:
        raise typer.Exit(Conflict.exit_code)


@items.command("cancel")
def items_cancel(
    item: Numbers = [],  # noqa: B006
    state: InState = "",
    batch: InBatch = "",
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Cancel unfinished items; a running one when its worker next renews its lease."""

    async def cancel(opened: App, ids: Sequence[int]) -> dict[int, str]:
        return await opened.store.cancel(ids, opened.settings.reviewer)

    _say(_move(item, state, batch, yes, "cancel", LIVE, cancel)[0], json)


def _move(
    chosen: list[int],
    state: str,
    batch: str,
    yes: bool,
    verb: str,
    meant: Sequence[State],
    act: Callable[[App, Sequence[int]], Awaitable[dict[int, str]]],
) -> tuple[dict[int, str], bool]:
    """
    Do `act` to the items chosen, or to those of a batch that are in `meant`.

    Returns:
        Per item what became of it, and whether no worker is up.
    """
    if not chosen and not state and not batch:
        raise Usage(f"nothing to {verb}", hint="name items, or --state and --batch")
    check_state(state)

    async def main(opened: App) -> tuple[dict[int, str], bool]:
        ids = list(chosen)
        if state or batch:
            number = await batch_id(opened, batch)
            for word in [state] if state else meant:
                ids += await opened.store.item_ids(
                    state=word, batch_id=number, limit=ITEMS_MAX
                )
        for one in chosen:
            await opened.store.item(one)  # says which one does not exist
        if len(ids) > 1 and not yes:
            terminal.confirm(f"{verb} {len(ids)} items?")
        now = await act(opened, list(dict.fromkeys(ids)))
        return now, not await workers_up(opened)

    return run_app(main)


def _say(now: dict[int, str], json: bool) -> None:
    if json:
        terminal.print_json(now)
    else:
        terminal.print_table(["item", "is"], now.items())
