"""Options that several commands take: each is declared once and means one thing."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.errors import Usage
from pipeline.store.postgres.listing import STATES
from waybill.compose import App

LAST = 2**63 - 1  # what the database can count to
BATCH = "number, name or TENANT/NAME"

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="Rows at most.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
InState = Annotated[str, typer.Option(help=f"Only these: {', '.join(STATES)}.")]
InBatch = Annotated[str, typer.Option(help=f"Only of this batch: {BATCH}.")]
OfTenant = Annotated[str, typer.Option(help="Only of this tenant.")]
Number = Annotated[int, typer.Argument(min=1, max=LAST, help="Item number.")]
Numbers = Annotated[list[int], typer.Argument(min=1, max=LAST, help="Item numbers.")]


async def batch_id(app: App, batch: str) -> int | None:
    """The batch that `--batch` names; None when it names none."""
    return (await app.store.find_batch(batch)).id if batch else None


def check_state(state: str) -> None:
    """Raises `Usage` when `--state` names no state."""
    if state and state not in STATES:
        raise Usage(f"no state {state!r}", hint=f"one of {', '.join(STATES)}")
