"""
The supervisor: starts worker processes, restarts the dead, drains on SIGTERM.

    1st SIGTERM or SIGINT   every worker finishes the stages it is in and leaves
    2nd                     every worker puts back what it has, now
    later                   SIGKILL to whoever is still there

A worker that dies is replaced at once; one that keeps dying is restarted more and
more slowly.  Its items are put back by the replacement, which sees that the old
process is gone.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import anyio
import structlog
from anyio.abc import Process

log = structlog.get_logger()

HEALTHY_S = 10.0  # a worker that lived this long was no crash at start
RESTART_MAX_S = 10.0
NO_PROCESS_S = 2.0  # to the next try to start one, where the machine has no room
GRACE_S = 40.0  # more than a worker's own drain


@dataclass(slots=True)
class _Slot:
    """One worker's place: who is in it, and how often it died young."""

    number: int
    process: Process | None = None
    young_deaths: int = 0


@dataclass(slots=True)
class Supervisor:
    """
    Keeps `count` worker processes running until told to stop.

    Args:
        command: The command line of one worker.
        environment: What its environment adds to ours.
    """

    count: int
    command: Sequence[str]
    environment: Mapping[str, str]
    _slots: list[_Slot] = field(default_factory=list)
    _stopping: int = 0
    _stop: anyio.Event = field(default_factory=anyio.Event)

    async def run(self) -> None:
        """Until a signal stopped every worker."""
        self._slots = [_Slot(n) for n in range(self.count)]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._signals)
            async with anyio.create_task_group() as keepers:
                for slot in self._slots:
                    keepers.start_soon(self._keep, slot)
            tasks.cancel_scope.cancel()

    async def _keep(self, slot: _Slot) -> None:
        """Run one worker after the other in this slot."""
        while not self._stopping:
            began = anyio.current_time()
            # Its own session: a Ctrl-C in the terminal reaches us alone, and we
            # pass it on once.
            try:
                slot.process = await anyio.open_process(
                    list(self.command),
                    stdin=None,
                    stdout=None,
                    stderr=None,
                    env={**os.environ, **self.environment, PARENT: str(os.getpid())},
                    start_new_session=True,
                )
            except OSError as error:
                # No descriptor, no memory, no process left: that passes.
                log.error("worker_waits", slot=slot.number, why=error.strerror)
                with anyio.move_on_after(NO_PROCESS_S):
                    await self._stop.wait()
                continue
            log.info("worker_started", slot=slot.number, pid=slot.process.pid)
            try:
                code = await slot.process.wait()
            except BaseException:
                slot.process.kill()
                raise
            if self._stopping:
                log.info("worker_ended", slot=slot.number, code=code)
                continue
            lived_s = anyio.current_time() - began
            slot.young_deaths = slot.young_deaths + 1 if lived_s < HEALTHY_S else 0
            # The first death is answered at once: recovery is measured in seconds.
            doublings = max(slot.young_deaths - 2, 0)
            pause_s = min(0.25 * (2**doublings - 1), RESTART_MAX_S)
            log.warning(
                "worker_died", slot=slot.number, code=code, restart_in_s=pause_s
            )
            with anyio.move_on_after(pause_s):
                await self._stop.wait()

    async def _signals(self) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with anyio.create_task_group() as tasks:
                async for _ in signals:
                    self._stopping += 1
                    self._stop.set()
                    log.info("stopping", step=self._stopping)
                    self._signal_all(
                        signal.SIGTERM if self._stopping <= 2 else signal.SIGKILL
                    )
                    if self._stopping == 1:
                        tasks.start_soon(self._last_resort)

    async def _last_resort(self) -> None:
        await anyio.sleep(GRACE_S)
        log.error("workers_killed", after_s=GRACE_S)
        self._signal_all(signal.SIGKILL)

    def _signal_all(self, what: signal.Signals) -> None:
        for slot in self._slots:
            if slot.process is not None and slot.process.returncode is None:
                slot.process.send_signal(what)


PARENT = "WAYBILL_SUPERVISOR_PID"


def follow_parent() -> None:
    """
    Called by a worker: drain when the supervisor dies, however it dies.

    Linux alone has the call; elsewhere orphaned workers go on until stopped.
    """
    parent = os.environ.get(PARENT)
    if parent is None or sys.platform != "linux":
        return
    import ctypes

    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
    if os.getppid() != int(parent):  # it died before we asked
        os.kill(os.getpid(), signal.SIGTERM)
