"""Options that several commands take: each is declared once and means one thing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from pipeline.bound import seconds
from pipeline.errors import NotFound, Usage
from pipeline.model import ItemId
from pipeline.names import is_text, number_in
from pipeline.store.postgres.listing import STATES
from pipeline.store.rows import BatchRow, HoldRow, Sought
from waybill.compose import App

LAST = 2**63 - 1  # what the database can count to
LIKE_MAX = 200  # looked through for the one that is called exactly so
NAMED_MAX = 5  # of several items, in one message
YEARS_MAX_S = 3650 * 86400.0
BATCH = "number, name or TENANT/NAME"


def _text(given: str) -> str:
    if not is_text(given):
        raise Usage("a name has bytes that are no text", code="BAD_NAME")
    return given


Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Header = Annotated[
    bool, typer.Option("--header", help="Name the columns, also in a pipe.")
]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="Rows at most.")]
HoldArg = Annotated[
    str, typer.Argument(metavar="ID", help="Hold (h7) or item number (12).")
]
Reason = Annotated[str, typer.Option(help="Kept with the decision.")]
Digest = Annotated[
    str, typer.Option(help="Of what you were shown; refused when it changed.")
]
Next = Annotated[
    bool, typer.Option("--next", help="Then claim the next one and show it.")
]
NoRun = Annotated[
    bool, typer.Option("--no-run", help="Do not finish it here when no worker is up.")
]

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what it would change, and stop.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
InState = Annotated[str, typer.Option(help=f"Only these: {', '.join(STATES)}.")]
InBatch = Annotated[
    str, typer.Option(help=f"Only of this batch: {BATCH}.", callback=_text)
]
ABatch = Annotated[str, typer.Argument(help=f"Which one: {BATCH}.", callback=_text)]
OfPipeline = Annotated[str, typer.Option(help="Only of this pipeline.", callback=_text)]
Called = Annotated[
    str,
    typer.Option("--name", help="Only with this part in their name.", callback=_text),
]
WithCode = Annotated[str, typer.Option(help="Only with this code.", callback=_text)]
AtStage = Annotated[str, typer.Option(help="Only at this stage.", callback=_text)]
Since = Annotated[
    str,
    typer.Option(
        help="Only those that came where they are since then: 2h, 2026-11-20."
    ),
]
OfRole = Annotated[
    str, typer.Option(help="The line of this role; default: the common one.")
]
OfTenant = Annotated[str, typer.Option(help="Only of this tenant.", callback=_text)]
AnItem = Annotated[
    str,
    typer.Argument(help="Its number, or its name or a part of that.", callback=_text),
]
Numbers = Annotated[list[int], typer.Argument(min=1, max=LAST, help="Item numbers.")]


async def find_batch(app: App, name: str) -> BatchRow:
    """
    The batch that is called so, also as a terminal without UTF-8 shows it.

    Raises:
        NotFound: none, or several.
    """
    try:
        return await app.store.find_batch(name)
    except NotFound:
        shown = _unescaped(name)
        if shown == name:
            raise
    return await app.store.find_batch(shown)


def _unescaped(name: str) -> str:
    try:
        return name.encode("latin-1", "backslashreplace").decode("unicode_escape")
    except UnicodeDecodeError:
        return name


async def batch_id(app: App, batch: str) -> int | None:
    """The batch that `--batch` names; None when it names none."""
    return (await find_batch(app, batch)).id if batch else None


def check_state(state: str) -> None:
    """Raises `Usage` when `--state` names no state."""
    if state and state not in STATES:
        raise Usage(f"no state {state!r}", hint=f"one of {', '.join(STATES)}")


async def find_item(app: App, called: str) -> ItemId:
    """
    The item of this number, or the one with this name, or with this part in it.

    Raises:
        NotFound: none, or several: then it names them.
    """
    number = number_in(called)
    if number is not None:
        with suppress(NotFound):
            return (await app.store.item(number)).id
    found = await app.store.find(sought=Sought(name=called), limit=LIKE_MAX)
    like = [row for row in found.rows if row.name == called] or found.rows
    if len(like) == 1 and len(found.rows) < LIKE_MAX:
        return like[0].id
    if not like:
        far = f" among those from {found.before} on" if found.before else ""
        raise NotFound(
            f"no item {called}{far}",
            hint="`waybill items ls` lists the items, `waybill quarantine ls` what "
            "became none",
        )
    named = ", ".join(
        f"{row.id} ({row.name}, {row.tenant}/{row.batch}, {row.state})"
        for row in like[:NAMED_MAX]
    )
    more = " …" if len(like) > NAMED_MAX else ""
    raise NotFound(
        f"several items are called {called}: {named}{more}",
        code="AMBIGUOUS",
        hint="say its number; `waybill items ls --name …` lists them",
    )


def sought(name: str, code: str, stage: str, pipeline: str, since: str) -> Sought:
    """
    What those options look for; `since` is an instant, or so long ago.

    Raises:
        Usage: `since` is neither.
    """
    return Sought(name, code, stage, pipeline, _instant(since) if since else None)


def holds_met(
    wanted: Sought, tenant: str, batch: str, limit: int, *, decided: bool = False
) -> Callable[[App], Awaitable[list[HoldRow]]]:
    """Reads the holds that these options meet, open or decided."""

    async def met(opened: App) -> list[HoldRow]:
        return await opened.store.holds(
            decided=decided,
            tenant=tenant or None,
            batch_id=await batch_id(opened, batch),
            sought=wanted,
            limit=limit,
        )

    return met


def _instant(text: str) -> datetime:
    with suppress(ValueError, OverflowError):
        return datetime.fromisoformat(text).astimezone(UTC)
    try:
        return datetime.now(UTC) - timedelta(seconds=seconds(text))
    except Usage as error:
        hint = "write 2h, 3d, 2026-11-20 or 2026-11-20T08:00"
        raise Usage(error.message, hint=hint) from None


def _lasting(text: str) -> float:
    try:
        return seconds(text)
    except Usage as error:
        hint = "write 21d, 6h, 90m, 2026-12-24 or 2026-12-24T18:00"
        raise Usage(error.message, hint=hint) from None


def until(text: str) -> float:
    """
    A duration, or an instant, as seconds from now.

    Raises:
        Usage: it is neither, or over, or more than ten years away.
    """
    try:
        at = datetime.fromisoformat(text).astimezone(UTC)
    except OverflowError:
        raise Usage(f"{text!r} is no time to wait for") from None
    except ValueError:
        return _lasting(text)
    left = (at - datetime.now(UTC)).total_seconds()
    if left <= 0:
        raise Usage(f"the deadline {text} is over", hint="name a later one")
    if left > YEARS_MAX_S:
        raise Usage(f"the deadline {text} is more than ten years away")
    return left
