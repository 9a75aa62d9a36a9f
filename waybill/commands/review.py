"""`waybill review`: people rule on what the machine was not sure of."""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from pipeline.errors import Usage
from pipeline.state import clean_text
from pipeline.store.rows import HoldRow
from waybill import terminal
from waybill.commands.options import (
    AtStage,
    Called,
    Header,
    InBatch,
    Json,
    Limit,
    OfPipeline,
    OfTenant,
    Since,
    WithCode,
    Yes,
    batch_id,
    sought,
)
from waybill.commands.run import run_app
from waybill.compose import App
from waybill.desk import model
from waybill.desk.state import Change
from waybill.desk.terminal import change_lines, claimed_until, print_view
from waybill.foreground import finish, workers_up
from waybill.manifest import write_manifest

review = typer.Typer(help="Held items and decisions.", no_args_is_help=True)

HoldArg = Annotated[
    str, typer.Argument(metavar="ID", help="Hold (h7) or item number (12).")
]
Reason = Annotated[str, typer.Option(help="Kept with the decision.")]
Digest = Annotated[
    str, typer.Option(help="Of what you were shown; refused when it changed.")
]
NoRun = Annotated[
    bool, typer.Option("--no-run", help="Do not finish it here when no worker is up.")
]

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what it would change, and stop.")
]


@review.command("ls")
def review_ls(
    decided: Annotated[bool, typer.Option("--decided", help="Those ruled on.")] = False,
    name: Called = "",
    code: WithCode = "",
    stage: AtStage = "",
    pipeline: OfPipeline = "",
    tenant: OfTenant = "",
    batch: InBatch = "",
    since: Since = "",
    limit: Limit = 50,
    header: Header = False,
    json: Json = False,
) -> None:
    """Open holds, most urgent first."""
    wanted = sought(name, code, stage, pipeline, since)

    async def main(opened: App) -> list[HoldRow]:
        return await opened.store.holds(
            decided=decided,
            tenant=tenant or None,
            batch_id=await batch_id(opened, batch),
            sought=wanted,
            limit=limit,
        )

    rows = run_app(main)
    if json:
        terminal.print_json([_data(h) for h in rows])
        return
    if not rows:
        nothing = "nothing was decided" if decided else "nothing is held"
        asked = any(wanted) or tenant or batch
        terminal.err.print("no hold matches" if asked else nothing)
    terminal.print_table(
        [
            *("hold", "item", "age", "due", "pipeline", "stage", "reason", "name"),
            "claimed by",
        ],
        (
            [
                f"h{h.id}",
                h.item_id,
                terminal.ago(h.held_at),
                terminal.due(h.deadline_at),
                h.pipeline,
                h.stage,
                h.code if h.decision is None else f"{h.decision.verb} {h.code}",
                h.item_name,
                h.claimed_by or (h.decision.author if h.decision else ""),
            ]
            for h in rows
        ),
        header=header,
    )
    if len(rows) == limit:
        terminal.err.print("there may be more: --limit, or `waybill review next`")


@review.command("next")
def review_next(tenant: OfTenant = "", json: Json = False) -> None:
    """Claim the most urgent open hold and show it."""

    async def main(opened: App) -> model.View:
        return model.view(opened, await model.claim_next(opened, tenant))

    _show(run_app(main), json)


@review.command("show")
def review_show(hold: HoldArg, json: Json = False) -> None:
    """What the machine saw, why it stopped, and what approval would do."""

    async def main(opened: App) -> model.View:
        return model.view(opened, await model.find(opened, hold))

    _show(run_app(main), json)


def _show(view: model.View, json: bool) -> None:
    if json:
        terminal.print_json({**_data(view.hold), "pictures": view.pictures})
    else:
        print_view(view)


def _data(hold: HoldRow) -> dict[str, Any]:
    """A hold as JSON shows it: by its name, `h7`."""
    shown: dict[str, Any] = terminal.plain(hold)
    shown["hold"] = f"h{shown.pop('id')}"
    return shown


@review.command("claim")
def review_claim(hold: HoldArg, json: Json = False) -> None:
    """Take a hold for 15 minutes, so that nobody reads it beside you."""

    async def main(opened: App) -> HoldRow:
        found = await model.find(opened, hold)
        return await opened.store.claim_hold(
            found.id, opened.settings.reviewer, lease_s=model.LEASE_S
        )

    claimed = run_app(main)
    if json:
        terminal.print_json(_data(claimed))
    else:
        terminal.err.print(f"h{claimed.id} is yours until {claimed_until(claimed)}")


@review.command("release")
def review_release(hold: HoldArg, json: Json = False) -> None:
    """Give a claimed hold back."""

    async def main(opened: App) -> HoldRow:
        found = await model.find(opened, hold)
        await opened.store.release_hold(found.id, opened.settings.reviewer)
        return await opened.store.hold(found.id)

    released = run_app(main)
    if json:
        terminal.print_json(_data(released))
    else:
        terminal.err.print(f"h{released.id} is free")


@review.command("approve")
def review_approve(
    hold: HoldArg,
    reason: Reason = "",
    digest: Digest = "",
    no_run: NoRun = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """The machine's result stands; the item goes on."""
    how = _How(reason, digest, no_run, yes, dry_run, json)
    _decide(hold, "approve", how)


@review.command("reject")
def review_reject(
    hold: HoldArg,
    reason: Annotated[str, typer.Option(help="Required; kept with the decision.")] = "",
    digest: Digest = "",
    yes: Yes = False,
    json: Json = False,
) -> None:
    """The item ends here; nothing is asked, with `--yes` or without."""
    del yes  # as the other decisions take it
    if not clean_text(reason).strip():
        raise Usage(
            "a rejection needs a reason",
            code="REASON_NEEDED",
            hint=f'waybill review reject {hold} --reason "…"',
        )
    _decide(hold, "reject", _How(reason, digest, True, True, False, json))


@review.command("edit")
def review_edit(
    hold: HoldArg,
    assign: Annotated[
        list[str],
        typer.Option(
            "--set",
            help="channel=value; @file reads a file, JSON is read; "
            "typed.7=… is the text of page 7.",
        ),
    ] = [],  # noqa: B006
    reason: Reason = "",
    digest: Digest = "",
    no_run: NoRun = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Put your own values in, such as the text nobody could read; it goes on."""
    if not assign:
        raise Usage("nothing to set", hint=f'waybill review edit {hold} --set text="…"')
    how = _How(reason, digest, no_run, yes, dry_run, json)
    _decide(hold, "edit", how, _assignments(assign))


def _assignments(given: list[str]) -> dict[str, Any]:
    """All of them; `channel.key` goes into that channel's mapping."""
    edits: dict[str, Any] = {}
    for text in given:
        name, value = _assignment(text)
        channel, dot, key = name.partition(".")
        if not dot:
            edits[name] = value
        elif isinstance(inner := edits.setdefault(channel, {}), dict):
            inner[key] = value
        else:
            raise Usage(f"{channel} and {name} cannot both be set")
    return edits


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise Usage(f"{text[:40]!r} is not channel=value")
    if value.startswith("@"):
        path = Path(value[1:])
        try:
            value = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise Usage(f"{path} cannot be read: {type(error).__name__}") from None
        return name.strip(), value
    if value[:1] in ("{", "["):
        try:
            return name.strip(), jsonlib.loads(value)
        except ValueError as error:
            raise Usage(f"the value of {name} is not JSON: {error}") from None
    return name.strip(), value


class _How(NamedTuple):
    """How to decide: the options that approving and editing share."""

    reason: str
    digest: str
    no_run: bool
    yes: bool
    dry_run: bool
    json: bool


def _decide(
    hold: str, verb: model.Verb, how: _How, edits: dict[str, Any] | None = None
) -> None:
    async def main(opened: App) -> dict[str, Any]:
        found = await model.find(opened, hold)
        update: str | None = None
        changes: list[Change] = []
        if verb != "reject" and found.decision is None:
            update, changes = await model.becomes(opened, found, edits or {})
            if how.dry_run:
                return {
                    "hold": f"h{found.id}",
                    "verb": verb,
                    "digest": found.digest,
                    "changes": changes,
                }
            _show_changes(f"{verb} h{found.id}", changes, how)
        decided = await model.decide(
            opened, found, verb, reason=how.reason, digest=how.digest, update=update
        )
        if not how.no_run:
            await _go_on(opened, decided)
        result = await model.consequence(opened, decided)
        return {**result._asdict(), "changes": changes}

    result = run_app(main)
    if how.json:
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
        if result["file"]:
            terminal.out.print(terminal.safe(result["file"]))


def _show_changes(what: str, changes: Sequence[Change], how: _How) -> None:
    """What the item's state will be; a person at a terminal is asked."""
    if how.json:
        return
    for line in change_lines(changes):
        terminal.err.print(terminal.safe(f"  {line}"), soft_wrap=True)
    asks = not how.yes and sys.stdin.isatty() and sys.stderr.isatty()
    if asks and not typer.confirm(what, err=True):
        terminal.err.print("nothing was decided")
        raise typer.Exit(Usage.exit_code)


async def _go_on(opened: App, hold: HoldRow) -> None:
    """With no worker up, nobody would finish the item: do it here."""
    if await workers_up(opened):
        return
    terminal.err.print("no worker is up: finishing it here")
    await finish(opened, hold.item_id)
    batch = await opened.store.find_batch(f"{hold.tenant}/{hold.batch}")
    await write_manifest(opened, batch.id)
