"""
Circuit breakers of declared vendors, and the budget for repeats: the same for all
processes, by the database.

Closed: all may call.  Open, after some failures in a row: nobody.  Half-open: one
probe of all processes together, whose end decides; after it calls begin again a few at
first (ramp.py).  Every call holds a ticket of the turn in which it began, so that the
late failures of one outage cannot open a breaker twice.

A repeat of a failed call is made of what first tries earned (`VendorSpec.retry_share`),
and gives it back when it is answered: while a vendor fails, it gets a tenth more calls
and no multiple.  What it may not get now waits, uncharged: an outage is nobody's
attempt.

Nothing is asked of the database for a call.  What was seen is told, and what others
saw is learnt, once a second while vendors are called, and before the first call after a
quiet while; an opening, a probe and a repeat are told at once.
"""

from __future__ import annotations

import math
from types import TracebackType
from typing import NoReturn, Self

import anyio
import structlog

from pipeline.errors import StoreUnavailable, Transient, WaybillError
from pipeline.model import WorkerId
from pipeline.store.outside import BreakerMove, BreakerStore, Learnt
from pipeline.vendors.declared import VendorSpec
from pipeline.vendors.known import Ask, Known

log = structlog.get_logger()

TELL_S = 1.0  # between two exchanges with the database, while vendors are called
STALE_S = 2.5  # what is older than this is read again before a call begins
GAP_S = 0.02  # those that would repeat a call within it share an exchange
TICK_S = 0.1  # so often is looked for whom a ramp has room by now
QUIET_S = 10.0  # without a call: nothing is read any more


class Breakers:
    """
    The breakers of one session; `run` belongs into its task group.

        with await breakers.admit(spec, repeat=tries > 0) as ticket:
            async with limits.hold(...):
                ticket.still()
                try:
                    reply = await door.send(...)
                except WaybillError as error:
                    ticket.heard(error, timeout_s)
                    raise
            ticket.heard(None, timeout_s)
    """

    def __init__(self, store: BreakerStore, worker: WorkerId) -> None:
        self._store = store
        self._worker = worker
        self._known: dict[str, Known] = {}
        self._bell = anyio.Event()
        self._due = False
        self._answered = anyio.Event()  # set and replaced by each exchange
        self._read_at = self._used_at = -math.inf

    def __repr__(self) -> str:
        states = [f"{vendor.name} {vendor.state}" for vendor in self._known.values()]
        return f"<Breakers {', '.join(states) or 'none'}>"

    async def run(self) -> NoReturn:
        """Tell and learn; let in whoever waits at a ramp."""
        while True:
            with anyio.move_on_after(self._pause_s()):
                await self._bell.wait()
            self._bell = anyio.Event()
            for vendor in self._known.values():
                vendor.ramp.let_in()
            if self._due or anyio.current_time() - self._read_at >= TELL_S:
                self._due = False
                await self._exchange()
                await anyio.sleep(GAP_S)

    async def admit(self, spec: VendorSpec, *, repeat: bool = False) -> Ticket:
        """
        A ticket for one call; `repeat`: it failed at this vendor before.

        Waits for its turn while the vendor has just come back, some seconds at most.

        Raises:
            VendorAway: VENDOR_OPEN or RETRY_BUDGET, with when to come back.
        """
        vendor = self._vendor(spec)
        self._used_at = anyio.current_time()
        if self._used_at - vendor.read_at > STALE_S:
            await self._next_exchange()
        if not vendor.may_be_asked():
            raise vendor.open()
        if repeat and not await self._may_repeat(vendor):
            raise vendor.used_up()
        ticket = Ticket(self, vendor, repeat)
        try:
            if vendor.state == "closed":
                await vendor.ramp.enter()
                ticket.entered = True
                if vendor.state != "closed":  # it has opened again
                    raise vendor.open()
            else:
                await self._probe(vendor)
                ticket.probe = True
        except BaseException:
            ticket.forget()
            raise
        ticket.turn = vendor.turn
        return ticket

    def verdict(self, spec: VendorSpec, error: WaybillError) -> WaybillError:
        """
        What a call that failed with `error` does to its item, once its ticket heard it.

        Not charged while the vendor is away, or while there is no repeat for it.
        """
        if not isinstance(error, Transient):
            return error
        vendor = self._vendor(spec)
        if vendor.state != "closed":
            return vendor.open()
        return error if vendor.repeats >= 1 else vendor.used_up()

    # -- exchanges -------------------------------------------------------------------

    def ask(self) -> None:
        """Have an exchange at once."""
        self._due = True
        self._bell.set()

    async def _next_exchange(self) -> None:
        self.ask()
        await self._answered.wait()

    async def _exchange(self) -> None:
        known = self._known
        asking = list(known.values())
        news = [vendor.news() for vendor in asking if vendor.has_news]
        asked = {one.vendor: known[one.vendor].asks for one in news if one.wanted}
        for name in asked:
            known[name].asks = []
        try:
            learnt = await self._store.tell_breakers(news)
            self._read_at = anyio.current_time()
            for vendor in asking:
                vendor.read_at = self._read_at
        except StoreUnavailable as error:
            # A lost answer may mean that it was told: what is earned twice is little,
            # and a move that was made is not made again.
            log.warning("breakers_wait", code=error.code)
            for one in news:
                known[one.vendor].earned += one.earned
            learnt = Learnt([], {})
        for row in learnt.rows:
            if row.vendor in known:
                known[row.vendor].learn(row)
        for name, asks in asked.items():
            for number, ask in enumerate(asks):
                ask.granted = number < learnt.granted.get(name, 0)
                ask.decided.set()
        self._answered.set()
        self._answered = anyio.Event()

    async def _may_repeat(self, vendor: Known) -> bool:
        ask = Ask()
        vendor.asks.append(ask)
        self.ask()
        # Whoever is cancelled meanwhile gives back with the ticket what was granted.
        with anyio.CancelScope(shield=True):
            await ask.decided.wait()
        return ask.granted

    async def _probe(self, vendor: Known) -> None:
        """Take the one probe."""
        vendor.probing = True
        try:
            # An answer that nobody hears would keep everybody waiting.
            with anyio.CancelScope(shield=True):
                row = await self._store.probe(
                    self._worker, vendor.name, for_s=vendor.probe_s
                )
        except StoreUnavailable:
            raise vendor.open() from None
        finally:
            vendor.probing = False
        if row is None:
            self.ask()  # it is another's, or it is over
            raise vendor.open()
        vendor.learn(row)

    def _pause_s(self) -> float:
        known = self._known.values()
        if any(vendor.ramp.rises for vendor in known):
            return TICK_S
        in_use = anyio.current_time() - self._used_at < QUIET_S
        return (
            TELL_S if in_use or any(vendor.has_news for vendor in known) else math.inf
        )

    def _vendor(self, spec: VendorSpec) -> Known:
        vendor = self._known.get(spec.name)
        if vendor is None:
            vendor = self._known[spec.name] = Known(spec)
        return vendor


class Ticket:
    """One call that was let in; at the end of its block it is forgotten if unheard."""

    __slots__ = ("_breakers", "_over", "_vendor", "entered", "probe", "repeat", "turn")

    def __init__(self, breakers: Breakers, vendor: Known, repeat: bool) -> None:
        self._breakers = breakers
        self._vendor = vendor
        self._over = False
        self.turn = -1
        self.entered = False
        self.probe = False
        self.repeat = repeat

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.forget()

    def still(self) -> None:
        """
        Ask again when the call begins at last: it may have waited for its limits.

        Raises:
            VendorAway: VENDOR_OPEN, its breaker has opened meanwhile.
        """
        if not self.probe and self._vendor.state != "closed":
            raise self._vendor.open()

    def heard(self, error: WaybillError | None, timeout_s: float) -> None:
        """
        How the vendor answered, None: well; `timeout_s` is what the call had.

        Busy is alive; and a timeout that is shorter than the vendor's own, because the
        item had no time, tells nothing of it.
        """
        if self._over:
            return
        vendor = self._vendor
        cut = isinstance(error, Transient) and error.code == "VENDOR_TIMEOUT"
        if cut and timeout_s < vendor.timeout_s:
            self._end("free")
        elif isinstance(error, Transient):
            vendor.failed(self.turn)
            self._end("open")
        else:
            vendor.alive(self.turn)
            self._end("close")
        back = not isinstance(error, Transient)  # busy vendors have limits
        vendor.earned += back if self.repeat else vendor.share

    def forget(self) -> None:
        """The vendor was not called, or what it would have said is not known."""
        if not self._over:
            self._vendor.earned += self.repeat
            self._end("free")

    def _end(self, move: BreakerMove) -> None:
        self._over = True
        if self.entered:
            self._vendor.ramp.leave()
        if self.probe and self.turn == self._vendor.turn:
            self._vendor.propose(move, failures=1)
        if self._vendor.move:
            self._breakers.ask()
