"""One stage of the chaos pipeline."""

from __future__ import annotations

from loadtest.scenarios.chaos_stages import visit
from pipeline.model import Advance, Outcome
from pipeline.stage import Context, stage


@stage(timeout_s=30, window=12)
async def weigh(trip: object, ctx: Context) -> Outcome:
    """Two steps, each written down when it begins."""
    await visit(ctx, "weigh")
    return Advance(been=["weigh"])
