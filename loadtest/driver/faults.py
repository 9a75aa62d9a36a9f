"""
What is done to a running service, one function a kind of phase.

Each makes its faults within the phase's time and writes every one into the run's
folder; what this machine cannot do is said, and not counted.
"""

from __future__ import annotations

import ctypes.util
import os
import random
import shutil
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import asyncpg

from loadtest.driver import placing
from loadtest.driver.kinds import (
    Backends,
    Clock,
    DatabaseRestart,
    DiskFull,
    Drain,
    Failover,
    Kill,
    Network,
    Outage,
    SlowVendor,
    Upgrade,
    Zombie,
)
from loadtest.driver.scenario import Scenario
from loadtest.driver.stand import AWAY, Stand
from loadtest.driver.standby import FOLLOWING
from loadtest.scenarios.troubles import Full
from loadtest.trial import Progress
from pipeline.store import keeper

UP_S = 120.0  # for a worker to start, on a busy machine
BUSY_S = 20.0  # to wait for a worker that has anything in hand
BACK_S = 60.0
STOP_SIGNALS = {
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
    "kill": signal.SIGKILL,
}
HALF_OPEN_S = 6.0  # longer than a worker waits for an answer to its renewal
FAKETIME = "libfaketime.so.1"
FAKETIME_PATHS = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
    "/usr/local/lib/faketime/libfaketime.so.1",
)


class Ground:
    """What a fault needs: the stand, dice, and somebody to tell."""

    def __init__(self, it: Stand, say: Progress) -> None:
        self.it = it
        self.say = say
        self.rng = random.Random(f"faults:{it.scenario.seed}")
        self.not_run: dict[str, str] = {}  # kind -> why this machine cannot

    @property
    def scenario(self) -> Scenario:
        """The run's."""
        return self.it.scenario

    def spread(self, for_s: float, times: int) -> list[float]:
        """Pauses before each of so many moments within the phase."""
        moments = sorted(self.rng.uniform(0.05, 0.8) * for_s for _ in range(times))
        before = [0.0, *moments[:-1]]
        return [at - last for at, last in zip(moments, before, strict=True)]

    def cannot(self, kind: str, why: str) -> None:
        """Say that a fault was not made."""
        self.not_run[kind] = why
        self.say(f"{kind}: not run, {why}")

    async def ask(self, sql: str, *values: Any) -> Any:
        """One value, or a command's None, by the owner, over no bad network."""
        con = await asyncpg.connect(self.it.server.owner_url, timeout=10)
        try:
            return await con.fetchval(sql, *values)
        finally:
            await con.close()

    async def worker(self) -> int | None:
        """Any of the service's workers; of those that only wait in reserve none."""
        ours = set(self.it.workers())
        sql = "select array_agg(pid) from waybill.workers where lease_until > now()"
        with suppress(*AWAY):
            ours &= set(await self.ask(sql) or ())
        return self.rng.choice(sorted(ours)) if ours else None

    async def until(self, what: Callable[[], Awaitable[Any]], limit_s: float) -> bool:
        """Wait for it; whether it came."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            with suppress(*AWAY):
                if await what():
                    return True
            await anyio.sleep(0.1)
        return False


# -- workers --------------------------------------------------------------------------


async def kill(on: Ground, phase: Kill, for_s: float) -> None:
    """SIGKILL to any worker of the service."""
    for pause in on.spread(for_s, phase.times):
        await anyio.sleep(pause)
        pid = await on.worker()
        if pid is None:
            continue  # all of them are being replaced
        with on.it.run.fault("kill", "worker"), suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


HELD_BY = """
select count(*) from waybill.running r join waybill.workers w on w.id = r.worker_id
 where w.pid = $1
"""
SESSION = "select id from waybill.workers where pid = $1 order by started_at desc"
THERE = "select exists (select from waybill.workers where id = $1)"


async def zombie(on: Ground, phase: Zombie, for_s: float) -> None:
    """A worker beside the service's is stopped beyond its lease, and goes on."""
    worker = on.it.start("work", WAYBILL_LEASE_S=str(phase.lease_s), WAYBILL_CORES="1")
    pid = worker.pid
    try:
        for _ in range(phase.times):
            if not await on.until(lambda: on.ask(SESSION, pid), UP_S):
                on.cannot("zombie", "its worker did not come up")
                return
            # It may have nothing to do: it is stopped all the same.
            await on.until(lambda: on.ask(HELD_BY, pid), BUSY_S)
            session = await on.ask(SESSION, pid)
            with on.it.run.fault("zombie", f"{phase.lease_s:.0f} s lease"):
                os.kill(pid, signal.SIGSTOP)
                gone = await on.until(partial(_gone, on, session), BACK_S)
                os.kill(pid, signal.SIGCONT)
            if not gone:
                on.say("zombie: its session was not ended while it was stopped")
            await anyio.sleep(2)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(on.it.stop, worker)


async def _gone(on: Ground, session: Any) -> bool:
    return not await on.ask(THERE, session)


async def drain(on: Ground, phase: Drain, for_s: float) -> None:
    """SIGTERM to the service; when it has ended it is started again."""
    for pause in on.spread(for_s, phase.times):
        await anyio.sleep(pause)
        service = on.it.service
        if service is None:
            return
        with on.it.run.fault("drain", "service"), anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(on.it.stop, service, 90.0)
            on.it.up()


async def clock(on: Ground, phase: Clock, for_s: float) -> None:
    """A worker beside the service's, whose clock is wrong."""
    library = next((p for p in FAKETIME_PATHS if os.path.exists(p)), "")
    library = library or ctypes.util.find_library("faketime") or ""
    if not library:
        on.cannot("clock", "libfaketime is not installed: scripts/setup libfaketime")
        return
    wrong = {"LD_PRELOAD": library, "FAKETIME": f"{phase.hours:+.0f}h"}
    wrong["FAKETIME_DONT_FAKE_MONOTONIC"] = "1"
    worker = on.it.start("work", WAYBILL_CORES="1", **wrong)
    try:
        with on.it.run.fault("clock", f"{phase.hours:+.0f} h"):
            await anyio.sleep(for_s)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(on.it.stop, worker)


# -- the database and the way to it ---------------------------------------------------


async def database_restart(on: Ground, phase: DatabaseRestart, for_s: float) -> None:
    """The server is stopped; its keeper starts it again."""
    for how in phase.how:
        state = keeper.state_of(on.it.data)
        if state is None:
            await anyio.sleep(1)
            continue
        with on.it.run.fault("database-restart", how):
            with suppress(ProcessLookupError):
                os.kill(state[0], STOP_SIGNALS[how])
            await anyio.sleep(0.5)
            if not await on.until(lambda: on.ask("select true"), BACK_S):
                on.say(f"the database did not come back after {how}")
        await anyio.sleep(for_s / len(phase.how))


TERMINATE = """
select count(pg_terminate_backend(pid)) from pg_stat_activity
 where usename = 'waybill_app'
"""


async def backends(on: Ground, phase: Backends, for_s: float) -> None:
    """Every connection of the service is ended."""
    for pause in on.spread(for_s, phase.times):
        await anyio.sleep(pause)
        with on.it.run.fault("backends", "all"):
            await on.ask(TERMINATE)


async def network(on: Ground, phase: Network, for_s: float) -> None:
    """The proxy behaves badly."""
    proxy = on.it.proxy
    assert proxy is not None
    each_s = for_s / len(phase.how)
    for how in phase.how:
        with on.it.run.fault("network", how) as fault:
            if how == "cut-commit":
                fault.what = await _cut_commits(on, each_s)
            else:
                proxy.steer(way=how)
                await anyio.sleep(min(each_s, HALF_OPEN_S) if how != "cut" else 0)
                proxy.steer(way="pass")
        await anyio.sleep(each_s / 3)


async def _cut_commits(on: Ground, for_s: float) -> str:
    """A COMMIT a second goes through, and its answer is lost; how many it were."""
    proxy = on.it.proxy
    assert proxy is not None
    before = proxy.steer(way="pass")
    for _ in range(max(1, round(for_s))):
        proxy.steer(way="cut-commit")
        await anyio.sleep(1)
    return f"cut-commit, {proxy.steer(way='pass') - before} answers"


async def failover(on: Ground, phase: Failover, for_s: float) -> None:
    """The first server is killed for good; the standby is promoted."""
    standby, proxy = on.it.standby, on.it.proxy
    if standby is None or proxy is None or on.it.failed_over:
        on.cannot("failover", "it happens once in a run")
        return
    if phase.how == "synchronous":
        await on.ask("alter system set synchronous_standby_names = '*'")
        await on.ask("select pg_reload_conf()")
    await on.until(lambda: on.ask(FOLLOWING), BACK_S)
    await anyio.sleep(for_s / 3)
    with on.it.run.fault("failover", phase.how):
        standby.kill_first()
        on.it.failed_over = True
        await on.until(standby.promoted, BACK_S)
        proxy.steer(way="cut", target=str(standby.socket))
        if phase.how == "asynchronous":
            await anyio.to_thread.run_sync(_offer_again, on.it)


def _offer_again(it: Stand) -> None:
    """
    What was acknowledged in the last moment is in the archive and nowhere else.

    A day's folder of the archive has everything; what is known is a duplicate.
    """
    for file in (it.home / "archive").rglob("*"):
        if file.is_file():
            target = it.home / "inbox" / file.relative_to(it.home / "archive")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)


# -- vendors --------------------------------------------------------------------------


async def outage(on: Ground, phase: Outage, for_s: float) -> None:
    """A vendor accepts nothing for a while."""
    with on.it.run.fault("outage", f"{phase.vendor} {phase.how}"):
        on.it.world.outage(phase.vendor, for_s=for_s, how=phase.how)
        await anyio.sleep(for_s)


async def slow_vendor(on: Ground, phase: SlowVendor, for_s: float) -> None:
    """A vendor takes its time."""
    usual = on.it.world.shown["vendors"][phase.vendor].get("latency", {})
    slow = {
        key: value * phase.times if key != "max_s" else min(value * phase.times, 300.0)
        for key, value in usual.items()
        if key.endswith("_s")
    }
    if not slow:
        on.cannot("slow-vendor", f"{phase.vendor} has no latency")
        return
    with on.it.run.fault("slow-vendor", f"{phase.vendor} x{phase.times:g}"):
        on.it.world.set(phase.vendor, latency={**usual, **slow})
        try:
            await anyio.sleep(for_s)
        finally:
            on.it.world.set(phase.vendor, latency=usual)


# -- the machine, and what runs on it -------------------------------------------------


async def disk_full(on: Ground, phase: DiskFull, for_s: float) -> None:
    """Small disks of their own, which were mounted before the service started."""
    if not on.it.small.mounted:
        on.cannot("disk-full", "it takes root, or no disk could be mounted")
        return
    for where in phase.where:
        full = Full(where)
        with on.it.run.fault("disk-full", where):
            await full.strike(on.it.small)
            try:
                await anyio.sleep(for_s / (2 * len(phase.where)))
            finally:
                await full.mend(on.it.small)
        await anyio.sleep(for_s / (2 * len(phase.where)))


async def upgrade(on: Ground, phase: Upgrade, for_s: float) -> None:
    """Another version of the pipeline's folder."""
    with on.it.run.fault("upgrade", on.it.pipeline):
        placing.upgrade(on.it.pipelines, on.it.pipeline, len(on.it.run.faults))


FAULTS: dict[type, Callable[..., Coroutine[Any, Any, None]]] = {
    Backends: backends,
    Clock: clock,
    DatabaseRestart: database_restart,
    DiskFull: disk_full,
    Drain: drain,
    Failover: failover,
    Kill: kill,
    Network: network,
    Outage: outage,
    SlowVendor: slow_vendor,
    Upgrade: upgrade,
    Zombie: zombie,
}
