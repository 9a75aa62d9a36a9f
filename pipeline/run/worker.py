"""
The worker: one process's sessions, one after the other.

A session is one row in the database and one random id.  When its lease is lost
(the database was away too long, the machine slept) the worker opens a new one.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable
from functools import partial

import anyio
import structlog

from pipeline.errors import StoreUnavailable
from pipeline.folder import Catalogue
from pipeline.model import Attempt, WorkerId
from pipeline.run.dispatcher import Suspects
from pipeline.run.origin import origin
from pipeline.run.services import Services
from pipeline.run.session import Session, WorkerSettings
from pipeline.run.slate import Slate
from pipeline.run.watchdog import WATCHDOG
from pipeline.store.outside import WorkerStore
from pipeline.store.rows import TroubleRow
from pipeline.store.strikes import Blame

log = structlog.get_logger()

HEALTHY_S = 10.0  # a session that lived this long was no failure at start
JOIN_FIRST_S = 0.1
JOIN_MAX_S = 5.0
# New objects between two looks for garbage.  With Python's 700 a busy worker spends a
# fifth of its time looking at items that all live (seen with `bench steps`).
GARBAGE_EACH = 20_000
# Young collections until those that outlived one are looked at again: each look goes
# through all that items in hand hold, and finds nothing, for the engine leaves half an
# object of garbage an item.  What stages leave is found by a million objects at latest,
# and before that by the watchdog where it is much.
GARBAGE_OLDER_EACH = 50
SUSPECTS_IDLE_S = 30.0  # more than the pause before a suspect's next try, mostly


class Worker:
    """
    Sessions, one after the other, until drained.

    `run` returns when `drain` or `stop` was called and what was in hand is
    finished or back in line.

    Args:
        slate: What its supervisor reads; without one it is not replaced.
        give_up: Ends the process, when a stage keeps it from its own end.
    """

    def __init__(
        self,
        store: WorkerStore,
        catalogue: Catalogue,
        services: Services,
        settings: WorkerSettings | None = None,
        slate: Slate | None = None,
        give_up: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._services = services
        self._settings = settings or WorkerSettings()
        self._slate = slate or Slate()
        self._give_up = give_up
        self._idle_since: float | None = None
        self._recycled = False
        self._draining = False
        self._unleft: list[tuple[WorkerId, bool]] = []
        self.session: Session | None = None
        self.finished = anyio.Event()

    @property
    def troubles(self) -> tuple[TroubleRow, ...]:
        """What keeps it from working now."""
        return () if self.session is None else self.session.gate.troubles

    async def run(self) -> None:
        """Join, work, and join again after a lost lease."""
        gc.set_threshold(GARBAGE_EACH, GARBAGE_OLDER_EACH)
        try:
            await self._sessions()
        finally:
            self.finished.set()

    async def _sessions(self) -> None:
        away_s, rest_s = JOIN_FIRST_S, 0.0
        while not self._draining:
            await anyio.sleep(random.uniform(rest_s / 2, rest_s))
            try:
                with anyio.CancelScope(shield=True):
                    worker = await self._store.join(
                        origin(), lease_s=self._settings.lease_s
                    )
            except StoreUnavailable as error:
                log.warning("join_waits", code=error.code, why=str(error))
                await anyio.sleep(random.uniform(0, away_s))
                away_s = min(away_s * 2, JOIN_MAX_S)
                continue
            away_s = JOIN_FIRST_S
            self._slate.session = worker
            log.info("worker_joined", worker=str(worker))
            # Before a neighbour takes us for dead: nobody died of an outage.
            for former, died in self._unleft:
                await self._leave(former, died)
            began = anyio.current_time()
            await self._session(worker)
            # A session that ended young may end so again, by what it was given.
            young = anyio.current_time() - began < HEALTHY_S
            rest_s = min(max(rest_s * 2, JOIN_FIRST_S), JOIN_MAX_S) if young else 0.0

    async def _session(self, worker: WorkerId) -> None:
        """One session, from joining to leaving."""
        self.session = Session(
            self._store,
            worker,
            self._catalogue,
            self._services,
            self._settings,
            self._on_suspects,
            self._on_stuck,
            partial(self._hung, worker),
        )
        died = True
        try:
            if not self._draining:  # told while it joined
                await self.session.run()
            died = False
        finally:
            await self._leave(worker, died or self._recycled)

    async def caught_up(self) -> None:
        """Wait until nothing is due to be sent, as far as this worker sends."""
        while not self.finished.is_set():
            if self.session is not None and await self.session.caught_up():
                return
            await anyio.sleep(JOIN_FIRST_S)

    def drain(self) -> None:
        """Finish what is begun, then stop."""
        self._draining = True
        if self.session is not None:
            self.session.drain()

    def stop(self) -> None:
        """Stop now; put back what is in hand."""
        self._draining = True
        if self.session is not None:
            self.session.stop()

    def recycle(self, now: bool) -> None:
        """
        Make room for a new process: finish what is begun, or with `now` nothing;
        who is still in hand then may be why, and gets a strike.
        """
        self._recycled = True
        self._slate.leaving = True
        if now:
            self.stop()
        else:
            self.drain()

    def _on_stuck(self) -> None:
        if self._slate.file >= 0:
            self._slate.leaving = True
            self.drain()

    async def _hung(self, worker: WorkerId) -> None:
        await self._leave(worker, self._recycled)
        self._give_up()

    def _on_suspects(self, waiting: bool) -> None:
        self._slate.suspects = waiting
        if self._settings.suspects is not Suspects.ONLY:
            return
        # Its process is started when there are some, and ends when there are none.
        now = anyio.current_time()
        busy = waiting or (self.session is not None and self.session.windows.total)
        if busy or self._idle_since is None:
            self._idle_since = now
        elif now - self._idle_since > SUSPECTS_IDLE_S:
            self.drain()

    async def _leave(self, worker: WorkerId, died: bool) -> None:
        # Whatever this process still owns goes back in line at once: uncharged, or
        # with a strike where one of them may have torn the session down.
        # When the database is away that long, the lease is over anyway; its next
        # session then sees to it.
        self._unleft = [(w, d) for w, d in self._unleft if w != worker]
        self._unleft.append((worker, died))
        with anyio.move_on_after(self._settings.lease_s, shield=True):
            while True:
                try:
                    blamed = _torn() if died else None
                    items = await self._store.leave(worker, died=died, blamed=blamed)
                    self._slate.session = None
                    log.info("worker_left", worker=str(worker), put_back=items)
                    self._unleft.pop()
                    return
                except StoreUnavailable:
                    await anyio.sleep(random.uniform(0.05, 0.5))


def _torn() -> Blame | None:
    """Whose stage ended the loop, when one did."""
    watchdog = WATCHDOG.get()
    if watchdog is None or watchdog.torn is None:
        return None
    who, why = watchdog.torn.holder, "a task of the stage ended its worker"
    failed = Attempt(who.stage, who.attempt, "STAGE_RAISED", why, True)
    return Blame(who.item, failed, who.last)
