"""
What calls of vendors go through: the parts of one session, and who may be called.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from pydantic import SecretStr

from pipeline.calls import CallId, Opening, Request, Settled
from pipeline.stage import Artifacts
from pipeline.vendors.declared import VendorSpec
from pipeline.vendors.door import Reply
from pipeline.vendors.limits import Use


class Door(Protocol):
    """What sends a request, once (`pipeline/vendors/door.py`)."""

    async def send(
        self,
        spec: VendorSpec,
        request: Request,
        *,
        key: SecretStr,
        timeout_s: float,
        idempotency_key: str = "",
        artifacts: Artifacts | None = None,
    ) -> Reply:
        """The answer, when it is a success; what it is otherwise is raised."""
        ...


class Ticket(Protocol):
    """Leave to make one call; exactly one of these is said, the first counts."""

    def succeeded(self) -> None:
        """The vendor is alive."""
        ...

    def failed(self) -> None:
        """The vendor did not serve the call."""
        ...

    def forget(self) -> None:
        """The call tells nothing about the vendor."""
        ...


class Breakers(Protocol):
    """Whether a vendor may be asked at all (`pipeline/vendors/breakers.py`)."""

    def admit(self, spec: VendorSpec, *, repeat: bool) -> Ticket:
        """Leave for a call, which `repeat`s a failed one; Throttled where none is."""
        ...


class Permits(Protocol):
    """How often and how many at once (`pipeline/vendors/limits.py`)."""

    def hold(
        self, uses: Sequence[Use], *, patience_s: float
    ) -> AbstractAsyncContextManager[None]:
        """A permit of each; Throttled where that will take longer."""
        ...

    def pause(self, key: str, for_s: float) -> None:
        """Nobody begins for so long."""
        ...


class Cashier(Protocol):
    """What calls cost, before and after (`pipeline/vendors/cashier.py`)."""

    async def open(self, opening: Opening) -> CallId:
        """Write a call down, and reserve what it can cost; durable on return."""
        ...

    async def settle(self, settled: Settled) -> None:
        """What a call did cost that leaves no step."""
        ...

    def give_up(self, call: CallId) -> None:
        """Nobody knows what became of it: it did cost the most."""
        ...


@dataclass(frozen=True, slots=True)
class Outside:
    """All of them, for the calls of one session."""

    door: Door
    breakers: Breakers
    permits: Permits
    cashier: Cashier


class Free:
    """Breakers, permits and cashier of a world in which nobody else calls."""

    def admit(self, spec: VendorSpec, *, repeat: bool) -> Ticket:
        """Leave for every call."""
        return _Leave()

    @asynccontextmanager
    async def hold(
        self, uses: Sequence[Use], *, patience_s: float
    ) -> AsyncIterator[None]:
        """At once."""
        yield

    def pause(self, key: str, for_s: float) -> None:
        """Nobody waits here."""

    async def open(self, opening: Opening) -> CallId:
        """No budget is too small."""
        return 0

    async def settle(self, settled: Settled) -> None:
        """Nobody pays."""

    def give_up(self, call: CallId) -> None:
        """Nobody pays."""


class _Leave:
    """A ticket of which nobody learns."""

    def succeeded(self) -> None:
        """Nothing is learned."""

    def failed(self) -> None:
        """Nothing is learned."""

    def forget(self) -> None:
        """Nothing is learned."""
