"""The last stage: the finished output, one file an item."""

from __future__ import annotations

from loadtest.scenarios.chaos_stages import output, visit
from pipeline.model import Advance, Outcome
from pipeline.stage import Context, stage


@stage(timeout_s=30, window=12)
async def print_label(trip: object, ctx: Context) -> Outcome:
    """Write the output under a name of its own, then say where it is."""
    await visit(ctx, "print_label")
    label = await ctx.step("write", output, ctx)
    return Advance(been=["print_label"], label=label)
