"""`waybill moderation stats`: what passed, what was held, and what may be missed."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Mapping
from typing import Any

from pipeline.store.moderated import SampledRow
from stages.moderation import SAMPLED
from waybill import terminal
from waybill.commands.options import (
    Header,
    InBatch,
    Json,
    OfPipeline,
    OfTenant,
    batch_id,
)
from waybill.commands.run import run_app
from waybill.compose import App
from waybill.evals.missed import Drawn, by_week

COLUMNS = (
    *("week", "passed", "held", "right", "undecided", "sampled", "read", "found"),
    *("missed", "unseen", "recall"),
)
COUNTS = COLUMNS[1:8]


def moderation_stats(
    tenant: OfTenant = "",
    batch: InBatch = "",
    pipeline: OfPipeline = "",
    header: Header = False,
    json: Json = False,
) -> None:
    """What passed, what was held, and how many may have been missed, by week."""

    async def main(opened: App) -> dict[str, Any]:
        number = await batch_id(opened, batch)
        moderated = await opened.store.moderated(
            SAMPLED, tenant=tenant or None, batch_id=number, pipeline=pipeline
        )
        drawn = await opened.store.sampled(
            SAMPLED, tenant=tenant or None, batch_id=number, pipeline=pipeline
        )
        return by_week(moderated, [await _drawn(opened, row) for row in drawn])

    report = run_app(main)
    if json:
        terminal.print_json(report)
        return
    rows = [_row(week) for week in report["weeks"]]
    rows.append(_row({"week": "all", **report["all"]}))
    terminal.print_table(COLUMNS, rows, header=header)
    terminal.say(_said(report["all"]), to=terminal.err)


async def _drawn(app: App, row: SampledRow) -> Drawn:
    """The row, with what of it stands in artifacts."""
    odds, missed = row.odds, row.missed
    if odds is None:
        assert row.shown_ref is not None
        shown = jsonlib.loads(await app.artifacts.get(row.shown_ref))
        odds = float(shown["evidence"]["odds"])
    if missed is None:
        assert row.ref is not None
        missed = jsonlib.loads(await app.artifacts.get(row.ref)).get("missed", "")
    found = row.verb == "reject" or bool(missed)
    return Drawn(row.week, odds, found if row.verb else None)


def _row(figures: Mapping[str, Any]) -> list[str]:
    interval = figures["missed_interval"]
    missed = "" if interval is None else f"{figures['missed']:g} ({_range(interval)})"
    unseen = "" if interval is None else _range(figures["unseen"])
    recall = terminal.rate(figures["recall"], figures["recall_interval"])
    counts = [str(figures[name]) for name in COUNTS]
    return [figures["week"], *counts, missed, unseen, recall]


def _range(ends: list[int]) -> str:
    return f"{ends[0]} to {ends[1]}"


def _said(figures: Mapping[str, Any]) -> str:
    """What the figures say to whoever has to answer for them."""
    if not figures["passed"]:
        return "Nothing has passed moderation."
    if figures["unseen"] is None:
        return (
            "Nobody has read a letter that passed, so nobody knows what was missed: "
            'set sample = "5%" in [stage.moderation], and read `review ls --role '
            "quality`."
        )
    low, high = figures["unseen"]
    return (
        f"Of {figures['passed']} that passed {figures['read']} were read, and "
        f"{figures['found']} of them should have been held. So {low} to {high} more "
        "may have gone out unseen (95 % interval)."
    )
