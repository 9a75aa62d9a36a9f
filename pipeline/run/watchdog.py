"""
The watchdog: a stage that holds up the loop, seen from outside the loop.

Every stage is driven by `Watched`, which says on the slate whose stage is on the
loop.  While the loop turns it pushes an alarm of the kernel ahead of itself; when it
does not, the alarm goes off in the midst of whatever holds it up: `time.sleep`, a
long regular expression, a loop without an await.  It is named in the log, with its
frame, and after `blocked_s` it is interrupted where it stands: that try of that item
has failed, and nothing else has happened.  Where that was, it may be a day of many:
for a minute whoever holds up the loop is soon sent away, uncharged, to be tried
alone.  A call that no signal interrupts keeps the alarm out as well; then the
supervisor, which sees that the slate stands still, ends the process (supervisor.py).

Time is what this process had, asleep or on a core: in line for one, it had none.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from contextvars import ContextVar, copy_context
from types import FrameType
from typing import Any, NoReturn

import anyio
import structlog

from pipeline.errors import LoopBlocked, LoopCrowded, MemoryOutgrown, WaybillError
from pipeline.proc import OwnTime, resident_bytes
from pipeline.run.descriptors import Descriptors
from pipeline.run.frames import waits_at
from pipeline.run.holding import HOLDING, Holding, ThreadsLeft
from pipeline.run.origin import turned
from pipeline.run.rlimits import Rlimits
from pipeline.run.slate import Slate, place_of

log = structlog.get_logger()

NOTICE_S = 1.0  # so long the loop may stand still without a word
AGAIN_S = 0.25
STOOD = 0.8  # of it must be time that this process had
SETTLED_BEATS = 2
IMPATIENT_S = 0.5
IMPATIENT_FOR_S = 60.0  # after somebody was interrupted
BEAT_S = 0.2
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)
# Who catches its cancellation so often, each time to wait again, does not end by it.
# (asyncio throws it; trio, for tests, hands it over as a value that is not seen here.)
SWALLOWED_MAX = 100
MEMORY_SLACK = 1.5  # past it nothing is waited for


class Watchdog:
    """
    Watches the loop of this process, from its main thread.

    Args:
        blocked_s: So long one stage may hold up the loop.
        memory_bytes: More than that resident, and the process is replaced.
        recycle: Called when it shall be; with True when at once.
        give_up: Where there is no supervisor: called with the end of a try that
            swallowed it and goes on.
    """

    def __init__(
        self,
        slate: Slate,
        *,
        blocked_s: float,
        memory_bytes: int,
        recycle: Callable[[bool], None],
        give_up: Callable[[WaybillError], None] | None = None,
    ) -> None:
        self.slate = slate
        self._blocked_s = blocked_s
        self._memory_bytes = memory_bytes
        self._recycle = recycle
        self._give_up = give_up
        self._recycling = 0
        self._alone: Holding | None = None
        self.torn: Holding | None = None  # whose stage ended the loop
        self._now = OwnTime()
        self._beat_at, self._queued_s = self._now(), self._now.queued_s
        self._impatient_until = 0.0
        if slate.impatient:  # so was the process before this one
            self._impatient_until = self._beat_at + IMPATIENT_FOR_S
        self.unsettled = 0  # beats until what was interrupted is written down
        self._seen: tuple[Holding | None, float] = (None, 0.0)
        self.descriptors = Descriptors(counting=slate.short)
        self.rlimits = Rlimits()
        self._handlers: dict[signal.Signals, Any] = {}
        self.threads = ThreadsLeft()

    def __repr__(self) -> str:
        return f"<Watchdog {self.slate!r} threads_left={self.threads.count}>"

    def stand(self) -> None:
        """Have it watch what this task and those it starts will run."""
        WATCHDOG.set(self)
        asyncio.get_running_loop().set_task_factory(self._task)
        signal.signal(signal.SIGALRM, self._alarm)
        self.rlimits.listen()
        self.slate.show_frames()
        self.slate.pid = os.getpid()

    def _task(
        self, loop: asyncio.AbstractEventLoop, work: Any, **given: Any
    ) -> asyncio.Task[Any]:
        """A task; of one that a stage starts the slate says whose it is."""
        holding = (given.get("context") or copy_context()).get(HOLDING)
        if holding is not None and inspect.iscoroutine(work):
            work = _beside(self, holding, work)
        return asyncio.Task(work, loop=loop, **given)

    async def run(self) -> None:
        """Watch for as long as this task lives; in the main thread."""
        self._handlers = {what: signal.getsignal(what) for what in SIGNALS}
        try:
            while True:
                self._beat()
                self._mend_handlers()
                self.mend_limits()
                await anyio.sleep(BEAT_S)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _beat(self) -> None:
        self.slate.beat()
        self._beat_at, self._queued_s = self._now(), self._now.queued_s
        self._seen = (None, 0.0)
        self.unsettled = max(0, self.unsettled - 1)
        signal.setitimer(signal.ITIMER_REAL, self._notice_s(), AGAIN_S)
        self._look_around()

    def _mend_handlers(self) -> None:
        """A stage may have taken them: this process would not hear that it must end."""
        for what, handler in self._handlers.items():
            if signal.getsignal(what) is not handler:
                log.warning("signal_handler_mended", signal=what.name)
                signal.signal(what, handler)

    def mend_limits(self) -> None:
        """A stage may have set them, for all: its neighbours would fail by them."""
        self.rlimits.mend_depth()
        if self.rlimits.touched and not self.rlimits.put_back():
            self._replace("limits")

    def _look_around(self) -> None:
        """Has this process grown too large, gathered things, or become too small?"""
        if self.rlimits.lower_for_long():
            self._replace("limits")
        too_many = self.threads.look()
        used = resident_bytes()
        if used > self._memory_bytes and not self._recycling:
            gc.collect()  # it is looked for seldom (worker.py), and is no leak
            used = resident_bytes()
        if used > self._memory_bytes:
            if self._alone is not None and self._alone.end is None:
                self._alone.end = MemoryOutgrown.of(self._memory_bytes)
            self._replace("memory", used_bytes=used)
        elif too_many:
            self._replace("threads", threads=self.threads.count)
        if used > self._memory_bytes * MEMORY_SLACK:
            self._replace("memory", now=True, used_bytes=used)
        self.look_at_descriptors()

    def look_at_descriptors(self) -> None:
        """Are there few left?"""
        used = self.descriptors.full(self._alone)
        if used:
            self.slate.short = True
            self._replace("descriptors", descriptors=used)

    def _notice_s(self) -> float:
        impatient = self._beat_at < self._impatient_until and self._alone is None
        return IMPATIENT_S if impatient else NOTICE_S

    def _replace(self, why: str, *, now: bool = False, **facts: Any) -> None:
        if self._recycling <= now:
            self._recycling = now + 1
            log.warning("worker_recycled", why=why, now=now, **facts)
            self._recycle(now)

    def _alarm(self, _: int, frame: FrameType | None) -> None:
        """The loop has not turned for a while: who holds it up, and for how long?"""
        now = self._now()
        line_s = self._now.queued_s - self._queued_s
        in_line = AGAIN_S / 2 < line_s < self._blocked_s
        if in_line and now - self._beat_at < STOOD * self._notice_s():
            return  # it could not turn
        holding = HOLDING.get()
        if holding is not None and holding.end is not None:
            # It has swallowed that, and is the supervisor's.
            if self._give_up is not None and now - self._beat_at > self._blocked_s:
                self._give_up(holding.end)
            return
        before, since = self._seen
        if holding is None or holding is not before:
            # From the moment it was seen: tasks before it in the same turn of the
            # loop may have had their share.
            since = now
            self._seen = (holding, since)
            self._tell(holding, now - self._beat_at, frame)
        if holding is None:
            return
        self.slate.mark(holding.label)  # a task of a stage is not on it yet
        notice_s = self._notice_s()
        # Soon this process loses its lease, and all that it has.
        crowded = line_s > self._blocked_s and self._alone is None
        if (notice_s < NOTICE_S and now > since) or crowded:
            self._interrupt(holding, LoopCrowded.of(now - since + notice_s), frame)
        if now - since >= self._blocked_s - notice_s:
            at = place_of(frame)
            self._interrupt(holding, LoopBlocked.of(self._blocked_s, at), frame)

    def _tell(
        self, holding: Holding | None, for_s: float, frame: FrameType | None
    ) -> None:
        """Once for a try: one that does so again and again is no news."""
        if holding is not None:
            if holding.noticed:
                return
            holding.noticed = True
        log.warning(
            "loop_held_up",
            for_s=round(for_s, 1),
            at=place_of(frame),
            **({} if holding is None else holding.names()),
        )

    def _interrupt(
        self, holding: Holding, end: WaybillError, frame: FrameType | None
    ) -> NoReturn:
        log.error("loop_blocked", at=place_of(frame), **holding.names())
        self._seen = (None, 0.0)
        self._beat_at, self._queued_s = self._now(), self._now.queued_s
        self._impatient_until = self._beat_at + IMPATIENT_FOR_S
        self.unsettled = SETTLED_BEATS
        self.slate.impatient = True
        self.slate.beat()  # it goes on
        holding.end = end
        raise end

    def begins(self, holding: Holding) -> None:
        """A try begins."""
        self._alone = holding if holding.holder.alone else None

    async def settled(self) -> None:
        """Let what was interrupted be written down, before the next may block."""
        while self.unsettled:  # noqa: ASYNC110  # told by beats
            await anyio.sleep(0.01)


WATCHDOG: ContextVar[Watchdog | None] = ContextVar("watchdog", default=None)


class Watched:
    """
    Drives a stage, one turn on the loop after the other.

    Awaited it is what the stage is, but for two things: what the alarm raised cannot
    be swallowed, and neither can a cancellation, for ever.
    """

    __slots__ = ("_holding", "_stage")

    def __init__(self, stage: Awaitable[Any], holding: Holding) -> None:
        self._stage = stage
        self._holding = holding

    def __await__(self) -> Generator[Any, Any, Any]:
        holding, watchdog = self._holding, WATCHDOG.get()
        inner = self._stage.__await__()
        turn: Callable[[Any], Any] = inner.send
        given: Any = None
        swallowed = 0
        # And for good: what becomes of its outcome is its doing as well.
        HOLDING.set(holding)
        if watchdog is not None:
            if watchdog.unsettled:
                yield from watchdog.settled().__await__()
            watchdog.begins(holding)
        try:
            while True:
                try:
                    wanted = (
                        turned(turn, given)
                        if watchdog is None
                        else _watched_turn(watchdog, holding, turn, given)
                    )
                except StopIteration as end:
                    return end.value
                except BaseException:
                    if holding.end is not None:
                        raise holding.end from None
                    raise
                if holding.end is not None:
                    _drop(inner)
                    raise holding.end
                try:
                    given = yield wanted
                    turn = inner.send
                except GeneratorExit:
                    _drop(inner)
                    raise
                except BaseException as error:
                    if isinstance(error, anyio.get_cancelled_exc_class()):
                        swallowed += 1
                    if swallowed > SWALLOWED_MAX:
                        holding.stubborn = True
                        holding.at = waits_at(self._stage)
                        _drop(inner)
                        raise
                    turn, given = inner.throw, error
        finally:
            holding.over = True
            if watchdog is not None and holding.threads:
                watchdog.threads.ended(holding)


def _watched_turn(
    watchdog: Watchdog, holding: Holding, turn: Callable[[Any], Any], given: Any
) -> Any:
    slate, threads = watchdog.slate, threading.active_count()
    slate.mark(holding.label)
    before = watchdog.descriptors.before(holding)
    try:
        return turned(turn, given)
    finally:
        # Alone in its worker, it is the one, also while a task of its own is on.
        if not holding.holder.alone:
            slate.clear()
        watchdog.mend_limits()
        if threading.active_count() > threads:
            watchdog.threads.begun(holding)
        if before:
            watchdog.descriptors.after(holding, before)
            watchdog.look_at_descriptors()


async def _beside(
    watchdog: Watchdog, holding: Holding, work: Coroutine[Any, Any, Any]
) -> Any:
    """What a task of a stage runs, turn by turn as the stage itself."""
    return await _Beside(watchdog, holding, work)


class _Beside:
    __slots__ = ("_holding", "_watchdog", "_work")

    def __init__(
        self, watchdog: Watchdog, holding: Holding, work: Coroutine[Any, Any, Any]
    ) -> None:
        self._watchdog = watchdog
        self._holding = holding
        self._work = work

    def __await__(self) -> Generator[Any, Any, Any]:
        inner = self._work.__await__()
        turn: Callable[[Any], Any] = inner.send
        given: Any = None
        while True:
            try:
                # What goes on when the stage is over may be of use to others: a
                # connection, a process of the jail.
                wanted = (
                    turn(given)
                    if self._holding.over
                    else _watched_turn(self._watchdog, self._holding, turn, given)
                )
            except StopIteration as end:
                return end.value
            try:
                given = yield wanted
                turn = inner.send
            except BaseException as error:
                if isinstance(error, GeneratorExit):
                    inner.close()
                    raise
                turn, given = inner.throw, error


def tears_down(holding: Holding) -> None:
    """A task of this stage ends the loop itself, and the session with it."""
    watchdog = WATCHDOG.get()
    if watchdog is not None:
        watchdog.torn = holding


def _drop(stage: Generator[Any, Any, Any]) -> None:
    # It may refuse to end even so; then it is never driven again.
    with suppress(RuntimeError):
        stage.close()
