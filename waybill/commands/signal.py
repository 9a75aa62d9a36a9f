"""`waybill signal`: an answer to an item that waits for one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ingest.signals import BYTES_MAX, deliver
from pipeline.errors import Usage
from pipeline.model import ItemId
from pipeline.store.signals import Taken
from waybill import terminal
from waybill.commands.options import AnItem, find_item
from waybill.commands.run import run_app
from waybill.compose import App
from waybill.foreground import workers_up
from waybill.health import NOBODY

SAID = {
    Taken.NOW: "it asked for that, and goes on",
    Taken.KEPT: "kept: it gets that when it asks",
    Taken.AGAIN: "that was taken before",
}


def signal(
    item: AnItem,
    name: Annotated[
        str, typer.Argument(help="What it waits for: `waybill items why` says it.")
    ],
    json: Annotated[
        str, typer.Option(help="The answer, as JSON; what became of it is JSON too.")
    ] = "",
    file: Annotated[
        str, typer.Option(help="A file with the answer, as JSON; -: stdin.")
    ] = "",
    delivery: Annotated[
        str,
        typer.Option(
            "--id", help="Of this answer: sent again it is the same, whatever it says."
        ),
    ] = "",
) -> None:
    """
    Answer an item that waits for a signal, or will.

    The first answer counts, for ever.  Sent early it is kept; the same one again is
    acknowledged; another one, or one that comes when the item has ended, is refused.
    """
    if bool(json) == bool(file):
        raise Usage("what is the answer?", hint="pass either --json or --file")
    body = json.encode("utf-8", "surrogateescape") if json else _read(file)

    async def main(opened: App) -> tuple[ItemId, Taken, list[str], bool]:
        number = await find_item(opened, item)
        taken = await deliver(
            opened.store,
            opened.artifacts,
            number,
            name,
            body,
            author=opened.settings.reviewer,
            delivery=delivery,
        )
        asked = [
            row.name
            for row in await opened.store.signals(number)
            if row.open and row.stage
        ]
        return number, taken, asked, not await workers_up(opened)

    number, taken, asked, idle = run_app(main)
    if json:
        found = {
            "item": number,
            "signal": name,
            "taken": taken.name.lower(),
            "waits": asked,
        }
        terminal.print_json(found)
    else:
        terminal.say(f"item {number}, {name}: {SAID[taken]}")
    if taken is Taken.KEPT and asked:
        said = f"what it waits for now is {', '.join(asked)}"
        terminal.err.print(terminal.safe(said))
    if idle and taken is Taken.NOW:
        terminal.err.print(NOBODY)


def _read(file: str) -> bytes:
    """What stands there; of a larger file as much as shows that it is too large."""
    try:
        if file == "-":
            return sys.stdin.buffer.read(BYTES_MAX + 1)
        with Path(file).open("rb") as opened:
            return opened.read(BYTES_MAX + 1)
    except OSError as error:
        raise Usage(
            f"{terminal.visible(file)} cannot be read: {error.strerror}"
        ) from None
