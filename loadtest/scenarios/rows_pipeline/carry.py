"""The only stage: it takes its time, and says when it began."""

from __future__ import annotations

import time

import anyio

from pipeline.stage import Advance, Context, Outcome, Settings, stage


class Pace(Settings):
    """How long one takes."""

    seconds: float = 0.05


@stage(settings=Pace, timeout_s=60, window=64)
async def carry(parcel: object, ctx: Context) -> Outcome:
    """Wait, as for a vendor that nobody limits."""
    begun = time.time()
    await anyio.sleep(ctx.settings.seconds)
    return Advance(begun=begun)
