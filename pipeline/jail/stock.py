"""
The stock of a pool: its jailed processes, started when needed, used again, buried.

Whoever takes one has it alone, and gives it back or buries it, whatever happens.
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread

from pipeline.errors import Transient
from pipeline.jail.process import JailedProcess, how_it_ended, start
from pipeline.jail.scratch import Scratch

START_S = 30.0  # a start takes 0.1 s; a machine that swaps may need far longer
REAP_S = 5.0  # after SIGKILL; longer means uninterruptible sleep in the kernel


class Stock:
    """
    The processes of one pool.

    Args:
        config: What a process is told of its limits (`pipeline.jail.program`).
        scratch: Where their private folders lie; None: where temporary files do.

    Attributes:
        jail: What stands, as the last process reported it.
        counts: How many `started`, `ended` by themselves, were `killed` on timeout
            or cancellation, `recycled`, or `disowned` since they could not be reaped.
    """

    def __init__(self, config: dict[str, Any], scratch: Path | None) -> None:
        self.scratch = Scratch(scratch)
        self.jail: dict[str, Any] = {}
        self.idle: list[JailedProcess] = []
        self.busy: set[JailedProcess] = set()
        self.closed = False
        self.counts: Counter[str] = Counter()
        self._config = config

    def __repr__(self) -> str:
        return f"<Stock {len(self.busy)} busy + {len(self.idle)} idle>"

    async def take(self, *, fresh: bool) -> JailedProcess:
        """
        An idle process, or a new one.

        Raises:
            Transient: JAIL_START, JAIL_CLOSED.
        """
        self.check_open()
        while self.idle and not fresh:
            jailed = self.idle.pop()
            self.busy.add(jailed)
            if jailed.process.returncode is None:
                return jailed
            await self.bury(jailed, "ended")  # while it was idle
        return await self._start()

    def give_back(self, jailed: JailedProcess) -> None:
        """It answered and will be used again."""
        self.busy.discard(jailed)
        self.idle.append(jailed)

    async def bury(self, jailed: JailedProcess, how: str = "") -> None:
        """Kill the process's group, reap it, remove its scratch folder; bounded."""
        if how:
            self.counts[how] += 1
        jailed.kill()
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(REAP_S) as scope:
                # Closes the pipes, then waits.  A process in uninterruptible
                # sleep cannot be reaped; it holds no lock of ours.
                await jailed.process.aclose()
            if scope.cancelled_caught:
                self.counts["disowned"] += 1
            await to_thread.run_sync(shutil.rmtree, jailed.scratch, True)
        self.busy.discard(jailed)

    async def aclose(self) -> None:
        """Kill every process and remove the scratch folders.  Idempotent."""
        self.closed = True
        for jailed in [*self.idle, *self.busy]:
            jailed.kill()  # a busy one's caller reaps it
        while self.idle:
            await self.bury(self.idle.pop())
        if not self.busy:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(self.scratch.remove)

    def check_open(self) -> None:
        """Raise JAIL_CLOSED once the pool was closed: a shutdown, no crash."""
        if self.closed:
            raise Transient(
                "the pool of jailed processes is closed", code="JAIL_CLOSED"
            )

    async def _start(self) -> JailedProcess:
        """Start a process and wait until its jail stands."""
        jailed = await start(self.scratch.folder(), self._config)
        self.busy.add(jailed)
        self.counts["started"] += 1
        try:
            with anyio.fail_after(START_S):
                answer = await jailed.receive(self._config["output_bytes"])
        except (
            TimeoutError,
            anyio.BrokenResourceError,
            anyio.EndOfStream,
            anyio.IncompleteRead,
        ):
            await self.bury(jailed)
            self.check_open()
            how = how_it_ended(jailed.process.returncode)
            raise Transient(
                f"a jailed process did not start: {how}",
                code="JAIL_START",
                hint="run `waybill doctor`; look at memory and process limits",
            ) from None
        except BaseException:
            await self.bury(jailed)
            raise
        self.jail = answer["ok"]
        return jailed
