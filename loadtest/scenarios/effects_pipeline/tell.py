"""The stage of the effects run."""

from __future__ import annotations

from pipeline.model import Advance, Outcome
from pipeline.stage import Context, stage


@stage(timeout_s=30)
async def tell(errand: object, ctx: Context) -> Outcome:
    """One effect for each receiver: what it says is the item's alone."""
    said = {"item": ctx.item.name}
    mail = {"to": "ann@example.org", "subject": ctx.item.name, "text": "Hello"}
    keys = [
        await ctx.effect("hook", "hook", said),
        await ctx.effect("record", "crm", {"Name": ctx.item.name}),
        await ctx.effect("job", "asked", said),
        await ctx.effect("sheet", "plain", said),
        await ctx.effect("letter", "mail", mail),
    ]
    return Advance(keys=keys)
