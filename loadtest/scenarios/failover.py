"""
Failovers: the primary is killed, its standby promoted, and the address moves.

Synchronous, a receipt that came, and an end that was seen, are on the standby: none may
be missing.  Asynchronous, the standby falls behind before the primary is killed, and
what it had not received is gone: what was acknowledged is counted and named; offered
again it is done.
"""

from __future__ import annotations

import logging
import random
import signal
import tempfile
import time
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import asyncpg

from loadtest.scenarios.chaos import END_S, Scene, finished, scene, stop
from loadtest.scenarios.postgres import READY_S, Server, lead
from loadtest.scenarios.restarts import Giver, some_work
from loadtest.trial import Progress
from pipeline.store.embedded import Embedded
from pipeline.store.migrate import APP_ROLE

EACH = 12  # items between two failovers
NAMED_MAX = 20  # lost items that are named
EVERYBODY_ANEW = "update waybill.workers set lease_until = waybill.clock()"
STREAMING = "select count(*) from pg_stat_replication where state = 'streaming'"
IN_STEP = f"{STREAMING} and sync_state in ('sync', 'quorum')"


class Pair:
    """A primary, its standby, and the address that leads to the primary."""

    def __init__(self, folder: Path, *, synchronous: bool) -> None:
        self._folder = folder
        self._numbers = count(1)
        self.synchronous = synchronous
        self.address = folder / "address"
        self.primary = self._server()
        self.standby = self.primary  # until `begin`

    def _server(self) -> Server:
        return Server(self._folder / f"server-{next(self._numbers)}")

    async def begin(self) -> Embedded:
        """Both, one following the other; URLs that lead to whoever is the primary."""
        self.primary.make()
        self.primary.start()
        await self.primary.prepare()
        lead(self.address, self.primary)
        await self._follow()
        url = self.primary.url
        return Embedded(url(self.address), url(self.address, role=APP_ROLE))

    async def fall_behind(self) -> None:
        """From now on the standby receives nothing; commits do not wait for it."""
        await self.standby.says("alter system set primary_conninfo = ''")
        await self.standby.says("select pg_reload_conf()")
        await self._until(f"select not exists ({STREAMING} having count(*) > 0)")

    async def fail_over(self) -> float:
        """Kill the primary, promote its standby; seconds until that takes writes."""
        began = time.monotonic()
        self.primary.end(signal.SIGKILL)
        await self.standby.says("alter system set synchronous_standby_names = ''")
        await self.standby.says("select pg_promote(true, 60)")
        if not self.synchronous:
            # Numbers of lost items are given anew: whoever works on one must let go of
            # it before anybody reaches this server.
            await self.standby.says(EVERYBODY_ANEW, "waybill")
        lead(self.address, self.standby)
        took_s = time.monotonic() - began
        self.primary.remove()
        self.primary = self.standby
        await self._follow()
        return took_s

    async def _follow(self) -> None:
        """A new standby of the primary; with it in step commits wait for it again."""
        self.standby = self._server()
        self.standby.follow(self.primary)
        self.standby.start()
        await self._until(STREAMING)
        if self.synchronous:
            await self.primary.says("alter system set synchronous_standby_names = '*'")
            await self.primary.says("select pg_reload_conf()")
            await self._until(IN_STEP)

    async def _until(self, true: str) -> None:
        until = time.monotonic() + READY_S
        while not await self.primary.says(true):
            if time.monotonic() > until:
                raise TimeoutError("the standby does not follow")
            await anyio.sleep(0.05)

    def end(self) -> None:
        """Both of them."""
        for server in (self.primary, self.standby):
            server.remove()


async def _play(
    it: Scene, pair: Pair, rounds: int, seed: int, say: Progress
) -> dict[str, Any]:
    rng = random.Random(seed)
    giver = Giver(it)
    lost: list[str] = []
    undone: list[str] = []
    took: list[float] = []
    fleet = it.start("worker", "--processes", "2", WAYBILL_CORES="2")
    try:
        await it.until(partial(some_work, it), 120, "a worker")
        for number in range(rounds):
            await giver.give(EACH)
            if not pair.synchronous:
                await pair.fall_behind()
                await giver.give(EACH)
            await anyio.sleep(rng.uniform(0.0, 1.0))
            done = set(await _names(it, "join waybill.outcomes o on o.item_id = i.id"))
            given = list(giver.acknowledged)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(giver.give, EACH)  # under way while it fails over
                took.append(await pair.fail_over())
            await _connect(it)
            there = set(await _names(it))
            gone = [name for name in given if name not in there]
            ended = set(await _names(it, "join waybill.outcomes o on o.item_id = i.id"))
            undone += sorted(done - ended - set(gone))
            lost += gone
            if gone:
                await giver.offer(gone)
            say(
                f"failover {number + 1} of {rounds}: {took[-1]:.1f} s, {len(gone)} lost"
            )
        await it.until(lambda: finished(it), END_S, "the end of all items")
    finally:
        stop(fleet)
    counts = await it.store.counts()
    ends = set(await _names(it, "join waybill.outcomes o on o.item_id = i.id"))
    return {
        "failovers": len(took),
        "acknowledged": len(giver.acknowledged),
        "acknowledged_lost": len(lost),
        "ends_lost": len(undone),
        "lost_named": [*lost, *undone][:NAMED_MAX],
        "unfinished": len(set(giver.acknowledged) - ends),
        "failed": counts.failed,
        "codes": await _codes(it),
        "conserved": counts.conserved and not await it.store.astray(),
        "away_max_s": round(max(took), 1),
    }


async def _codes(it: Scene) -> dict[str, int]:
    """Why items failed."""
    rows = await it.con.fetch(
        "select code, count(*) as n from waybill.outcomes where state = 'failed'"
        " group by 1"
    )
    return {r["code"]: r["n"] for r in rows}


async def _names(it: Scene, join: str = "") -> list[str]:
    rows = await it.con.fetch(f"select i.name from waybill.items i {join}")
    return [r["name"] for r in rows]


async def _connect(it: Scene) -> None:
    it.con.terminate()
    it.con = await asyncpg.connect(it.env["WAYBILL_OWNER_URL"], timeout=30)


def run(say: Progress, *, rounds: int, asynchronous: int, seed: int) -> dict[str, Any]:
    """`rounds` failovers with a synchronous standby, then some with one that is not."""
    logging.getLogger("asyncpg").setLevel(logging.CRITICAL)  # of servers that are gone
    found = {}
    for word, number in (("synchronous", rounds), ("asynchronous", asynchronous)):
        if number:
            say(f"{number} failovers, {word}")
            found[word] = _played(word == "synchronous", number, seed, say)
    sync = found.get("synchronous", {})
    whole = [
        r["conserved"] and not r["failed"] and not r["unfinished"]
        for r in found.values()
    ]
    kept = not sync.get("acknowledged_lost") and not sync.get("ends_lost")
    return {
        "failovers": sum(r["failovers"] for r in found.values()),
        **found,
        "good": bool(kept and whole and all(whole)),
    }


def _played(synchronous: bool, rounds: int, seed: int, say: Progress) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="waybill-failover-") as place:
        folder = Path(place)
        pair = Pair(folder, synchronous=synchronous)

        async def main() -> dict[str, Any]:
            server = await pair.begin()
            async with scene(folder, server) as it:
                return await _play(it, pair, rounds, seed, say)

        try:
            return anyio.run(main)
        finally:
            pair.end()
