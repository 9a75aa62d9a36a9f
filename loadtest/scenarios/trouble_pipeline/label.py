"""The last stage: a file in the output folder."""

from __future__ import annotations

from pipeline.artifacts.durable import write_atomically
from pipeline.model import Advance, Outcome
from pipeline.stage import Context, Retry, stage


@stage(timeout_s=30, window=24, retry=Retry(attempts=2, base_s=0.5, cap_s=1))
async def label(parcel: object, ctx: Context) -> Outcome:
    """One file an item, the same one however often it is written."""
    path = ctx.out_dir / f"{ctx.item.id}.label"
    write_atomically(path, f"{ctx.item.name}\n".encode())
    return Advance(label=path.name)
