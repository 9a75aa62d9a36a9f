"""
Deciding from a command: what becomes of the item is shown, somebody is asked, the
decision is told, and the item goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pipeline.errors import NotFound
from pipeline.store.rows import HoldRow
from waybill import terminal
from waybill.commands.run import run_app
from waybill.compose import App
from waybill.desk import model, pieces
from waybill.desk.state import Change
from waybill.desk.terminal import change_lines, print_view
from waybill.foreground import finish, workers_up
from waybill.health import NOBODY
from waybill.manifest import write_manifest


class How(NamedTuple):
    """How to decide: the options that the verbs share."""

    reason: str
    digest: str
    no_run: bool
    yes: bool
    dry_run: bool
    json: bool
    next: bool


def decide(
    hold: str,
    verb: model.Verb,
    how: How,
    edits: Callable[[HoldRow], dict[str, Any]] = lambda _: {},
) -> None:
    """Rule on one hold, with these values of its channels, and tell what it led to."""

    async def main(opened: App) -> tuple[dict[str, Any], model.View | None]:
        found = await model.find(opened, hold)
        update: str | None = None
        changes: list[Change] = []
        if verb != "reject" and found.decision is None:
            update, changes = await model.becomes(opened, found, edits(found))
            if how.dry_run:
                return would_data(found, verb, changes), None
            _show_changes(f"{verb} h{found.id}", changes, how)
        decided = await model.decide(
            opened, found, verb, reason=how.reason, digest=how.digest, update=update
        )
        await settle(opened, [decided], run=not how.no_run)
        result = await model.consequence(opened, decided)
        following = await next_one(opened, how, role=found.role)
        return {**result._asdict(), "changes": changes}, following

    result, following = run_app(main)
    if how.json:
        if how.next:
            result["next"] = following and view_data(following)
        terminal.print_json(result)
    elif how.dry_run:
        for line in change_lines(result["changes"]):
            terminal.out.print(terminal.safe(line))
    else:
        terminal.err.print(
            terminal.safe(
                f"{result['hold']}: {result['verb']} by {result['author']}; "
                f"item {result['item']} is {result['state']}"
            )
        )
        if again := held_again(result):
            terminal.err.print(terminal.safe(again))
        if result["file"]:
            terminal.out.print(terminal.safe(result["file"]))
        show_next(following, how)


def held_again(result: dict[str, Any]) -> str:
    """Of an item that a decision led to another hold: which; else ""."""
    if not result["next_hold"]:
        return ""
    hold, code = result["next_hold"], result["next_code"]
    return f"it is held again: {hold} {code}; {terminal.command()} review show {hold}"


def _show_changes(what: str, changes: Sequence[Change], how: How) -> None:
    """What the item's state will be; a person at a terminal is asked."""
    if how.json:
        return
    for line in change_lines(changes):
        terminal.err.print(terminal.safe(f"  {line}"), soft_wrap=True)
    if not how.yes and sys.stdin.isatty() and sys.stderr.isatty():
        terminal.confirm(what)


# -- afterwards -----------------------------------------------------------------------


async def settle(app: App, decided: Sequence[HoldRow], *, run: bool) -> None:
    """
    Take the files of decided holds off the desk, and have their items go on.

    With no worker up, nobody would finish them: with `run` it is done here.
    """
    for hold in decided:
        pieces.put_away(app, hold)
    if not decided or await workers_up(app):
        return
    if not run:
        if any(hold.decision and hold.decision.verb != "reject" for hold in decided):
            terminal.err.print(NOBODY)
        return
    what = "it" if len(decided) == 1 else f"{len(decided)} items"
    terminal.err.print(f"no worker is up: finishing {what} here")
    await finish(app, [hold.item_id for hold in decided])
    for name in dict.fromkeys(f"{hold.tenant}/{hold.batch}" for hold in decided):
        await write_manifest(app, (await app.store.find_batch(name)).id)


async def next_one(
    app: App, how: How, tenant: str = "", role: str = ""
) -> model.View | None:
    """With `--next`, the next hold of that line, claimed; None: there is none."""
    if not how.next:
        return None
    try:
        return await model.view(app, await model.claim_next(app, tenant, role))
    except NotFound as error:
        if error.code != "NOTHING_HELD":
            raise
        return None


def show_next(view: model.View | None, how: How) -> None:
    """Draw what `next_one` gave."""
    if view is not None:
        terminal.out.rule()
        print_view(view)
    elif how.next:
        terminal.err.print("nothing else is held, or others are at it")


# -- as JSON --------------------------------------------------------------------------


def data_of(hold: HoldRow) -> dict[str, Any]:
    """A hold as JSON shows it: by its name, `h7`."""
    shown: dict[str, Any] = terminal.plain(hold)
    shown["hold"] = f"h{shown.pop('id')}"
    return shown


def view_data(view: model.View) -> dict[str, Any]:
    """What a reviewer is shown, as JSON; `files` are as `review open` writes them."""
    return {**data_of(view.hold), "files": view.pieces, "outlook": view.outlook}


def would_data(
    hold: HoldRow, verb: model.Verb, changes: Sequence[Change]
) -> dict[str, Any]:
    """What a decision would change, as JSON."""
    return {
        "hold": f"h{hold.id}",
        "verb": verb,
        "digest": hold.digest,
        "changes": changes,
    }
