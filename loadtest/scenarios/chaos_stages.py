"""
What the stages of the chaos pipeline do, and what they leave for the checker.

Every begin of a stage or step is a line in `begins.log`, appended in one write.
The checker compares it with the database: a line younger than the checkpoint of
the same stage or step means that something finished was run again.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import anyio

from pipeline.artifacts.durable import write_atomically
from pipeline.stage import Context

STEP_S = 0.06


def note(ctx: Context, stage: str, step: str) -> None:
    """One line: time, item, stage, step."""
    line = f"{time.time():.6f} {ctx.item.id} {stage} {step}\n"
    path = Path(os.environ["WAYBILL_CHAOS_LOG"])
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


async def visit(ctx: Context, stage: str) -> None:
    """A stage of two steps."""
    note(ctx, stage, "-")

    async def one() -> str:
        note(ctx, stage, "one")
        await anyio.sleep(STEP_S)
        return "done"

    async def two() -> str:
        note(ctx, stage, "two")
        await anyio.sleep(STEP_S)
        return "done"

    await ctx.step("one", one)
    await ctx.step("two", two)


async def output(ctx: Context) -> str:
    """The output of an item: one file, the same one however often it is written."""
    note(ctx, "print_label", "write")
    path = ctx.out_dir / f"{ctx.item.id}.label"
    write_atomically(path, f"item {ctx.item.id}\n".encode())
    return path.name
