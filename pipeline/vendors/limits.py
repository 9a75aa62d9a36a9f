"""
Limits of the fleet: how often and how many at once all workers together may call.

    async with limits.hold([Use("vendor/crm/requests", spec)], patience_s=60): ...

A limit is a row in the database.  A worker leases permits, of which each has an instant
from which it may be used: those of two workers never share one, and whichever window
you pick, never more than the rate begin in it.  It leases what its waiters need in
about the next second, so that none passes unused; what is left is given back.  Of a
concurrency a worker has units as long as it uses them, and its share when others wait.

A vendor's Retry-After pauses the limit of the whole fleet, or the next worker would
ask the same tired vendor again.  While the database is away leased permits are used,
and then everybody waits.
"""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import NoReturn

import anyio
import structlog
from anyio.abc import TaskGroup

from pipeline.errors import LeaseLost, LimitWait, StoreUnavailable, WaybillError
from pipeline.model import ItemId, WorkerId
from pipeline.store.limits import LimitStore
from pipeline.vendors.limit import Limit
from pipeline.vendors.lines import Line
from pipeline.vendors.pacing import RETRY_AFTER_MAX_S, StoreClock
from pipeline.vendors.permits import Permit, Waiter
from pipeline.vendors.room import SHORT_S, let_in
from pipeline.vendors.turn import Turn
from pipeline.vendors.uses import Use

log = structlog.get_logger()

HORIZON_S = 1.0  # permits are leased for so long
GAP_S = 0.05  # between two exchanges: those who come meanwhile share one
TELL_S = 1.0  # … while there is something to tell, and to hear of pauses
AWAY_S = 0.5  # … when the database did not answer
BEGIN_MAX, BEGIN_SOME = 500, 5  # items in one breath
IDLE_S = 60.0  # a line nobody stands in is forgotten
END_S = 1.0  # to give back what is left, at the end


class FleetLimits:
    """
    The limits that one session obeys; `run` belongs into its task group.

    Args:
        tell_s: So soon what changed is known, here and elsewhere, at the latest.
    """

    def __init__(
        self, store: LimitStore, worker: WorkerId, *, tell_s: float = TELL_S
    ) -> None:
        self._store = store
        self._worker = worker
        self._tell_s = tell_s
        self._limits: dict[str, Limit] = {}
        self._lines: dict[tuple[str, ...], Line] = {}
        self._numbers = count()
        self._tasks: TaskGroup | None = None
        self._bell = anyio.Event()
        self._asked_at = -math.inf
        self._away = self._rests = False
        self._clock = StoreClock()

    def __repr__(self) -> str:
        each = [f"{key}: {limit}" for key, limit in sorted(self._limits.items())]
        return f"<FleetLimits {', '.join(each) or 'none'}>"

    @asynccontextmanager
    async def hold(
        self,
        uses: Sequence[Use],
        *,
        patience_s: float = math.inf,
        deadline: float = math.inf,
        early_s: float = 0.0,
        in_room: bool = False,
        item: ItemId | None = None,
    ) -> AsyncIterator[Turn]:
        """
        Wait until a call may begin by all of these limits; they are taken together.

        The earliest `deadline`, on anyio's clock, comes first, then who came first.
        With `early_s` it is that much before the call may begin: what is still to be
        done takes now longer, now shorter, and `Turn.due` waits for the moment; where
        only so many may be under way, for room: a few more than those come in early,
        but for who wants to be `in_room`.
        An `item` that is sent away is called back when nobody stands in line any more.

        Raises:
            LimitWait: it would take longer than `patience_s`; at once, or when that
                becomes known.
        """
        if not uses:
            yield Turn()
            return
        line = self._line(uses)
        now = anyio.current_time()
        line.turns += 1
        try:
            forecast_s = line.patience.forecast_s(now)
            if forecast_s > patience_s:
                raise line.patience.too_long(forecast_s, patience_s)
            said = tuple(use.weight for use in _ordered(uses))
            # Of one batch all have the same deadline, told a little differently.
            due = math.floor(deadline) if math.isfinite(deadline) else deadline
            order = (due, next(self._numbers))
            turn = Turn(line, self._stand)
            waiter = Waiter(order, said, patience_s, now, early_s, in_room=in_room)
            await turn.come(waiter)
            try:
                yield turn
            finally:
                turn.over()
                self._room(line)
        except LimitWait as wait:
            line.away.sent(item, wait, patience_s)
            raise
        finally:
            line.turns -= 1

    async def _stand(self, line: Line, waiter: Waiter) -> Permit | None:
        """In line, until the instant of a permit; None: it is let in without one."""
        line.push(waiter)
        self._wanted(line)
        # Else there was room, and no moment to wait for.
        if waiter.permit is None and not waiter.ahead:
            try:
                await waiter.called.wait()
            except BaseException:
                self._gave_up(line, waiter)
                raise
        if waiter.error is not None:
            raise waiter.error
        return waiter.permit

    def pause(self, key: str, for_s: float) -> None:
        """
        Let nobody begin for `for_s` seconds, at most an hour; told to all workers.

        A shorter pause never ends a longer one.  Calls under way go on.
        """
        limit = self._limits.get(key)
        if limit is None or math.isnan(for_s) or for_s <= 0:
            return
        for_s = min(for_s, RETRY_AFTER_MAX_S)
        limit.pause_s = max(limit.pause_s, for_s)
        limit.paused_until = max(limit.paused_until, anyio.current_time() + for_s)
        limit.drop()
        for line in limit.lines:
            line.patience.send_away(at_once=True)
        self._bell.set()

    @property
    def at_once(self) -> int:
        """
        So many items may begin in one breath: one while calls wait here for moments,
        which they would miss; few while they wait for room, for their vendor idles
        until an answer is heard.
        """
        waited_for = [line for line in self._lines.values() if line.count]
        if not waited_for:
            return BEGIN_MAX
        return 1 if any(line.paced for line in waited_for) else BEGIN_SOME

    def queues(self, uses: Sequence[Use]) -> bool:
        """Whether who comes now has to wait, as far as is known."""
        line = self._line(uses)
        full = any(0 < limit.units <= limit.booked for limit in line.limits)
        late = line.patience.forecast_s(anyio.current_time()) > HORIZON_S
        return line.count > 0 or full or late

    # -- lines -----------------------------------------------------------------------

    def _line(self, uses: Sequence[Use]) -> Line:
        limits = []
        for use in _ordered(uses):
            limit = self._limits.get(use.key)
            if limit is None:
                limit = self._limits[use.key] = Limit(use.key, use.spec, use.rank)
            elif (use.rank or 0) >= (limit.rank or 0) and use.spec != limit.spec:
                limit.spec, limit.rank = use.spec, use.rank
                limit.untold = True
            limits.append(limit)
        keys = tuple(limit.key for limit in limits)
        line = self._lines.get(keys)
        if line is None:
            line = self._lines[keys] = Line(limits, self._clock)
            if self._tasks is not None:
                self._tasks.start_soon(self._serve, line)
        return line

    def _wanted(self, line: Line) -> None:
        """Somebody has come."""
        let_in(line.limits)
        line.bell.set()
        if (line.short and not line.shut) or self._rests:
            self._bell.set()

    async def _serve(self, line: Line) -> None:
        """Let the calls of a line begin, each at the instant of its permit."""
        while True:
            if line.permits and not (line.count and line.paced):
                line.drop_all()  # those they were for have left, or need none any more
                self._room(line)
                continue
            if not (line.count and line.permits):
                line.bell = anyio.Event()
                with anyio.move_on_after(IDLE_S):
                    await line.bell.wait()
                    continue
                if line.idle:
                    self._forget(line)
                    return
                continue
            permit = line.permits[0]
            wanted = line.begins(permit) - line.early_s
            if anyio.current_time() < wanted:
                await anyio.sleep_until(wanted)
                continue
            if anyio.current_time() > line.begins(permit) + line.late_s:
                line.drop()
                self._bell.set()
                continue
            if not line.early_s:  # or each waits with its permit
                await line.distance()
            # Meanwhile there may have been a pause, or the one who waited left.
            if line.count and line.permits and line.permits[0] is permit:
                self._begin(line)

    def _begin(self, line: Line) -> None:
        """The first in line takes the first permit."""
        # By now others may have been promised a part of the concurrency.
        if any(limit.booked > limit.units for limit in line.limits):
            line.drop()
            return
        line.call(line.permits.popleft())

    def _gave_up(self, line: Line, waiter: Waiter) -> None:
        if waiter.permit is not None:
            line.missed(waiter.permit)
            self._room(line)
        elif waiter.ahead:
            line.no_more_ahead()
            self._room(line)
        elif waiter.error is None:
            line.remove(waiter)

    def _room(self, line: Line) -> None:
        """A call is over, or did not even begin."""
        let_in(line.limits)
        for limit in line.limits:
            if limit.cap is not None and (limit.waiting or limit.others):
                self._bell.set()  # for who has no permit for want of room

    def _forget(self, line: Line) -> None:
        """Nobody has stood in a line for a while."""
        del self._lines[tuple(limit.key for limit in line.limits)]
        for limit in line.limits:
            limit.lines.remove(line)
            if not limit.lines and not limit.stirs:
                del self._limits[limit.key]

    # -- exchanges -------------------------------------------------------------------

    async def run(self) -> NoReturn:
        """
        Lease, tell, hear and give back; let calls begin.

        Raises:
            LeaseLost: the session is over.
        """
        lost: LeaseLost | None = None
        async with anyio.create_task_group() as self._tasks:
            for line in self._lines.values():
                self._tasks.start_soon(self._serve, line)
            try:
                while lost is None:
                    await self._until_due()
                    await self._exchange()
                    await self._call_back()
            except LeaseLost as error:
                lost = error
            finally:
                if lost is None:
                    await self._give_back()
            self._tasks.cancel_scope.cancel()
        assert lost is not None
        raise lost

    async def _until_due(self) -> None:
        pause_s = self._pause_s()
        # Whoever comes ends it, also where it is let in at once: to hear of pauses.
        self._rests = math.isinf(pause_s)
        with anyio.move_on_after(pause_s):
            await self._bell.wait()
        self._rests = False
        self._bell = anyio.Event()
        await anyio.sleep_until(self._asked_at + GAP_S)

    def _pause_s(self) -> float:
        """How long there is nothing to ask or to tell, unless the bell rings."""
        if self._away:
            return AWAY_S
        stirs = any(limit.stirs for limit in self._limits.values())
        pause_s = self._tell_s if stirs else math.inf
        now = anyio.current_time()
        for line in self._lines.values():
            if line.short:
                full = [lim for lim in line.limits if lim.booked >= lim.units]
                due_s = max(lim.lead_s(now) for lim in line.limits) - HORIZON_S
                if full:
                    # What others give back; of what we do ourselves the bell tells.
                    due_s = max(
                        lim.took_s / 10 if lim.workers else math.inf for lim in full
                    )
                pause_s = min(pause_s, max(SHORT_S, due_s))
        return pause_s * random.uniform(0.8, 1)

    async def _exchange(self) -> None:
        stirring = [limit for limit in self._limits.values() if limit.stirs]
        if not stirring:
            return
        limits = sorted(stirring, key=lambda limit: limit.key)
        places = {limit.key: place for place, limit in enumerate(limits)}
        lines = [ln for ln in self._lines.values() if ln.paced and ln.short]
        random.shuffle(lines)  # the first has the first permits
        self._asked_at = sent = anyio.current_time()
        asks = [limit.ask(sent) for limit in limits]
        wanted = [line.ask([places[lim.key] for lim in line.limits]) for line in lines]
        try:
            lead_s = self._clock.lead_s
            lease = await self._store.lease_limits(
                self._worker, asks, wanted, lead_s=lead_s, horizon_s=HORIZON_S
            )
        except StoreUnavailable as error:
            log.warning("limits_wait", code=error.code)
            self._away = True
            for limit in limits:
                limit.untold = True
            return
        self._away = False
        if math.isinf(self._clock.doubt_s):
            # The first takes long, and says little of when its permits begin.
            self._bell.set()
        self._clock.learn(sent, lease.now)
        for line, asked, starts in zip(lines, wanted, lease.starts, strict=True):
            line.give(asked, [lease.now + start for start in starts])
            if line.short and not line.shut:
                self._bell.set()
        given = zip(lines, lease.starts, strict=True)
        gave = {limit for line, starts in given if starts for limit in line.limits}
        for limit, ask, news in zip(limits, asks, lease.limits, strict=True):
            limit.arrived(ask)
            limit.learn(ask, news, self._clock, limit in gave)
            if limit.paused_until > anyio.current_time():
                limit.drop()
        let_in(list(self._limits.values()))
        for line in self._lines.values():
            line.patience.send_away()

    async def _call_back(self) -> None:
        """Who was sent away comes to a line in which nobody stands any more."""
        now = anyio.current_time()
        lines = self._lines.values()
        found = [item for line in lines for item in line.patience.call_back(now)]
        if found:
            with suppress(StoreUnavailable):  # then they come by themselves
                await self._store.call_back(found)

    async def _give_back(self) -> None:
        """At the end: permits that nobody will use."""
        in_hand = [line for line in self._lines.values() if line.permits]
        for line in in_hand:
            line.drop_all()
        if in_hand and not self._away:
            with anyio.move_on_after(END_S, shield=True), suppress(WaybillError):
                await self._exchange()


def _ordered(uses: Sequence[Use]) -> list[Use]:
    """As lines and the store take them: all in one order."""
    return sorted(uses, key=lambda use: use.key)
