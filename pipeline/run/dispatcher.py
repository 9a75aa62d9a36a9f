"""
The dispatcher: one a process, claims what its worker has room for.

Room is counted in windows, one a stage (windows.py).
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from enum import Enum

import anyio
import structlog

from pipeline.errors import StoreUnavailable
from pipeline.model import Claim, ItemId, WorkerId
from pipeline.run.gate import Gate
from pipeline.run.windows import Windows
from pipeline.store.port import WorkStore
from pipeline.store.rows import Share
from pipeline.store.strikes import SUSPECTS_MAX

log = structlog.get_logger()

# The first claim of a line leaves something for the other workers; each that comes
# back full shows that there is enough for all, and the next may be twice as large.
CLAIM_FIRST = 500
CLAIM_MAX = 2000
# With nothing to do, look this soon, then less and less often; local moves ring
# the bell at once.
IDLE_S = 0.05
GATE_LOOK_S = 0.5  # at a closed gate, to see that the worker is to stop
# A suspect that waited this long makes a busy worker stop claiming, finish what
# it has, and run it beside none but its like.
SUSPECT_PATIENCE_S = 1.0
# Turns a tenant may catch up on after it had nothing in line; arbitrary.
OWED_MAX = 100.0
# Work served is halved when it grows past this: it is compared, never reported.
SERVED_MAX = 1e6


class Suspects(Enum):
    """Whether a worker takes items that run beside no others."""

    TOO = "when it has nothing else"
    ELSEWHERE = "a process of their own does, which `asked` for"
    ONLY = "nothing but those"


class Dispatcher:
    """
    Claims in batches and hands claims over.

    Args:
        accept: Given what was claimed; starts it and returns at once.
        owned: Ids of everything this worker has, to settle a lost answer.
        gate: While it is closed nothing is claimed.
        poll_s: With nothing to do, look at least this often.
        suspects: Who takes them; `on_suspects` hears, twice a second, whether some
            wait.
    """

    def __init__(
        self,
        store: WorkStore,
        worker: WorkerId,
        windows: Windows,
        accept: Callable[[list[Claim]], Awaitable[None]],
        owned: Callable[[], list[ItemId]],
        gate: Gate,
        *,
        poll_s: float = 0.5,
        suspects: Suspects = Suspects.TOO,
        on_suspects: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._worker = worker
        self._windows = windows
        self._accept = accept
        self._owned = owned
        self._gate = gate
        self._poll_s = poll_s
        self._suspects = suspects
        self._on_suspects = on_suspects
        self._served: dict[str, float] = {}
        self._weights: dict[str, float] = {}
        self._bell = anyio.Event()
        self._stopped = False
        self._doubtful = False
        self._kept: set[ItemId] = set()  # in hand when a claim's answer was lost
        self._starved = False  # something is ready that we have no room for
        self._reach: dict[str, int] = {}  # by stage: what the next claim may take
        self._apart: list[Claim] = []  # suspects in hand: nothing runs beside them
        self._checks_at = 0.0
        self._items = 0

    def __repr__(self) -> str:
        return f"<Dispatcher claimed={self._items}>"

    def ring(self) -> None:
        """Something may be ready: look now."""
        self._bell.set()

    def stop(self) -> None:
        """Claim nothing any more."""
        self._stopped = True
        self._bell.set()
        self._windows.wake()

    def doubt(self) -> None:
        """Something claimed was not started: settle it at the next round."""
        self._doubtful = True
        self._bell.set()

    def settled(self, claim: Claim) -> None:
        """An item ended its stay; the stay of suspects kept others out."""
        if self._apart:
            self._apart = [one for one in self._apart if one is not claim]
            if not self._apart:
                self._checks_at = 0.0  # the next ones, while nobody else is here
                self._bell.set()

    async def run(self) -> None:
        """Claim until stopped."""
        idle_s, away_s = IDLE_S, 0.1
        while not self._stopped:
            if self._gate.closed:
                await self._gate.wait_open(GATE_LOOK_S)
                continue
            self._bell = anyio.Event()
            try:
                # Shielded: the store bounds each call, and a claim cut midway
                # would leave items that nobody runs.
                with anyio.CancelScope(shield=True):
                    got = await self._round()
                away_s = 0.1
            except StoreUnavailable as error:
                log.warning("claim_waits", code=error.code, why=str(error))
                self._doubtful = True
                await anyio.sleep(random.uniform(0, away_s))
                away_s = min(away_s * 2, 5.0)
                continue
            if got:
                idle_s = IDLE_S
                await self._until_room()
            else:
                with anyio.move_on_after(random.uniform(idle_s / 2, idle_s)):
                    if self._starved:
                        await self._windows.wait_freed()
                    else:
                        await self._bell.wait()
                idle_s = min(idle_s * 2, self._poll_s)

    async def _round(self) -> int:
        """One look at every line; how many items were claimed."""
        await self._settle()
        await self._checks()
        if self._apart or self._suspects is Suspects.ONLY:
            return 0
        got = 0
        self._starved = False
        for stage in self._windows.by_depth(await self._store.lines()):
            reach = self._reach.pop(stage, CLAIM_FIRST)
            room = min(self._windows.room(stage), reach)
            if room <= 0 or self._stopped:
                self._starved = True
                continue
            claims = await self._store.claim(self._worker, stage, room, self._shares())
            if claims:
                if len(claims) == reach:
                    self._reach[stage] = min(reach * 2, CLAIM_MAX)
                await self._take(stage, claims)
                got += len(claims)
        return got

    async def _settle(self) -> None:
        """
        Put back what was claimed and never came.

        What is in hand is kept.  But its own move back in line may have been answered
        late, and the claim whose answer is lost may have got it: then it is ours, and
        nobody's as soon as it is out of our hands.  So it is looked for once more.
        """
        if not self._doubtful and not self._kept:
            return
        owned = set(self._owned())
        if not self._doubtful and self._kept <= owned:
            return
        self._kept = owned if self._doubtful else self._kept & owned
        lost = await self._store.disown(self._worker, list(owned))
        self._doubtful = False
        if lost:
            log.info("claims_put_back", items=lost)

    async def _checks(self) -> None:
        """Twice a second: timers, weights, suspects."""
        now = anyio.current_time()
        if now < self._checks_at:
            return
        self._checks_at = now + 0.5
        await self._store.wake()
        self._weights = await self._store.weights()
        self._level()
        waiting = await self._store.suspects()
        self._on_suspects(bool(waiting))
        if self._suspects is Suspects.ELSEWHERE:
            return
        if waiting:
            # Any of them: where one has thousands, the others' wait no longer for it.
            stage, age_s = random.choice(waiting)
            if age_s > SUSPECT_PATIENCE_S:
                # And straight on: were the lines looked at first, they would fill
                # this worker again, and the suspect would never run.
                await self._until_empty()
            if self._windows.total == 0 and not self._stopped:
                room = min(SUSPECTS_MAX, max(1, self._windows.room(stage)))
                claims = await self._store.claim(
                    self._worker, stage, room, {}, suspects=True
                )
                if claims:
                    self._apart = claims
                    await self._take(stage, claims)

    async def _until_empty(self) -> None:
        while self._windows.total and not self._stopped:
            with anyio.move_on_after(1.0):
                await self._windows.wait_freed()

    def _level(self) -> None:
        """
        Enter every tenant, level with the most served; let nobody fall far back.

        A tenant that were not entered before its first claim would be moved along
        with whoever is served, always one turn behind.
        """
        top = max(self._served.values(), default=0.0)
        for tenant in self._weights:
            served = self._served.get(tenant, top)
            self._served[tenant] = max(served, top - OWED_MAX)

    async def _take(self, stage: str, claims: list[Claim]) -> None:
        self._windows.take(stage, len(claims))
        self._items += len(claims)
        for claim in claims:
            tenant = claim.item.tenant
            if tenant not in self._served:
                # Level with the least served: no debt, no credit.
                self._served[tenant] = min(self._served.values(), default=0.0)
            self._served[tenant] += 1 / self._weights.get(tenant, 1.0)
        if max(self._served.values()) > SERVED_MAX:
            self._served = {t: s / 2 for t, s in self._served.items()}
        await self._accept(claims)

    def _shares(self) -> dict[str, Share]:
        weights = self._weights
        return {t: Share(s, weights.get(t, 1.0)) for t, s in self._served.items()}

    async def _until_room(self) -> None:
        """Do not claim in ones and twos: wait for an eighth of the windows."""
        windows = self._windows
        enough = max(1, min(windows.items_max // 8, CLAIM_FIRST // 4))
        with anyio.move_on_after(0.02):
            while windows.items_max - windows.total < enough and not self._stopped:
                await windows.wait_freed()
