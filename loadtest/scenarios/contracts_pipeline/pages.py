"""Take a contract's pages in, one step each: a long one goes on where it was."""

from __future__ import annotations

import hashlib
from typing import Any

import anyio

from loadtest.scenarios.chaos_stages import note
from pipeline.model import Advance, Outcome
from pipeline.stage import Context, Retry, stage

PAGE_S = 0.01  # of a page; time enough to be killed in


@stage(timeout_s=600, retry=Retry(attempts=20, cap_s=2), window=8)
async def pages(contract: Any, ctx: Context) -> Outcome:
    """Every page, once."""
    whole = (await ctx.artifacts.get(contract.text)).decode().split("\f")

    async def page(number: int) -> str:
        note(ctx, "pages", f"page-{number}")
        await anyio.sleep(PAGE_S)
        return hashlib.sha256(whole[number - 1].encode()).hexdigest()[:16]

    for number in range(1, len(whole) + 1):
        await ctx.step(f"page-{number}", page, number)
    return Advance(pages=len(whole))
