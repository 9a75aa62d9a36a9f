"""`waybill effects`: what is done outside, and what a person says of it."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.effects.declared import FolderSpec
from pipeline.effects.folder import Reconciled, reconcile
from pipeline.effects.opened import folder_of
from pipeline.errors import Conflict, Integrity, NotFound, Usage, WaybillError
from pipeline.names import number_in
from pipeline.outbox import EffectState
from pipeline.store.effects import EffectRow
from waybill import terminal
from waybill.commands.options import (
    LAST,
    ABatch,
    Header,
    InBatch,
    Json,
    Limit,
    Yes,
    batch_id,
    find_batch,
)
from waybill.commands.run import run_app
from waybill.compose import App
from waybill.outside import declared_sinks, declared_vendors

effects = typer.Typer(help="What is done outside, once.", no_args_is_help=True)

WINDOW_S = 300.0
STATES = tuple(state.value for state in EffectState)
Number = Annotated[int, typer.Argument(min=1, max=LAST, help="Of the effect.")]
Numbers = Annotated[
    list[int], typer.Argument(min=1, max=LAST, help="Of effects, one or several.")
]
Which = Annotated[
    list[str], typer.Argument(help="A batch by name, or numbers of effects.")
]
Because = Annotated[str, typer.Option(help="What you have seen.")]


@effects.command("ls")
def effects_ls(
    batch: InBatch = "",
    sink: Annotated[str, typer.Option(help="Only of this sink.")] = "",
    state: Annotated[str, typer.Option(help=f"Only {', '.join(STATES)}.")] = "",
    limit: Limit = 100,
    header: Header = False,
    json: Json = False,
) -> None:
    """Effects, newest first."""
    if state and state not in STATES:
        raise Usage(f"no state {state!r}", hint=f"one of {', '.join(STATES)}")
    wanted = [EffectState(state)] if state else []

    async def main(opened: App) -> list[EffectRow]:
        number = await batch_id(opened, batch)
        return await opened.store.effects(
            batch_id=number, sink=sink, states=wanted, limit=limit
        )

    rows = run_app(main)
    if json:
        terminal.print_json(rows)
        return
    terminal.print_table(
        ["effect", "state", "sink", "name", "tries", "batch", "item", "of", "why"],
        (
            [
                *(r.id, _state(r), r.sink, r.name, r.tries),
                *(f"{r.tenant}/{r.batch}", r.item_id, r.item_name, r.why),
            ]
            for r in rows
        ),
        header=header,
    )
    if not rows:
        asked = batch or sink or state
        terminal.err.print("no effect matches" if asked else "there is no effect yet")


@effects.command("show")
def effects_show(effect: Number, json: Json = False) -> None:
    """One effect: what it says, where it stands, and how it came there."""

    async def main(opened: App) -> dict[str, Any]:
        row = await opened.store.effect(effect)
        text = row.payload
        if text is None and row.payload_ref is not None:
            text = (await opened.artifacts.get(row.payload_ref)).decode()
        return {
            **row._asdict(),
            "payload": None if text is None else jsonlib.loads(text),
            "passages": await opened.store.passages(effect),
            "files": {
                name: str(opened.artifacts.path(artifact))
                for name, artifact in row.artifacts.items()
            },
        }

    found = run_app(main)
    if json:
        terminal.print_json(found)
        return
    for key, value in found.items():
        if key not in ("passages", "artifacts") and value not in (None, "", {}):
            terminal.out.print(f"{key:12} {terminal.safe(_shown(value))}")
    terminal.print_table(
        ["at", "event", "by"],
        [[terminal.clock(p.at), p.event, p.actor] for p in found["passages"]],
    )
    if found["state"] is EffectState.IN_DOUBT and found["due_at"] is None:
        terminal.err.print(
            "ask its receiver, then: `waybill effects resolve "
            f"{effect} --confirmed`, or `--not-sent` to send it, or `--refused`"
        )
    if found["state"] is EffectState.AWAITING_RELEASE:
        terminal.err.print(
            f"it goes when you say so: `waybill effects release {effect}`"
        )


def _shown(value: Any) -> str:
    """A field as a person reads it: times as clocks show them here."""
    if isinstance(value, datetime):
        return terminal.clock(value)
    if isinstance(value, (Mapping, list)):
        return terminal.compact(value)
    return str(terminal.plain(value))


@effects.command("resolve")
def effects_resolve(
    effect: Numbers,
    confirmed: Annotated[
        bool, typer.Option("--confirmed", help="It happened.")
    ] = False,
    not_sent: Annotated[
        bool, typer.Option("--not-sent", help="It did not: it is sent again.")
    ] = False,
    refused: Annotated[
        bool, typer.Option("--refused", help="It did not, and shall not.")
    ] = False,
    because: Because = "",
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Say what became of an effect in doubt, or of several."""
    if confirmed + not_sent + refused != 1:
        raise Usage(
            "say one of --confirmed, --not-sent and --refused",
            hint="ask its receiver: did it happen?",
        )
    state = EffectState.CONFIRMED if confirmed else EffectState.REFUSED
    if not_sent:
        state = EffectState.PLANNED
        if not yes:
            which = (
                f"effect {effect[0]}" if len(effect) == 1 else f"{len(effect)} effects"
            )
            terminal.confirm(f"send {which} again?")
    errors: list[WaybillError] = []

    async def main(opened: App) -> list[EffectRow]:
        who = opened.settings.reviewer
        why = because or f"so says {who}"
        rows = []
        for number in dict.fromkeys(effect):
            try:
                row = await opened.store.resolve_effect(number, state, who, why)
            except (Conflict, NotFound) as error:
                errors.append(error)  # of this one: the others are as they were said
            else:
                rows.append(row)
        return rows

    rows = run_app(main)
    if len(effect) == 1 and errors:
        raise errors[0]
    if json:
        others = [terminal.error_body(error)["error"] for error in errors]
        said = {"resolved": rows, "refused": others}
        terminal.print_json(rows[0] if len(effect) == 1 else said)
    else:
        for row in rows:
            _tell(row, json=False)
    _end(errors, json)


@effects.command("resend")
def effects_resend(effect: Number, yes: Yes = False, json: Json = False) -> None:
    """
    Send one again that was refused or is in doubt, as it was, under its key.

    It goes at once, also one that waited for a release: to say this is one.
    """
    if not yes:
        terminal.confirm(f"send effect {effect} again?")

    async def main(opened: App) -> EffectRow:
        return await opened.store.resend_effect(effect, opened.settings.reviewer)

    _tell(run_app(main), json)


@effects.command("release")
def effects_release(
    which: Which,
    window_s: Annotated[
        float, typer.Option(min=0, max=604_800, help="Until it is sent, seconds.")
    ] = WINDOW_S,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Release what cannot be taken back; `undo` calls it back within the window."""

    errors: list[WaybillError] = []

    async def waiting(opened: App) -> list[int]:
        given = await _named(opened, which)
        if "batch_id" in given:
            return await opened.store.awaiting_release(given["batch_id"])
        found = [await opened.store.effect(each) for each in given["ids"]]
        waits = [e.id for e in found if e.state is EffectState.AWAITING_RELEASE]
        errors.extend(
            Conflict(f"effect {e.id} is {e.state.value}: it waits for no release")
            for e in found
            if e.id not in waits
        )
        return waits

    # What is planned while the question stands is none of those that were counted.
    counted = run_app(waiting)
    if errors and not counted:
        raise errors[0]
    if counted and not yes:
        terminal.confirm(f"release {len(counted)} effects?")

    async def main(opened: App) -> list[int]:
        who = opened.settings.reviewer
        return await opened.store.release_effects(who, ids=counted, in_s=window_s)

    ids = run_app(main)
    if json:
        others = [terminal.error_body(error)["error"] for error in errors]
        said = {"released": ids, "due_in_s": window_s}
        terminal.print_json(said | {"refused": others} if others else said)
    elif ids:
        again = " ".join(map(terminal.safe, which))
        terminal.err.print(f"{len(ids)} released; they go in {terminal.span(window_s)}")
        if window_s:
            terminal.err.print(f"until then: `waybill effects undo {again}`")
    else:
        terminal.err.print("nothing of it waits for a release")
    _end(errors, json)


@effects.command("undo")
def effects_undo(which: Which, json: Json = False) -> None:
    """Call released effects back that nobody has sent yet; it asks nothing."""

    async def main(opened: App) -> list[int]:
        given = await _named(opened, which)
        return await opened.store.undo_release(opened.settings.reviewer, **given)

    ids = run_app(main)
    if json:
        terminal.print_json({"undone": ids})
        return
    terminal.err.print(f"{len(ids)} called back; the others are on their way, or gone")


@effects.command("reconcile")
def effects_reconcile(
    sink: Annotated[str, typer.Argument(help="A folder sink.")],
    batch: ABatch,
    listed: Annotated[
        Path, typer.Argument(help="The receiver's list: CSV, or a file name a line.")
    ],
    json: Json = False,
) -> None:
    """Compare a receiver's list with what was handed over; exit 8 when they differ."""

    async def main(opened: App) -> Reconciled:
        b = await find_batch(opened, batch)
        vendors = declared_vendors(opened.settings).vendors
        spec = declared_sinks(opened.settings, vendors).get(sink)
        if not isinstance(spec, FolderSpec):
            raise NotFound(f"there is no folder sink {sink!r}")
        at = folder_of(spec, opened.settings.home) / b.tenant / b.name
        return reconcile(at, listed.read_text(encoding="utf-8-sig", errors="replace"))

    found = run_app(main)
    differs = bool(found.missing or found.twice or found.unknown)
    if json:
        terminal.print_json(found)
        raise typer.Exit(Integrity.exit_code if differs else 0)
    terminal.out.print(f"on both lists: {found.done}")
    for word in ("missing", "twice", "unknown"):
        for line in getattr(found, word):
            terminal.out.print(f"{word:8} {terminal.safe(line)}")
    if differs:
        raise typer.Exit(Integrity.exit_code)


async def _named(opened: App, which: list[str]) -> dict[str, Any]:
    """The batch that is named, or the effects that are numbered."""
    numbers = [number_in(each) for each in which]
    if None not in numbers:
        return {"ids": numbers}
    if len(which) != 1:
        raise Usage("name one batch, or numbers of effects")
    return {"batch_id": (await find_batch(opened, which[0])).id}


def _state(row: EffectRow) -> str:
    return f"{row.state.value} (item cancelled)" if row.cancelled else row.state.value


def _end(errors: Sequence[WaybillError], json: bool) -> None:
    """Of several that were named, those to which it did not apply."""
    for error in () if json else errors:
        terminal.print_error(error, as_json=False)
    if errors:
        raise typer.Exit(max(error.exit_code for error in errors))


def _tell(row: EffectRow, json: bool) -> None:
    if json:
        terminal.print_json(row)
        return
    terminal.err.print(f"effect {row.id} is {row.state.value}")
