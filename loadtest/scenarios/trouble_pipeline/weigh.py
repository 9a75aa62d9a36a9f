"""A jailed process that leaves a file, an artifact, and an update larger than a row."""

from __future__ import annotations

import os
from pathlib import Path

import anyio

from pipeline.model import Advance, Outcome
from pipeline.stage import Context, Retry, stage

BYTES = 20_000


def fill(name: str) -> int:
    """In the jail: leave a file in the scratch folder."""
    text = (name * BYTES)[:BYTES]
    return Path(os.environ["TMPDIR"], "content").write_text(text)


@stage(timeout_s=30, window=24, retry=Retry(attempts=2, base_s=0.5, cap_s=1))
async def weigh(parcel: object, ctx: Context) -> Outcome:
    """Two tries alone: trouble that were charged would soon fail the item."""
    await anyio.sleep(0.3)
    _, files = await ctx.jailed_files(fill, name=ctx.item.name)
    content = await ctx.artifacts.get(files["content"])
    return Advance(content=content.decode())
