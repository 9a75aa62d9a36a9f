"""
The folder watcher: looks at the inbox, decides what is complete, has it taken.

Level-triggered: a periodic scan of the whole inbox is the truth, and file system
events only shorten the wait for it.  So a lost event, a restart or a network
drive that sends none costs seconds and never a file.  On network file systems
events are not asked for at all.

No file, however odd, stops the watcher: what cannot be taken stays where it is,
is logged once, and `waiting()` says why.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import NamedTuple

import anyio
import structlog
from watchfiles import Change, awatch

from ingest.admission import Admission
from ingest.answers import Taken
from ingest.candidates import Candidate, Look, Seen, Waiting, Walk
from ingest.watch.folders import (
    Folders,
    Place,
    display_name,
    network_filesystem,
    place_of,
    today,
)
from ingest.watch.stability import Stability
from ingest.writers import BEING_WRITTEN
from pipeline.errors import StoreUnavailable, Trouble, WaybillError
from pipeline.store.port import AdmissionStore
from pipeline.threads import in_thread

log = structlog.get_logger()

LATER_FIRST_S = 2.0  # then doubled: a file that cannot be read is not worth more
LATER_MAX_S = 60.0
LEAST_S = 0.05  # between two scans, however many events come
TICK_MS = 250  # how finely a wait for events looks at the clock


class Route(NamedTuple):
    """Where a place leads."""

    pipeline_id: int
    deadline_s: float  # from now, for a batch that does not exist yet


Router = Callable[[Place], Awaitable[Route]]


@dataclass(frozen=True, slots=True)
class Pace:
    """
    How often to look, and how much to take.

    Attributes:
        rescan_s: The longest time between two scans.
        settle_s: Rest after which a file is complete.
        settle_empty_s: The same for a file of no bytes.
        slice_entries: Directory entries that one thread call reads.
        round_files: Files taken between two scans, shared among the places.
        events: Ask the file system for events where it has them.
    """

    rescan_s: float = 3.0
    settle_s: float = 2.0
    settle_empty_s: float = 30.0
    slice_entries: int = 2000
    round_files: int = 200
    events: bool = True


@dataclass(slots=True)
class _Later:
    """A complete file that could not be taken, and when to try again."""

    seen: Seen
    code: str
    why: str
    first: float  # monotonic seconds
    until: float
    wait_s: float
    unmoved: Taken | None = None  # received already: only the move is missing


class Watcher:
    """
    Watches one inbox.

    Args:
        folders: Made when missing; refused with `Usage` when they overlap.
        store: Opens batches.
        admission: Takes the files.
        route: Which pipeline a place means; raises a WaybillError (NotFound …)
            when there is none, and the place's files wait.
    """

    def __init__(
        self,
        folders: Folders,
        store: AdmissionStore,
        admission: Admission,
        route: Router,
        *,
        pace: Pace | None = None,
    ) -> None:
        folders.prepare()
        self._inbox = folders.inbox
        self._store = store
        self._admission = admission
        self._route = route
        self._pace = pace or Pace()
        self._stability = Stability(
            settle_s=self._pace.settle_s, settle_empty_s=self._pace.settle_empty_s
        )
        self._later: dict[str, _Later] = {}
        self._troubles: dict[str, str] = {}  # folder -> why it cannot be listed
        self._logged: dict[str, str] = {}  # path -> code, to log each once
        self._paused = ""  # code of our own trouble, while it lasts
        self._now = 0.0  # of the last scan
        self._listing_s = 0.0  # what the last listing took
        self._more = False  # complete files were left over by the last round

    def __repr__(self) -> str:
        paused = f", paused {self._paused}" if self._paused else ""
        return f"<Watcher of {self._inbox}: {self._stability!r}{paused}>"

    async def run(self) -> None:
        """Watch until cancelled."""
        async with aclosing(self._wakes()) as wakes:
            async for _ in wakes:
                try:
                    await self.scan_once()
                    while self._more and not self._paused:
                        await self.scan_once()
                except OSError as error:
                    # Whatever it was about (no descriptors, say): nothing is lost by
                    # looking again.
                    self._pause("SCAN_FAILED", error.strerror or type(error).__name__)

    async def scan_once(self) -> list[Taken]:
        """Look at the whole inbox once and take what is complete, to a bound."""
        started = anyio.current_time()
        try:
            looks = await self._list()
        except OSError as error:
            self._pause("INBOX_MISSING", error.strerror or "it cannot be listed")
            return []
        self._listing_s = anyio.current_time() - started
        self._now = anyio.current_time()
        # In a thread too: 100,000 files would hold the event loop for 0.3 s.
        complete = await in_thread(self._stability.observe, self._now, looks)
        self._forget(looks)
        self._log_odd()
        await self._admission.look_again()
        due = [look for look in complete if self._is_due(look)]
        turns = fair(due, self._pace.round_files)
        self._more = len(due) > sum(len(files) for files in turns.values())

        taken: list[Taken] = []
        for place, files in turns.items():
            answers = await self._take(place, files)
            taken += answers
            if any(answer.paused for answer in answers):
                break
        else:
            self._resume()
        return taken

    def waiting(self) -> list[Waiting]:
        """Every file that has not been taken yet, and why; names are raw."""
        found = self._stability.waiting(self._now)
        found += [
            Waiting(path, later.code, later.why, self._now - later.first)
            for path, later in self._later.items()
        ]
        found += [
            Waiting(path, "FOLDER_UNREADABLE", why, 0.0)
            for path, why in self._troubles.items()
        ]
        return found

    # -- taking ------------------------------------------------------------------

    async def _take(self, place: Place, files: Sequence[Look]) -> list[Taken]:
        by_path = {look.relative: look for look in files}
        candidates: list[Candidate] = []
        answers: list[Taken] = []
        for look in files:
            candidate = Candidate(self._inbox, look.relative, look.relative, look.seen)
            later = self._later.get(look.relative)
            if later is not None and later.unmoved is not None:
                answers.append(await self._admission.put_away(later.unmoved))
            else:
                candidates.append(candidate)
        if candidates:
            answers += await self._admit(place, candidates)
        for answer in answers:
            self._settle(answer, by_path[answer.candidate.relative])
        return answers

    async def _admit(self, place: Place, files: Sequence[Candidate]) -> list[Taken]:
        # The store is asked before any byte is read: while it is away, a scan
        # costs one refused connection and not a copy of every file.
        try:
            route = await self._route(place)
            batch = await self._store.open_batch(
                place.tenant, place.batch or today(), deadline_s=route.deadline_s
            )
        except WaybillError as error:
            ours = isinstance(error, (StoreUnavailable, Trouble))
            return [
                Taken(
                    file,
                    code=error.code,
                    why=error.message,
                    hint=error.hint,
                    paused=ours,
                )
                for file in files
            ]
        return await self._admission.take(files, batch, route.pipeline_id)

    def _settle(self, answer: Taken, look: Look) -> None:
        """Remember what did not go through, and say it once."""
        path = look.relative
        if not answer.code:
            self._later.pop(path, None)
            return
        if answer.paused:
            self._pause(answer.code, answer.why, answer.hint)
            return
        old = self._later.get(path)
        wait_s = min(old.wait_s * 2, LATER_MAX_S) if old else LATER_FIRST_S
        if answer.code == BEING_WRITTEN:  # soon over, and costs nothing to ask
            wait_s = LATER_FIRST_S
        self._later[path] = _Later(
            look.seen,
            answer.code,
            answer.why,
            old.first if old else self._now,
            self._now + wait_s,
            wait_s,
            answer if answer.receipt is not None else None,
        )
        self._log_once(path, answer.code, "ingest_left", answer.why)

    def _is_due(self, look: Look) -> bool:
        later = self._later.get(look.relative)
        if later is None or later.seen == look.seen:
            return later is None or later.until <= self._now
        # Another version: a fresh start.  If the last one has a receipt, putting it
        # away tells what became of it.
        if later.unmoved is None:
            del self._later[look.relative]
        return True

    def _forget(self, looks: Iterable[Look]) -> None:
        present = {look.relative for look in looks}
        for memory in (self._later, self._logged):
            for path in [path for path in memory if path not in present]:
                if path not in self._troubles:
                    del memory[path]

    # -- logging -----------------------------------------------------------------

    def _log_odd(self) -> None:
        for odd in self._stability.waiting(self._now):
            if odd.code in ("NOT_A_FILE", "TOO_DEEP"):
                self._log_once(odd.relative, odd.code, "ingest_ignored", odd.why)
        for path, why in self._troubles.items():
            self._log_once(path, "FOLDER_UNREADABLE", "ingest_ignored", why)

    def _log_once(self, path: str, code: str, event: str, why: str) -> None:
        if self._logged.get(path) != code:
            self._logged[path] = code
            log.warning(event, name=display_name(path), code=code, why=why)

    def _pause(self, code: str, why: str, hint: str = "") -> None:
        if self._paused != code:
            self._paused = code
            log.error("ingest_paused", code=code, why=why, hint=hint)

    def _resume(self) -> None:
        if self._paused:
            log.info("ingest_resumed", code=self._paused)
            self._paused = ""

    # -- looking -----------------------------------------------------------------

    async def _list(self) -> list[Look]:
        """The whole inbox, in slices; raises OSError when it is not there."""
        walk = Walk(self._inbox)
        looks: list[Look] = []
        while part := await in_thread(
            walk.slice,
            self._pace.slice_entries,
            # A network drive that hangs must not hold up the shutdown.
            abandon_on_cancel=True,
        ):
            looks += part
        self._troubles = walk.troubles
        return looks

    async def _wakes(self) -> AsyncGenerator[None]:
        """Yields whenever a scan is due."""
        yield
        kind = network_filesystem(self._inbox)
        if self._pace.events and not kind:
            try:
                async with aclosing(self._events()) as events:
                    async for _ in events:
                        yield
            except* (OSError, RuntimeError) as troubles:
                # The system's limit of watches, or a name that is no UTF-8, which
                # the library cannot tell; scanning goes on.
                kind = type(troubles.exceptions[0]).__name__
        log.info("ingest_polling", why=kind or "settings")
        while True:
            await anyio.sleep(self._rest_s())
            yield

    async def _events(self) -> AsyncGenerator[None]:
        """Yields on an event or when the next scan is due, whichever is first."""
        changes = awatch(
            self._inbox,
            # Growing files report a change at every write.  Names that appear
            # are news; for the rest the clock is soon enough.
            watch_filter=lambda change, _: change is Change.added,
            debounce=200,
            rust_timeout=TICK_MS,
            yield_on_timeout=True,
            ignore_permission_denied=True,
        )
        now = anyio.current_time()
        soonest, latest = now + self._least_s(), now + self._rest_s()
        async with aclosing(changes):
            async for news in changes:
                now = anyio.current_time()
                if now < (soonest if news else latest):
                    if not news:
                        continue
                    await anyio.sleep(soonest - now)
                yield
                now = anyio.current_time()
                soonest, latest = now + self._least_s(), now + self._rest_s()

    def _rest_s(self) -> float:
        """How long to wait when nothing happens."""
        settles_s = self._stability.due_s(anyio.current_time())
        rest_s = self._pace.rescan_s
        if settles_s is not None:
            rest_s = min(rest_s, settles_s)
        return max(rest_s, self._least_s())

    def _least_s(self) -> float:
        """The shortest rest: a huge inbox is listed a third of the time at most."""
        return max(LEAST_S, 2 * self._listing_s)


def fair(due: Sequence[Look], limit: int) -> dict[Place, list[Look]]:
    """
    At most `limit` files, the places taking turns, the oldest of each first.

    So ten thousand files of one tenant do not hold up the one of another.
    """
    queues: dict[Place, list[Look]] = defaultdict(list)
    places: dict[str, Place] = {}  # by folder: naming a place costs far more
    for look in due:
        folder = look.relative.rpartition("/")[0]
        if folder not in places:
            places[folder] = place_of(look.relative)
        queues[places[folder]].append(look)
    chosen: dict[Place, list[Look]] = {place: [] for place in queues}
    depth = 0
    left = limit
    while left > 0:
        turn = [place for place, files in queues.items() if len(files) > depth]
        if not turn:
            break
        for place in turn[:left]:
            chosen[place].append(queues[place][depth])
        left -= len(turn[:left])
        depth += 1
    return {place: files for place, files in chosen.items() if files}
