"""`waybill limits`: how often vendors are called, who waits for that, and a brake."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

from pipeline.bound import seconds
from pipeline.errors import NotFound, Usage
from pipeline.store.limits import LimitRow, LimitSet
from pipeline.vendors.declared import rate_of
from pipeline.vendors.pacing import LimitSpec
from waybill import terminal
from waybill.commands.options import YEARS_MAX_S, Header, Json
from waybill.commands.run import run_app
from waybill.compose import App
from waybill.health import for_good, paused

limits = typer.Typer(
    help="How often vendors are called, by all workers together.", no_args_is_help=True
)

COLUMNS = ["limit", "allowed", "used", "now", "waiting", "oldest", "clears in", "note"]
LOOK = "`waybill limits ls` lists them"
OF_VENDOR = re.compile(
    r"vendor/([^/]+)(/tenant/[^/]+|/pipeline/[^/]+)?/(requests|tokens|concurrency)"
)
ALimit = Annotated[str, typer.Argument(help="As `limits ls` names it.", metavar="KEY")]


@limits.command("ls")
def limits_ls(header: Header = False, json: Json = False) -> None:
    """Every limit: what it allows, what is used, who waits, and when that clears."""
    _print(run_app(_that_limit), json, header=header)


@limits.command("set")
def limits_set(
    key: ALimit,
    rate: Annotated[str, typer.Option(help="300/min, 100/s, 5000/24h.")] = "",
    concurrency: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="Calls at once.")
    ] = None,
    declared: Annotated[
        bool, typer.Option("--declared", help="As the files say, again.")
    ] = False,
    json: Json = False,
) -> None:
    """Allow more or less than the files say, in all workers within two seconds."""
    if declared == bool(rate or concurrency):
        raise Usage("say what it is to be", hint="--rate, --concurrency or --declared")
    numbers = LimitSet(concurrency=concurrency)
    if rate:
        try:
            spec = LimitSpec(*rate_of(rate))
        except ValueError as error:
            raise Usage(
                f"{rate!r} is no rate: {error}",
                hint="100/s, 600/min; `--declared` takes back what was set here",
            ) from None
        numbers = LimitSet(spec.rate, spec.per_s, spec.every_s, concurrency)
    _change(key, lambda opened: opened.store.set_limit(key, numbers), json)


@limits.command("pause")
def limits_pause(
    key: ALimit,
    for_: Annotated[
        str, typer.Option("--for", help="10m, 2h; without it until `resume`.")
    ] = "",
    json: Json = False,
) -> None:
    """
    Let nobody begin; calls under way go on.

    Items wait meanwhile, uncharged; those of a vendor with fallbacks go to these.
    """
    for_s = seconds(for_) if for_ else None
    if for_s is not None and not 0 < for_s <= YEARS_MAX_S:
        raise Usage(f"{for_!r} is no such time", hint="10m, 2h, 1d")
    fallbacks: list[str] = []

    async def pause(opened: App) -> None:
        await opened.store.pause_limit(key, for_s)
        vendor = OF_VENDOR.fullmatch(key)
        if vendor and (spec := opened.services.vendors.get(vendor[1])):
            fallbacks.extend(spec.fallbacks)

    _change(key, pause, json)
    if fallbacks:
        said = f"meanwhile its fallbacks are called: {', '.join(fallbacks)}"
        terminal.err.print(terminal.safe(said))


@limits.command("resume")
def limits_resume(key: ALimit, json: Json = False) -> None:
    """End a pause, the owner's or a vendor's; who was sent away comes back."""
    _change(key, lambda opened: opened.store.resume_limit(key), json)


def _change(key: str, change: Callable[[App], Awaitable[Any]], json: bool) -> None:
    """Do it to a limit that there is, and show what became of it."""

    async def main(opened: App) -> list[LimitRow]:
        vendor = OF_VENDOR.fullmatch(key)
        declared = vendor is not None and vendor[1] in opened.services.vendors
        if not declared and all(row.key != key for row in await _all(opened)):
            raise NotFound(f"there is no limit {key!r}", hint=LOOK)
        await change(opened)
        return [row for row in await _all(opened) if row.key == key]

    _print(run_app(main), json)


async def _all(opened: App) -> list[LimitRow]:
    return await opened.store.limits()


async def _that_limit(opened: App) -> list[LimitRow]:
    """Without those that allow anything, and are there to be paused."""
    return [
        row
        for row in await _all(opened)
        if row.rate is not None
        or row.concurrency is not None
        or row.paused_until is not None
        or row.set_by_owner
    ]


def _print(rows: Sequence[LimitRow], json: bool, *, header: bool = False) -> None:
    if json:
        terminal.print_json([_json(row) for row in rows])
        return
    terminal.print_table(COLUMNS, map(_row, rows), header=header)


def _json(row: LimitRow) -> dict[str, Any]:
    found = row._asdict()
    for name in ("oldest_at", "paused_until"):
        at: datetime | None = found[name]
        found[name] = None if at is None else at.isoformat()
    if for_good(row):
        found["paused_until"] = "resumed"
    return found


def _row(row: LimitRow) -> list[Any]:
    return [
        row.key,
        _allowed(row.rate, row.per_s, row.concurrency),
        "" if row.rate is None else f"{row.used:.0f}",
        row.under_way,
        row.waiting,
        "" if row.oldest_at is None else terminal.ago(row.oldest_at),
        terminal.span(row.clears_s) if row.clears_s else "",
        _note(row),
    ]


def _allowed(rate: float | None, per_s: float, concurrency: int | None) -> str:
    paced = [] if rate is None else [f"{rate:g} in {per_s:g} s"]
    at_once = [] if concurrency is None else [f"{concurrency} at once"]
    return ", ".join([*paced, *at_once]) or "any"


def _note(row: LimitRow) -> str:
    notes = []
    if row.paused_until is not None:
        notes.append(paused(row))
    if row.set_by_owner:
        declared = (row.declared_rate, row.declared_per_s, row.declared_concurrency)
        notes.append(f"declared: {_allowed(*declared)}")
    return "; ".join(notes)
