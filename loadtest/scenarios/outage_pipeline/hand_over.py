"""The call that the run is about."""

from __future__ import annotations

from pipeline.calls import Request
from pipeline.model import Advance, Outcome
from pipeline.stage import Context, Retry, stage


@stage(timeout_s=120, window=10, retry=Retry(attempts=3, base_s=1, cap_s=4))
async def hand_over(parcel: object, ctx: Context) -> Outcome:
    """One call; it may fail twice."""
    body = {"parcel": ctx.item.name}
    await ctx.vendor("carrier").call("hand-over", Request(path="/parcels", json=body))
    return Advance(handed=True)
