"""
A session: one lease, and the tasks that live and die with it.

Every item is a task, which carries it through its stages (carry.py).  When the lease
is lost everything in the session is cancelled: its items have not failed, they are
or soon will be worked elsewhere.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import anyio
import anyio.lowlevel
import structlog
from anyio.abc import TaskGroup

from pipeline.effects.courier import Courier
from pipeline.errors import LeaseLost, StoreUnavailable
from pipeline.folder import Catalogue
from pipeline.model import Checkpoint, Claim, ItemId, WorkerId
from pipeline.run.carry import Carrier
from pipeline.run.clock import clock
from pipeline.run.dispatcher import Dispatcher, Suspects
from pipeline.run.gate import Gate
from pipeline.run.journal import FLUSHERS, Journal
from pipeline.run.origin import is_gone, origin
from pipeline.run.outside import Outside
from pipeline.run.sending import VendorCaller
from pipeline.run.services import Services
from pipeline.run.windows import BYTES_MAX, Windows
from pipeline.store.outside import WorkerStore
from pipeline.vendors.breakers import Breakers
from pipeline.vendors.cashier import Cashier
from pipeline.vendors.limits import FleetLimits

log = structlog.get_logger()

END_S = 5.0  # for stages to end in, when their session does


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """
    Bounds of one worker process.

    Attributes:
        lease_s: How long it may act without renewing; a worker on another
            machine is replaced after this.
        items_max: Items in this process at once.
        bytes_max: Of their states; one more is loaded while there are fewer.
        drain_s: How long a stopping worker lets stages finish.
        poll_s: With nothing to do, look for work and for dead neighbours this often.
        suspects: Who takes items that run beside no others.
    """

    lease_s: float = 9.0
    items_max: int = 5000
    bytes_max: int = BYTES_MAX
    drain_s: float = 30.0
    poll_s: float = 0.5
    suspects: Suspects = Suspects.TOO


class Session:
    """
    One lease: the tasks that live and die with it.

    Args:
        on_suspects: Hears, twice a second, whether suspects wait.
        on_stuck: Called when a stage does not end: its task, and what it has of a
            limit, stay until the process ends.
        on_hung: Called when the session is to end, and such a task keeps it.
    """

    def __init__(
        self,
        store: WorkerStore,
        worker: WorkerId,
        catalogue: Catalogue,
        services: Services,
        settings: WorkerSettings,
        on_suspects: Callable[[bool], None] = lambda _: None,
        on_stuck: Callable[[], None] = lambda: None,
        on_hung: Callable[[], Awaitable[None]] = anyio.lowlevel.checkpoint,
    ) -> None:
        self.worker = worker
        self._on_stuck = on_stuck
        self._on_hung = on_hung
        self._staying = 0  # tasks of items, also of those that have gone on
        self.windows = Windows(settings.items_max, settings.bytes_max)
        self._store = store
        self._settings = settings
        self._claimed: dict[ItemId, Claim] = {}  # ours, until their task has ended
        self._scope = anyio.CancelScope()
        self._lost = False
        self._gone: set[WorkerId] = set()  # seen dead, by the last look
        # Until then nobody can have replaced us, by our own clock.
        self._now = clock()
        self._safe_until = self._now() + settings.lease_s * 0.8
        self._journal = Journal(store, worker, self.lose, self._claimed.__len__)
        self._breakers = Breakers(store, worker)
        self._cashier = Cashier(
            store, worker, services.budget, self.lose, self._claimed.__len__
        )
        self.gate = Gate(services.look)
        self._limits = FleetLimits(store, worker, tell_s=2 * settings.poll_s)
        self._dispatcher = Dispatcher(
            store,
            worker,
            self.windows,
            self._accept,
            lambda: list(self._claimed),
            self.gate,
            poll_s=settings.poll_s,
            suspects=settings.suspects,
            on_suspects=on_suspects,
        )
        outside = Outside(services.door, self._breakers, self._limits, self._cashier)
        self._carrier = Carrier(
            store,
            catalogue,
            services,
            outside,
            self.windows,
            self._journal,
            self._check_lease,
            self.ring,
            self.gate,
        )
        self._courier = Courier(
            store,
            worker,
            services.open_sinks(VendorCaller(services, outside)),
            services.artifacts,
            self._check_lease,
            self.lose,
            poll_s=settings.poll_s,
        )
        self._tasks: TaskGroup | None = None

    def __repr__(self) -> str:
        return f"<Session {self.worker} items={len(self._claimed)} done={self.done}>"

    @property
    def done(self) -> int:
        """How many items were finished in this session."""
        return self._carrier.done

    # -- life ------------------------------------------------------------------------

    async def run(self) -> bool:
        """Work until drained (True) or until the lease is lost (False)."""
        with self._scope:
            async with anyio.create_task_group() as self._tasks:
                for _ in range(FLUSHERS):
                    self._tasks.start_soon(self._journal.run)
                self._tasks.start_soon(self._breakers.run)
                self._tasks.start_soon(self._guarded, self._cashier.run)
                self._tasks.start_soon(self._heartbeat)
                self._tasks.start_soon(self._watch_lease)
                self._tasks.start_soon(self._reaper)
                self._tasks.start_soon(self.gate.run)
                self._tasks.start_soon(self._oversee)
                self._tasks.start_soon(self._last_resort)
                self._tasks.start_soon(self._guarded, self._limits.run)
                self._tasks.start_soon(self._guarded, self._dispatcher.run)
                courier = partial(self._courier.run, self._tasks)
                self._tasks.start_soon(self._guarded, courier)
        # Whoever drains it while its worker leaves must find it over.
        self._tasks = None
        return not self._lost

    def drain(self) -> None:
        """Claim nothing more; let stages finish; then end the session."""
        if not self._carrier.draining:
            self._carrier.draining = True
            self._dispatcher.stop()
            if self._tasks is not None:
                self._tasks.start_soon(self._drained)

    async def caught_up(self) -> bool:
        """Wait until nothing is due to be sent; False where it ends before that."""
        return await self._courier.caught_up()

    def stop(self) -> None:
        """End the session now; what is in hand goes back in line."""
        self._scope.cancel()

    def lose(self) -> None:
        """The lease is gone: abandon everything."""
        if not self._lost:
            self._lost = True
            log.warning("lease_lost", worker=str(self.worker), items=len(self._claimed))
            self._journal.lose()
            self._cashier.lose()
            self._scope.cancel()

    def ring(self) -> None:
        """Something may be ready."""
        self._dispatcher.ring()

    def _check_lease(self) -> None:
        """
        Start nothing when we may have been replaced: a machine that slept goes on
        in the middle of a stage, before any write tells it so.

        Raises:
            LeaseLost: the session is over.
        """
        if self._now() > self._safe_until:
            self.lose()
            raise LeaseLost("this worker's lease may have run out")

    async def _drained(self) -> None:
        with anyio.move_on_after(self._settings.drain_s):
            while self._claimed:
                await self.windows.wait_freed()
            await self._courier.finish()
        self._scope.cancel()

    async def _guarded(self, loop: Callable[[], Awaitable[None]]) -> None:
        try:
            await loop()
        except LeaseLost:
            self.lose()

    async def _watch_lease(self) -> None:
        """Give up early by this machine's own clock, also while a renewal hangs."""
        try:
            while anyio.current_time() <= self._safe_until:  # noqa: ASYNC110  # a clock
                # A little longer: a timer may come early by a rounding error.
                await anyio.sleep_until(self._safe_until + 0.001)
            self.lose()
        finally:
            self._journal.close()
            self._cashier.close()

    async def _heartbeat(self) -> None:
        """Renew five times a lease."""
        lease_s = self._settings.lease_s
        while True:
            await anyio.sleep(lease_s / 5)
            sent = anyio.current_time()
            try:
                # Shielded from the session's end, bounded by the lease.
                with anyio.move_on_after(lease_s, shield=True):
                    cancelled = await self._store.renew(
                        self.worker, lease_s=lease_s, troubles=self.gate.troubles
                    )
                    self._safe_until = sent + lease_s * 0.8
                    for item in cancelled:
                        self._carrier.cancel(item)
            except LeaseLost:
                self.lose()
            except StoreUnavailable as error:
                log.warning("renewal_waits", code=error.code)

    async def _oversee(self) -> None:
        """Go on without stages that do not end."""
        while True:
            asked = anyio.current_time()
            await anyio.sleep(self._settings.poll_s)
            for run in self._carrier.stuck(anyio.current_time() - asked):
                claim = self._claimed.pop(run.item.id)
                try:
                    await self._carrier.abandon(run)
                except LeaseLost:
                    self.lose()
                self._dispatcher.settled(claim)
                self._on_stuck()

    async def _last_resort(self) -> None:
        """The session ends, whoever does not."""
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                with anyio.move_on_after(END_S):
                    while self._staying:  # noqa: ASYNC110  # once, at the end
                        await anyio.sleep(0.02)
                if self._staying:
                    log.error("stages_hang", items=self._staying)
                    await self._on_hung()

    async def _reaper(self) -> None:
        """Remove workers that died: at once on this machine, else by lease."""
        in_touch_since = anyio.current_time()
        while True:
            try:
                with anyio.CancelScope(shield=True):
                    await self._reap(anyio.current_time() - in_touch_since)
            except StoreUnavailable:
                in_touch_since = anyio.current_time()
            await anyio.sleep(self._settings.poll_s * random.uniform(0.6, 1.2))

    async def _reap(self, in_touch_s: float) -> None:
        for other in await self._store.sessions():
            if other.id == self.worker:
                continue
            gone = is_gone(other.origin)
            if gone and other.id not in self._gone:
                # Its supervisor may know for whom it died: it has the first word.
                self._gone.add(other.id)
                continue
            # After an outage every lease is over.  Nobody is declared dead before
            # everyone had one lease to come back.
            over = other.left_s <= 0 and in_touch_s > self._settings.lease_s
            if gone or over:
                # A former session of this very process: it lost its lease, its
                # items killed nobody.
                died = other.origin != origin()
                items = await self._store.reap([other.id], died=died)
                self._gone.discard(other.id)
                log.warning(
                    "worker_reaped", worker=str(other.id), items=items, gone=gone
                )
                self.ring()

    # -- items -----------------------------------------------------------------------

    async def _accept(self, claims: list[Claim]) -> None:
        """Load what was claimed and start it."""
        resumed = [c.item.id for c in claims if c.seq > 0]
        try:
            # What is not read whole in one slice its task reads, in its turn.
            history = await self._store.history(resumed, slices=1) if resumed else {}
        except StoreUnavailable:
            for claim in claims:
                self.windows.leave(claim.stage)
                self._dispatcher.settled(claim)
            raise
        assert self._tasks is not None
        self._claimed.update((c.item.id, c) for c in claims)
        begun = 0
        for claim in claims:
            known = history.get(claim.item.id) if claim.seq > 0 else []
            self._staying += 1
            self._tasks.start_soon(self._stay, claim, known)
            begun += 1
            if begun >= self._limits.at_once:
                begun = 0
                await anyio.lowlevel.cancel_shielded_checkpoint()

    async def _stay(self, claim: Claim, history: list[Checkpoint] | None) -> None:
        """An item's task."""
        try:
            await self._carrier.carry(claim, history)
        except LeaseLost:
            self.lose()
        except StoreUnavailable:
            self._dispatcher.doubt()
        finally:
            self._staying -= 1
            # Back in line, it may have been claimed again before we heard of it.
            if self._claimed.get(claim.item.id) is claim:
                del self._claimed[claim.item.id]
            self._dispatcher.settled(claim)
