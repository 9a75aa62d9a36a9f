"""The one stage of the evil pipeline."""

from __future__ import annotations

from loadtest.scenarios import evil_stages
from pipeline.model import Advance, Outcome
from pipeline.stage import Context, Retry, stage


@stage(timeout_s=5, window=10_000, retry=Retry(attempts=2, base_s=0.05))
async def act(nothing: object, ctx: Context) -> Outcome:
    """What the item's name says."""
    await evil_stages.act(ctx.item.name)
    return Advance()
