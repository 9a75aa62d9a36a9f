"""`waybill moderation suggest`: phrases that no rule holds, from people's decisions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from json import loads
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.errors import Integrity, NotFound
from pipeline.holds.parking import whole
from pipeline.state import update_of
from pipeline.store.rows import HoldRow
from stages.moderation import SAMPLED
from waybill import terminal
from waybill.commands.moderation import LETTERS, STAGE, OfPipeline, rules_of
from waybill.commands.options import (
    Header,
    InBatch,
    Json,
    OfTenant,
    Since,
    holds_met,
    sought,
)
from waybill.commands.run import run_app
from waybill.compose import App
from waybill.evals.suggesting import Ruled, suggested
from waybill.evals.texts import read_texts

COLUMNS = ("phrase", "grave", "went on", "kinds", "letters")
NAMED_MAX = 5  # letters in a row; --json has them all
FEW = 30  # letters that went on, under which the comparison says little; arbitrary


def moderation_suggest(
    pipeline: OfPipeline = LETTERS,
    tenant: OfTenant = "",
    batch: InBatch = "",
    since: Since = "",
    limit: Annotated[
        int, typer.Option(min=1, max=100_000, help="Decisions, newest first.")
    ] = 10_000,
    least: Annotated[
        int, typer.Option(min=1, help="Grave letters that have the phrase.")
    ] = 2,
    most: Annotated[int, typer.Option(min=1, max=1000, help="Phrases.")] = 40,
    beside: Annotated[
        Path | None,
        typer.Option("--with", help="Labelled texts that count too, as for eval."),
    ] = None,
    header: Header = False,
    json: Json = False,
) -> None:
    """Phrases of letters that people did not let go on, and that no rule holds."""
    rules = rules_of(pipeline)
    wanted = sought("", "", STAGE, rules.pipeline.name, since)
    met = holds_met(wanted, tenant, batch, limit, decided=True)
    known = [] if beside is None else [*_labelled(beside)]

    async def main(opened: App) -> tuple[list[Ruled], int]:
        return await _ruled(opened, await met(opened))

    ruled, left_out = run_app(main)
    ruled += known
    found = suggested(ruled, rules.book, least=least, most=most)
    grave = sum(one.care for one in ruled)
    report = {
        **rules.data(),
        "grave": grave,
        "went_on": len(ruled) - grave,
        "left_out": left_out,
        "phrases": [one._asdict() for one in found],
    }
    if json:
        terminal.print_json(report)
        return
    rows = [_row(one._asdict()) for one in found]
    terminal.print_table(COLUMNS, rows, header=header)
    terminal.say(_said(report), to=terminal.err)


def _labelled(file: Path) -> Iterator[Ruled]:
    for one in read_texts(file).texts:
        yield Ruled(f"line {one.line}", one.label.care, one.label.kinds, one.text)


async def _ruled(app: App, holds: Sequence[HoldRow]) -> tuple[list[Ruled], int]:
    """
    What people ruled on, by each letter's newest ruling; and how many cannot be read.

    Who approves lets a letter go on as it is, and who says that the machine may answer
    it, too; whatever else is decided says that a person had to see it.
    """
    found: dict[int, Ruled] = {}
    left_out = 0
    for hold in holds:
        if hold.decision is None or hold.decision.verb == "expired":
            continue
        if hold.item_id in found:
            continue
        try:
            shown = (await whole(hold, app.artifacts)).shown
            said = await _edited(app, hold) if hold.decision.verb == "edit" else {}
        except (Integrity, NotFound):
            left_out += 1
            continue
        text = (shown.get("state") or {}).get("text")
        if isinstance(text, str) and text:
            missed = str(said.get("missed") or "")
            care = hold.decision.verb == "reject" or bool(missed)
            if hold.decision.verb == "edit" and hold.code != SAMPLED:
                care = said.get("answer_by") != "machine"  # else it was a false alarm
            kind = missed or hold.code.lower()
            found[hold.item_id] = Ruled(f"h{hold.id}", care, (kind,), text)
    return [*found.values()], left_out


async def _edited(app: App, hold: HoldRow) -> dict[str, Any]:
    """What a person said of a letter, as its state received it."""
    for made in (await app.store.history([hold.item_id]))[hold.item_id]:
        if made.step is None and made.seq == hold.seq:
            said: dict[str, Any] = loads(await update_of(made, app.artifacts))
            return said
    raise NotFound(f"the decision on h{hold.id} left no checkpoint")


def _row(one: Mapping[str, Any]) -> list[str]:
    more = len(one["of"]) - NAMED_MAX
    named = ", ".join(one["of"][:NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
    counts = [str(one["letters"]), str(one["innocent"])]
    return [one["phrase"], *counts, ", ".join(one["kinds"]), named]


def _said(report: Mapping[str, Any]) -> str:
    grave, went_on = report["grave"], report["went_on"]
    said = f"{grave} letters that people did not let go on, {went_on} that they did."
    if went_on < FEW:
        said += (
            " So few to compare with leave common phrases among these: "
            "--with FILE.jsonl adds labelled texts."
        )
    return said
