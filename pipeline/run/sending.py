"""
How effects call vendors: within their limits and by their breaker, as stages do.

No budget pays for them: what was promised is delivered, also when the day's money is
used up; a vendor that has a price is called by a stage.
"""

from __future__ import annotations

import math
from contextlib import AsyncExitStack
from functools import partial

import anyio

from pipeline.calls import Moment, Request
from pipeline.errors import LimitWait, Permanent
from pipeline.run.outside import EARLY_S, Outside
from pipeline.run.services import Services, key_of
from pipeline.vendors.hearing import Reply
from pipeline.vendors.turn import Turn
from pipeline.vendors.uses import uses_of

# For a permit, at most half of what the call has: who waits longer is due again later.
PATIENCE_S = 30.0
MOMENT_S = 3.0  # for the moment of its permit, which was near when it was given


class VendorCaller:
    """One session's way from its courier to vendors."""

    def __init__(self, services: Services, outside: Outside) -> None:
        self._services = services
        self._outside = outside

    def __repr__(self) -> str:
        return f"<VendorCaller of {len(self._services.vendors)}>"

    async def send(
        self,
        vendor: str,
        tenant: str,
        request: Request,
        *,
        key: str,
        timeout_s: float,
        begin: Moment | None = None,
    ) -> Reply:
        """
        One call of a declared vendor, once; see `Caller` of effects/posting.py.

        Raises:
            CallError: how it failed, and whether it may have been done all the same.
            WaybillError: it was not sent.
        """
        spec = self._services.vendors.get(vendor)
        if spec is None:
            raise Permanent(f"there is no vendor {vendor!r}", code="NO_SUCH_VENDOR")
        timeout_s = min(timeout_s, spec.timeout_s)
        moment_s = min(MOMENT_S, timeout_s / 4)
        uses = uses_of(spec, tenant, 0)
        async with AsyncExitStack() as held:
            ticket = held.enter_context(await self._outside.breakers.admit(spec))
            turn = await held.enter_async_context(
                self._outside.permits.hold(
                    uses,
                    patience_s=min(PATIENCE_S, timeout_s / 2),
                    # The one probe of all goes before the line, effects behind it.
                    deadline=-math.inf if ticket.probe else math.inf,
                    early_s=EARLY_S,
                    in_room=True,  # nobody waits long for what is `sending`
                )
            )
            ticket.still()
            secret = key_of(self._services, spec, tenant)
            if begin is not None:
                await begin()
            if not turn.paced:
                await _due(turn, uses[0].key, moment_s)
            return await self._outside.send(
                ticket,
                spec,
                request,
                key=secret,
                timeout_s=timeout_s,
                idempotency_key=key,
                artifacts=self._services.artifacts,
                when=partial(_due, turn, uses[0].key, moment_s) if turn.paced else None,
            )


async def _due(turn: Turn, key: str, within_s: float) -> None:
    """
    The moment of an effect that is written down as `sending`.

    Raises:
        LimitWait: it was missed, and the next is not near: nothing was sent.
    """
    with anyio.move_on_after(within_s) as scope:
        await turn.due()
    if scope.cancelled_caught:
        raise LimitWait.of(key, within_s, within_s)
