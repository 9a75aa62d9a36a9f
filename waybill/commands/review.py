"""`waybill review`: people rule on what the machine was not sure of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.artifacts.durable import write_atomically
from pipeline.errors import Usage
from pipeline.spoken import read_json
from pipeline.state import clean_text
from pipeline.store.moderated import RoleLine
from pipeline.store.rows import HoldRow
from waybill import terminal
from waybill.commands.approving import approve_several
from waybill.commands.clauses import review_clause
from waybill.commands.corrections import review_export
from waybill.commands.deciding import How, data_of, decide, view_data
from waybill.commands.options import (
    AtStage,
    Called,
    Digest,
    DryRun,
    Header,
    HoldArg,
    InBatch,
    Json,
    Limit,
    Next,
    NoRun,
    OfPipeline,
    OfRole,
    OfTenant,
    Reason,
    Since,
    WithCode,
    Yes,
    holds_met,
    sought,
)
from waybill.commands.rulings import review_rule
from waybill.commands.run import run_app
from waybill.compose import App
from waybill.desk import model, pieces
from waybill.desk.terminal import claimed_until, print_line, print_view

review = typer.Typer(help="Held items and decisions.", no_args_is_help=True)


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
    role: OfRole = "",
    limit: Limit = 50,
    header: Header = False,
    json: Json = False,
) -> None:
    """Open holds, most urgent first; those of a role stand in its own line."""
    # What was decided, and what a trial held, is in no line.
    line = role or (None if decided or batch else "")
    wanted = sought(name, code, stage, pipeline, since)._replace(role=line)
    met = holds_met(wanted, tenant, batch, limit, decided=decided)

    async def main(opened: App) -> tuple[list[HoldRow], list[RoleLine]]:
        found = await met(opened)
        if line != "":
            return found, []
        return found, await opened.store.role_lines(tenant or None)

    rows, elsewhere = run_app(main)
    for one in elsewhere:
        print_line(one)
    if json:
        terminal.print_json([data_of(h) for h in rows])
        return
    if not rows:
        nothing = "nothing was decided" if decided else "nothing is held"
        asked = any(wanted) or tenant or batch
        terminal.err.print("no hold matches" if asked else nothing)
    terminal.print_table(
        [
            *("hold", "item", "age", "due", "lapses", "pipeline", "stage", "reason"),
            *("name", "claimed by"),
        ],
        (
            [
                f"h{h.id}",
                h.item_id,
                terminal.ago(h.held_at),
                terminal.due(h.due_at or h.deadline_at),
                "" if h.lapses_at is None else terminal.due(h.lapses_at),
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
def review_next(tenant: OfTenant = "", role: OfRole = "", json: Json = False) -> None:
    """Claim the most urgent open hold and show it."""

    async def main(opened: App) -> model.View:
        hold = await model.claim_next(opened, tenant, role)
        return await model.view(opened, hold)

    _show(run_app(main), json)


@review.command("show")
def review_show(hold: HoldArg, json: Json = False) -> None:
    """What the machine saw, why it stopped, and what approval would do."""

    async def main(opened: App) -> model.View:
        return await model.view(opened, await model.find(opened, hold))

    _show(run_app(main), json)


def _show(view: model.View, json: bool) -> None:
    if json:
        terminal.print_json(view_data(view))
    else:
        print_view(view)


@review.command("open")
def review_open(
    hold: HoldArg,
    to: Annotated[
        Path | None, typer.Option(help="Into a folder in this one; default: the home.")
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(help="Instead, one page and its cuttings as this PNG."),
    ] = None,
    page: Annotated[
        int, typer.Option(min=0, help="Of --picture; default: the first in question.")
    ] = 0,
    json: Json = False,
) -> None:
    """Its pages and cuttings as files that a viewer opens; prints their paths."""
    if picture is not None and picture.suffix.lower() != ".png":
        raise Usage(f"{picture.name!r} does not end in .png", hint="a PNG is written")

    async def main(opened: App) -> list[pieces.Laid]:
        found = await model.find(opened, hold)
        if picture is not None:
            number = page or pieces.first_page(opened, found)
            data = await pieces.drawn(opened, found, number, with_crops=True)
            write_atomically(picture.absolute(), data)
            return [pieces.Laid(picture.name, str(picture.absolute()), number)]
        text = (await model.view(opened, found)).text
        return await pieces.lay_out(opened, found, text, to and to.absolute())

    laid = run_app(main)
    if json:
        terminal.print_json(laid)
        return
    for one in laid:
        if one.path is None:
            terminal.err.print(terminal.safe(f"{one.name}: {one.why}"))
        else:
            terminal.out.print(terminal.safe(one.path))


@review.command("claim")
def review_claim(hold: HoldArg, json: Json = False) -> None:
    """Take a hold for 15 minutes, so that nobody reads it beside you."""

    async def main(opened: App) -> HoldRow:
        return await model.claim(opened, await model.find(opened, hold))

    claimed = run_app(main)
    if json:
        terminal.print_json(data_of(claimed))
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
        terminal.print_json(data_of(released))
    else:
        terminal.err.print(f"h{released.id} is free")


@review.command("approve")
def review_approve(
    hold: Annotated[
        list[str], typer.Argument(metavar="[ID]…", help="Holds or item numbers.")
    ] = [],  # noqa: B006
    name: Called = "",
    code: WithCode = "",
    stage: AtStage = "",
    pipeline: OfPipeline = "",
    tenant: OfTenant = "",
    batch: InBatch = "",
    since: Since = "",
    limit: Limit = 50,
    reason: Reason = "",
    digest: Digest = "",
    no_run: NoRun = False,
    next_: Next = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """The machine's result stands; the item goes on. Also several, or by filter."""
    how = How(reason, digest, no_run, yes, dry_run, json, next_)
    wanted = sought(name, code, stage, pipeline, since)
    asked = any(wanted) or tenant or batch
    if len(hold) == 1 and not asked:
        decide(hold[0], "approve", how)
    elif hold or asked:
        met = holds_met(wanted, tenant, batch, limit) if asked else None
        approve_several(hold, how, met, tenant=tenant, limit=limit)
    else:
        hint = "name holds (h4 h5), or which as in `waybill review ls --code …`"
        raise Usage("nothing to approve", hint=hint)


@review.command("reject")
def review_reject(
    hold: HoldArg,
    reason: Annotated[str, typer.Option(help="Required; kept with the decision.")] = "",
    digest: Digest = "",
    next_: Next = False,
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
    decide(hold, "reject", How(reason, digest, True, True, False, json, next_))


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
    next_: Next = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Put your own values in, such as the text nobody could read; it goes on."""
    if not assign:
        raise Usage("nothing to set", hint=f'waybill review edit {hold} --set text="…"')
    how = How(reason, digest, no_run, yes, dry_run, json, next_)
    given = assignments(assign)
    decide(hold, "edit", how, lambda _: given)


review.command("rule")(review_rule)
review.command("clause")(review_clause)
review.command("export")(review_export)


def assignments(given: list[str]) -> dict[str, Any]:
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
        if path.suffix != ".json":  # a document's text may begin with a bracket
            return name.strip(), value
        value = value.lstrip("\ufeff \t\r\n")
    if value[:1] in ("{", "["):
        try:
            return name.strip(), read_json(value)
        except ValueError as error:
            raise Usage(f"the value of {name} is not JSON: {error}") from None
    return name.strip(), value
