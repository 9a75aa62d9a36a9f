"""
The database restarted under working workers: fast, immediate, and killed.

Files arrive all the time.  A file whose receipt came is acknowledged; one whose receipt
was lost on the way is offered again under its token, as whoever lets files in does.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import asyncpg

from loadtest.scenarios.chaos import (
    END_S,
    PIPELINE,
    Scene,
    audit,
    finished,
    played,
    stop,
)
from loadtest.trial import Progress
from pipeline.errors import StoreUnavailable
from pipeline.model import Submission
from pipeline.store import keeper

KINDS = {
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
    "killed": signal.SIGKILL,
}
EACH = 12  # items between two restarts
OFFER_S = 120.0  # until a receipt must have come


class Giver:
    """
    Offers files until each has its receipt.

    Attributes:
        acknowledged: Names of those whose receipt came.
        offered_again: How often one was offered whose receipt had not come.
    """

    def __init__(self, it: Scene) -> None:
        self._it = it
        self.acknowledged: list[str] = []
        self.offered_again = 0

    async def give(self, count: int) -> None:
        """So many more."""
        first = len(self.acknowledged)
        names = [f"item-{n}" for n in range(first, first + count)]
        await self.offer(names)
        self.acknowledged += names
        self._it.submitted += names

    async def offer(self, names: list[str]) -> None:
        """These, under their own tokens: the same again is the same receipt."""
        rows = [Submission(n, n, n, 1, {}) for n in names]
        until = time.monotonic() + OFFER_S
        while True:
            try:
                batch = await self._it.store.open_batch("t0", "b", deadline_s=86_400)
                await self._it.store.admit(batch, self._it.pipeline_id, rows)
                return
            except StoreUnavailable:
                if time.monotonic() > until:
                    raise
                self.offered_again += 1
                await anyio.sleep(0.1)


async def restart(it: Scene, rounds: int, seed: int, say: Progress) -> dict[str, Any]:
    """Restart the database `rounds` times, each kind in turn, while items run."""
    rng = random.Random(seed)
    giver = Giver(it)
    counted = dict.fromkeys(KINDS, 0)
    took: list[float] = []
    fleet = it.start("worker", "--processes", "2", WAYBILL_CORES="2")
    try:
        await it.until(partial(some_work, it), 120, "a worker")
        for number in range(rounds):
            kind = list(KINDS)[number % len(KINDS)]
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(giver.give, EACH)
                await anyio.sleep(rng.uniform(0.0, 0.6))
                took.append(await _struck(it, KINDS[kind]))
            counted[kind] += 1
            say(f"restart {number + 1} of {rounds}: {kind}, away {took[-1]:.1f} s")
        await it.until(partial(finished, it), END_S, "the end of all items")
    finally:
        stop(fleet)
    names = {r["name"] for r in await it.con.fetch("select name from waybill.items")}
    result = await audit(it)
    gone = [name for name in giver.acknowledged if name not in names]
    bad = ("lost", "failed", "duplicate_outputs", "missing_outputs")
    return {
        "restarts": sum(counted.values()),
        **counted,
        "acknowledged": len(giver.acknowledged),
        "acknowledged_lost": len(gone),
        "offered_again": giver.offered_again,
        "away_max_s": round(max(took), 1),
        **result,
        "good": not gone
        and result["conserved"]
        and not any(result[b] for b in (*bad, "finished_stages_rerun")),
    }


async def some_work(it: Scene) -> bool:
    """Whether a worker is up."""
    return bool(await it.workers())


async def _struck(it: Scene, how: signal.Signals) -> float:
    """End the server; seconds until another one answers."""
    data = it.folder / "pg"
    before = keeper.state_of(data)
    assert before is not None, "there is no server to end"
    began = time.monotonic()
    os.kill(before[0], how)
    while time.monotonic() - began < OFFER_S:
        state = keeper.state_of(data)
        if state is not None and state[0] != before[0] and state[2] == "ready":
            it.con.terminate()
            try:
                it.con = await asyncpg.connect(it.env["WAYBILL_OWNER_URL"], timeout=10)
                return time.monotonic() - began
            except (OSError, asyncpg.PostgresError):
                pass  # not quite yet
        await anyio.sleep(0.02)
    raise TimeoutError(f"no server within {OFFER_S:g} s of its end")


def run(say: Progress, *, rounds: int, seed: int) -> dict[str, Any]:
    """On a server and in a folder of its own."""
    logging.getLogger("asyncpg").setLevel(logging.CRITICAL)  # of servers that are gone
    with tempfile.TemporaryDirectory(prefix="waybill-restarts-") as place:
        work = partial(restart, rounds=rounds, seed=seed, say=say)
        return played(Path(place), PIPELINE, work)
