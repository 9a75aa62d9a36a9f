"""What a stage gives out: files in the batch's output folder, and who is told."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from pipeline.artifacts.durable import write_atomically
from pipeline.errors import Permanent
from pipeline.stage import Context
from pipeline.threads import in_thread


async def give_out(ctx: Context, products: Mapping[str, tuple[str, str]]) -> None:
    """
    Record products of an item, and copy each to the output folder.

    Args:
        products: By name an artifact, and the file that it is called in that folder.
    """
    for name, (artifact, file) in products.items():
        out = ctx.out_dir / file
        await in_thread(partial(out.parent.mkdir, exist_ok=True))
        await in_thread(write_atomically, out, await ctx.artifacts.get(artifact))
        ctx.product(name, artifact, file=file)


async def tell(
    ctx: Context,
    name: str,
    sink: str,
    payload: Mapping[str, Any],
    artifacts: Mapping[str, str] | None = None,
) -> str:
    """Plan an effect; what came of planning it, in words."""
    if not sink:
        return "no sink is named"
    try:
        await ctx.effect(name, sink, payload, artifacts=artifacts)
    except Permanent as error:
        if error.code != "NO_SUCH_SINK":
            raise
        return f"not told: no sink {sink} is declared"
    return "planned"
