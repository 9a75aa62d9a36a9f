"""
The supervisor: starts worker processes, replaces what dies, hangs or wants to be
replaced, drains on SIGTERM, on Ctrl-C, and when its terminal is closed.

    1st signal              every worker finishes the stages it is in and leaves
    2nd                     every worker puts back what it has, now
    later                   whoever is still there is killed

A worker that dies is replaced at once; one that keeps dying is restarted more and
more slowly.  For whom it died its slate says, and this process puts it down: the
item whose stage was on the loop answers for it, those beside it do not.  Items that
must run alone run in a process of their own, which is there while there are some.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field

import anyio
import structlog
from anyio.abc import Process, TaskGroup

from pipeline.errors import LoopBlocked, StoreUnavailable
from pipeline.model import Attempt
from pipeline.proc import Lines
from pipeline.run.shepherd import END, REAP_S
from pipeline.run.slate import Slate
from pipeline.run.spare import Spares, send
from pipeline.run.watchdog import IMPATIENT_FOR_S, IMPATIENT_S
from pipeline.store.port import WorkStore
from pipeline.store.strikes import Blame

log = structlog.get_logger()

HEALTHY_S = 10.0  # a worker that lived this long was no crash at start
RESTART_MAX_S = 10.0
NO_PROCESS_S = 2.0  # to the next try to start one, where the machine has no room
# What a worker is sent to stop, and to stop at once.  Two pending signals of one kind
# are one: to whoever was slow to hear of the first, a second SIGTERM would be none.
STOPS = {1: signal.SIGTERM, 2: signal.SIGINT}
GRACE_S = 40.0  # more than a worker's own drain
LOOK_S = 0.25
# The watchdog inside interrupts what can be interrupted; this much later nothing has.
PAST_WATCHDOG_S = 1.0
# So much later it ends though it was in line for a core meanwhile: its lease does as
# well.  Who had so much of its bound in that time had a core, and is charged: a loop
# that turns needs a hundredth of it.
LATEST = 1.5
CHARGED = 0.25
FRAMES_S = 0.1
SESSIONLESS_S = 60.0
LEAVE_S = 5.0
ENDS_S = REAP_S + 2.0  # a shepherd that takes longer hears nothing
# So many deaths in a row are not what the slates said: a thread may have done it,
# while another item's stage was on the loop.  Then all have a part in it.
NAMED_MAX = 8


@dataclass(slots=True)
class _Slot:
    """One worker's place: who is in it, and how often it died young."""

    number: int
    alone: bool = False
    process: Process | None = None
    young_deaths: int = 0
    impatient_until: float = 0.0
    short: bool = False  # of descriptors was who is leaving now


@dataclass(slots=True)
class _Watch:
    """What was seen of one worker process, look by look."""

    slate: Slate
    beats: int = 0
    still_s: float = 0.0
    sessionless_s: float = 0.0
    lines: Lines = field(default_factory=Lines)
    line_s: float = 0.0  # in line for a core, meanwhile

    def look(self, passed_s: float) -> None:
        """
        Take in one moment, `passed_s` after the one before.

        What counts is the time that the worker had: one that is in line for a core
        does not stand still.
        """
        line_s = min(passed_s, self.lines.since(self.slate.pid))
        had_s = passed_s - line_s
        if passed_s > 4 * LOOK_S:
            return  # we slept as well: a machine that was suspended, or too busy
        beats = self.slate.beats
        there = self.slate.session is not None
        stands = beats == self.beats and beats
        self.still_s = self.still_s + had_s if stands else 0.0
        self.line_s = self.line_s + line_s if stands else 0.0
        self.sessionless_s = 0.0 if there else self.sessionless_s + had_s
        self.beats = beats

    @property
    def stood_s(self) -> float:
        """On the wall's clock, since its loop has last turned."""
        return self.still_s + self.line_s


@dataclass(slots=True)
class Supervisor:
    """
    Keeps `count` worker processes running until told to stop.

    Args:
        spares: Starts worker processes.
        store: Where is put down for whom a worker ended.
        blocked_s: So long a stage may hold up a worker's loop.
        sessionless_s: So long a worker may be without a session while the database
            answers, from its start on.
    """

    count: int
    spares: Spares
    store: WorkStore
    blocked_s: float
    sessionless_s: float = SESSIONLESS_S
    _slots: list[_Slot] = field(default_factory=list)
    _leaving: list[Process] = field(default_factory=list)
    _stopping: int = 0
    _stop: anyio.Event = field(default_factory=anyio.Event)
    _suspects: anyio.Event = field(default_factory=anyio.Event)
    _seeing_off: TaskGroup | None = None

    async def run(self) -> None:
        """Until a signal stopped every worker."""
        self._slots = [_Slot(n) for n in range(self.count)]
        self._slots.append(_Slot(self.count, alone=True))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._signals)
            try:
                async with anyio.create_task_group() as self._seeing_off:
                    for slot in self._slots:
                        self._seeing_off.start_soon(self._keep, slot)
            finally:
                await self.spares.aclose()
            tasks.cancel_scope.cancel()

    async def _keep(self, slot: _Slot) -> None:
        """Run one worker after the other in this slot."""
        while not self._stopping:
            if slot.alone:
                await self._suspects.wait()
                if self._stopping:
                    return
            began = anyio.current_time()
            slate = None
            try:
                slot.process, slate = await self.spares.take(
                    alone=slot.alone,
                    impatient=began < slot.impatient_until,
                    short=slot.short,
                )
                code, named = await self._one(slot, slot.process, slate)
            except OSError as error:
                # No descriptor, no memory, no process left: that passes.
                log.error("worker_waits", slot=slot.number, why=error.strerror)
                with anyio.move_on_after(NO_PROCESS_S):
                    await self._stop.wait()
                continue
            else:
                slot.short = slate.short
                if slate.impatient:
                    slot.impatient_until = anyio.current_time() + IMPATIENT_FOR_S
            finally:
                if slate is not None:
                    slate.close()
            if self._stopping:
                log.info("worker_ended", slot=slot.number, code=code)
                continue
            if slot.alone:
                self._suspects = anyio.Event()
            if code is None or (slot.alone and code == 0):
                slot.young_deaths = 0  # it is leaving, or had nothing more to do
                continue
            lived_s = anyio.current_time() - began
            slot.young_deaths = slot.young_deaths + 1 if lived_s < HEALTHY_S else 0
            # The first death is answered at once: recovery is measured in seconds;
            # and so is one whose cause runs alone from now on.
            doublings = max(slot.young_deaths - 2, 0) * (not named)
            pause_s = min(0.25 * (2**doublings - 1), RESTART_MAX_S)
            log.warning(
                "worker_died", slot=slot.number, code=code, restart_in_s=pause_s
            )
            with anyio.move_on_after(pause_s):
                await self._stop.wait()

    async def _one(
        self, slot: _Slot, process: Process, slate: Slate
    ) -> tuple[int | None, bool]:
        """
        A worker's life.

        Returns its exit code (None: it is leaving, and can be replaced), and whether
        one item was named for its end.
        """
        log.info("worker_started", slot=slot.number, pid=process.pid, alone=slot.alone)
        try:
            watch = _Watch(slate)
            hung = await self._until_over(process, watch)
            if slate.leaving and process.returncode is None:
                assert self._seeing_off is not None
                self._leaving.append(process)
                self._seeing_off.start_soon(self._see_off, process)
                return None, False
            code = await process.wait()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await end(process)
            raise
        if hung and watch.still_s < CHARGED * self.blocked_s:
            log.warning("worker_starved", in_line_s=round(watch.line_s, 1))
            named = await self._put_back(slate)
        else:
            named = await self._put_down(slate, hung, slot.young_deaths)
        slate.impatient = slate.impatient or hung  # it may be one of many
        return code, named

    async def _until_over(self, process: Process, watch: _Watch) -> bool:
        """Until it has ended or is leaving; whether it hung, and was killed."""
        looked = anyio.current_time()
        while process.returncode is None and not watch.slate.leaving:
            with anyio.move_on_after(LOOK_S):
                await process.wait()
            now = anyio.current_time()
            watch.look(now - looked)
            looked = now
            if watch.still_s:
                send(process)  # a shepherd that was stopped could not tell an end
            if watch.beats:  # it has begun: its successor may
                await self.spares.prepare()
            if watch.slate.suspects and not self._suspects.is_set():
                self._suspects.set()
            impatient = watch.slate.impatient and not watch.slate.alone
            patience_s = IMPATIENT_S if impatient else self.blocked_s
            most_s = patience_s + PAST_WATCHDOG_S
            last_s = LATEST * (self.blocked_s + PAST_WATCHDOG_S)
            if watch.still_s > most_s or watch.stood_s > last_s:
                # It writes down where it is, if it still can.
                send(process, signal.SIGUSR1)
                await anyio.sleep(FRAMES_S)
                log.error("worker_hangs", pid=process.pid, at=watch.slate.frames())
                await end(process)
                return True
            if watch.sessionless_s > self.sessionless_s and not self._stopping:
                watch.sessionless_s = 0.0
                if await self._answers():
                    log.error("worker_sessionless", pid=process.pid)
                    await end(process)
                    break
        return False

    async def _answers(self) -> bool:
        """Whether the database is there: then it is the worker that is at fault."""
        try:
            await self.store.sessions()
        except StoreUnavailable:
            return False
        return True

    async def _put_back(self, slate: Slate) -> bool:
        """
        Close the session of one that was given no core: nobody is charged.

        Whose stage was on its loop is tried alone, where it harms nobody.
        """
        session, who = slate.session, slate.holder()
        if session is None:
            return slate.joined
        blamed = Blame(who.item) if who is not None and not who.alone else None
        with anyio.move_on_after(LEAVE_S, shield=True):
            try:
                await self.store.leave(session, died=blamed is not None, blamed=blamed)
            except StoreUnavailable as error:
                log.warning("leave_waits", code=error.code)
        return True

    async def _put_down(self, slate: Slate, hung: bool, deaths: int) -> bool:
        """Close the session of a process that is gone; whether one item was named."""
        session, who = slate.session, slate.holder()
        if session is None:
            # It has left, and said itself for whom; or it died before it had one.
            return slate.joined
        blamed: Blame | None = None
        if who is not None and hung and (who.alone or not slate.impatient):
            error = LoopBlocked.of(self.blocked_s + PAST_WATCHDOG_S, slate.frames())
            said = f"{error.message} ({error.hint})"
            failed = Attempt(who.stage, who.attempt, error.code, said, True)
            blamed = Blame(who.item, failed, who.last)
        elif who is not None and deaths < NAMED_MAX:
            blamed = Blame(who.item)
        if blamed is not None and who is not None:
            log.error(
                "worker_ended_by", item=who.item, stage=who.stage, attempt=who.attempt
            )
        with anyio.move_on_after(LEAVE_S, shield=True):
            try:
                await self.store.leave(session, died=True, blamed=blamed)
                if await self.store.suspects():
                    self._suspects.set()
            except StoreUnavailable as error:
                # Its neighbours or its successor will see that it is gone.
                log.warning("leave_waits", code=error.code)
        return blamed is not None

    async def _see_off(self, process: Process) -> None:
        """A worker that is replaced already: it has the time of a drain."""
        try:
            with anyio.move_on_after(GRACE_S):
                await process.wait()
        finally:
            with anyio.CancelScope(shield=True):
                await end(process)
            self._leaving.remove(process)

    async def _signals(self) -> None:
        heard = [signal.SIGTERM, signal.SIGINT]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # not: by nohup
            heard.append(signal.SIGHUP)
        with anyio.open_signal_receiver(*heard) as signals:
            async with anyio.create_task_group() as tasks:
                async for _ in signals:
                    self._stopping += 1
                    self._stop.set()
                    self._suspects.set()
                    log.info("stopping", step=self._stopping)
                    self._signal_all(STOPS.get(self._stopping, END))
                    if self._stopping == 1:
                        tasks.start_soon(self._last_resort)

    async def _last_resort(self) -> None:
        await anyio.sleep(GRACE_S)
        log.error("workers_killed", after_s=GRACE_S)
        self._signal_all(END)
        await anyio.sleep(ENDS_S)
        self._signal_all(signal.SIGKILL)

    def _signal_all(self, what: signal.Signals) -> None:
        for process in [*(slot.process for slot in self._slots), *self._leaving]:
            if process is not None:
                send(process, what)


async def end(process: Process) -> None:
    """
    End a worker now, and what its stages have left: its shepherd sees to it.

    One that a stage has stopped for good, as who traces it can, is killed, and its
    worker with it.
    """
    send(process, END)
    with anyio.move_on_after(ENDS_S):
        await process.wait()
        return
    send(process, signal.SIGKILL)
    await process.wait()
