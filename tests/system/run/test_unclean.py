"""A stage that would end its process ends its item: real workers, real exits."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.command import Home, eventually, pictures

STAGE = '''
"""
Evil: what its name says, for one file; nothing for the others.

Reads   nothing.
Writes  nothing.
Steps   none.
Limits  none.
Ends    Advance, or not at all.
"""

import asyncio
import os
import sys

import anyio

from pipeline.stage import Advance, Retry, stage
from stages.document import Document


class Odd(BaseException):
    pass


async def leave():
    sys.exit(0)


async def evil(kind):
    if kind == "exits":
        sys.exit(0)
    if kind == "exits-in-a-task":
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(leave)
    if kind == "is-interrupted":
        raise KeyboardInterrupt
    if kind == "is-odd":
        raise Odd
    if kind == "plays-cancelled":
        raise asyncio.CancelledError
    if kind == "is-gone":
        os._exit(0)


@stage(timeout_s=30, retry=Retry(attempts=2, base_s=0.05))
async def act(document: Document, ctx):
    await evil(ctx.item.name.removesuffix(".png"))
    await anyio.sleep(0.05)
    return Advance()
'''
KINDS = ("exits", "is-interrupted", "is-odd", "plays-cancelled")
WORSE = {"exits-in-a-task": "STAGE_RAISED", "is-gone": "WORKER_KILLED"}


@pytest.mark.proof
@pytest.mark.parametrize("processes", ["1", "2"])
def test_an_unclean_end_is_its_items_alone(home: Home, tmp_path: Path, processes: str):
    """Named, charged, and the neighbours are done; no worker is restarted for ever."""
    folder = home.pipeline("evil", act="return Advance()")
    (folder / "act.py").write_text(STAGE, encoding="utf-8")
    good = [f"good-{n}.png" for n in range(40)]
    files = pictures(tmp_path, [*(f"{k}.png" for k in (*KINDS, *WORSE)), *good])
    home.ok("ingest", *files, "--pipeline", folder)

    with home.started("worker", "--processes", processes):
        over = eventually(
            lambda: home.one("select count(*) from outcomes") == len(files),
            within_s=60,
        )

    assert over
    ends = {r["name"].removesuffix(".png"): r for r in home.ok("items", "ls")}
    assert {n for n, r in ends.items() if r["state"] == "done"} == {
        name.removesuffix(".png") for name in good
    }
    for kind in KINDS:
        assert (ends[kind]["state"], ends[kind]["code"]) == ("failed", "STAGE_RAISED")
    for kind, code in WORSE.items():
        assert (ends[kind]["state"], ends[kind]["code"]) == ("failed", code)
    # Each of the two worse ones took two workers along; suspects have one of theirs.
    assert home.logged("worker_started") <= int(processes) + 6
    assert home.ok("batches", "reconcile")["conserved"]
