"""
What calls of vendors go through: the parts of one session.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from pydantic import SecretStr

from pipeline.calls import CallId, CallOpening, Moment, Request, Settled
from pipeline.errors import LimitWait, Throttled, WaybillError
from pipeline.model import ItemId
from pipeline.stage import Artifacts
from pipeline.vendors.declared import VendorSpec
from pipeline.vendors.hearing import Reply
from pipeline.vendors.turn import Turn
from pipeline.vendors.uses import Use

# What comes between a permit and its call, the ledger's row, takes now longer, now
# shorter: it is done before the permit's moment, and the call is sent at that moment.
EARLY_S = 0.3


class Door(Protocol):
    """What sends a request, once (`pipeline/vendors/door.py`)."""

    async def send(
        self,
        spec: VendorSpec,
        request: Request,
        *,
        key: SecretStr | str = "",
        timeout_s: float,
        idempotency_key: str = "",
        artifacts: Artifacts | None = None,
        when: Moment | None = None,
    ) -> Reply:
        """A good answer; what is none is raised."""
        ...


class Ticket(Protocol):
    """Leave to make one call; forgotten at the end of its block when unheard."""

    probe: bool  # whether it is the one call that tries if the vendor is back

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def still(self) -> None:
        """Raise VendorAway where the vendor went away meanwhile."""
        ...

    def heard(self, error: WaybillError | None, timeout_s: float) -> None:
        """How the vendor answered, None: well; `timeout_s` is what the call had."""
        ...


class Breakers(Protocol):
    """Whether a vendor may be asked at all (`pipeline/vendors/breakers.py`)."""

    async def admit(self, spec: VendorSpec, *, repeat: bool = False) -> Ticket:
        """Leave for a call, which may `repeat` a failed one; VendorAway if none is."""
        ...

    def verdict(self, spec: VendorSpec, error: WaybillError) -> WaybillError:
        """What a failed call does to its item."""
        ...


class Permits(Protocol):
    """How often, how much and how many at once (`pipeline/vendors/limits.py`)."""

    def hold(
        self,
        uses: Sequence[Use],
        *,
        patience_s: float,
        deadline: float = math.inf,
        early_s: float = 0.0,
        in_room: bool = False,
        item: ItemId | None = None,
    ) -> AbstractAsyncContextManager[Turn]:
        """A permit of each, the earliest deadline first; LimitWait beyond patience."""
        ...

    def queues(self, uses: Sequence[Use]) -> bool:
        """Whether who comes now has to wait."""
        ...

    def pause(self, key: str, for_s: float) -> None:
        """Nobody begins for so long."""
        ...


class Cashier(Protocol):
    """Who pays (`pipeline/vendors/cashier.py`)."""

    async def open(self, opening: CallOpening) -> CallId:
        """Write a call down, and reserve what it can cost; durable on return."""
        ...

    def give_up(self, call: CallId) -> None:
        """Nobody knows what became of it: it counts as the most."""
        ...

    def leave(self, settled: Settled) -> None:
        """Settle a call without a wait for that."""
        ...


@dataclass(frozen=True, slots=True)
class Outside:
    """All of them."""

    door: Door
    breakers: Breakers
    permits: Permits
    cashier: Cashier

    async def send(
        self,
        ticket: Ticket,
        spec: VendorSpec,
        request: Request,
        *,
        key: SecretStr,
        timeout_s: float,
        idempotency_key: str,
        artifacts: Artifacts,
        when: Moment | None = None,
    ) -> Reply:
        """
        Send a request that was let in; how it was answered is heard by everybody.

        Raises:
            LimitWait: of `when`; nothing was sent.
        """
        try:
            reply = await self.door.send(
                spec,
                request,
                key=key,
                timeout_s=timeout_s,
                idempotency_key=idempotency_key,
                artifacts=artifacts,
                when=when,
            )
        except LimitWait:
            raise  # it is our own
        except WaybillError as error:
            ticket.heard(error, timeout_s)
            if isinstance(error, Throttled) and error.retry_after_s:
                # Everybody rests, and not the one call that was told.
                self.permits.pause(f"vendor/{spec.name}/requests", error.retry_after_s)
            raise
        ticket.heard(None, timeout_s)
        return reply


class Free:
    """Breakers, permits and cashier of a world in which nobody else calls."""

    async def admit(self, spec: VendorSpec, *, repeat: bool = False) -> Ticket:
        """Leave for every call."""
        return _Leave()

    def verdict(self, spec: VendorSpec, error: WaybillError) -> WaybillError:
        """As it is."""
        return error

    @asynccontextmanager
    async def hold(
        self,
        uses: Sequence[Use],
        *,
        patience_s: float,
        deadline: float = math.inf,
        early_s: float = 0.0,
        in_room: bool = False,
        item: ItemId | None = None,
    ) -> AsyncIterator[Turn]:
        """At once."""
        yield Turn()

    def queues(self, uses: Sequence[Use]) -> bool:
        """Nobody waits here."""
        return False

    def pause(self, key: str, for_s: float) -> None:
        """Nobody waits here."""

    async def open(self, opening: CallOpening) -> CallId:
        """No budget is too small."""
        return CallId(opening.item_id, 1)

    def give_up(self, call: CallId) -> None:
        """Nobody pays."""

    def leave(self, settled: Settled) -> None:
        """Nobody pays."""


class _Leave:
    """A ticket of which nobody learns."""

    probe = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def still(self) -> None:
        """Nobody goes away."""

    def heard(self, error: WaybillError | None, timeout_s: float) -> None:
        """Nothing is learned."""
