"""
Several holds at once: what would be approved, and each approved by itself.

Every one is a decision of its own, bound to the digest of what was looked at before
somebody said yes.  What was decided, claimed or changed meanwhile is refused by name,
and the others go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pipeline.errors import StoreUnavailable, Trouble, Usage, WaybillError
from pipeline.store.refusals import decided_before
from pipeline.store.rows import HoldRow
from waybill.compose import App
from waybill.desk import model
from waybill.desk.state import Change


class Ruled(NamedTuple):
    """
    What became of one hold of several.

    Attributes:
        hold: As it was looked at.
        decided: With its decision; None when it was refused.
        changes: Of its item's state, by the decision.
        error: Why it was refused.
    """

    hold: HoldRow
    decided: HoldRow | None
    changes: list[Change]
    error: WaybillError | None = None


def apart(app: App, holds: Sequence[HoldRow]) -> tuple[list[HoldRow], list[HoldRow]]:
    """Of open holds, those that can be approved as they are, and the others: what needs
    an answer, what somebody else is reading, and what is a role's: that is read one by
    one."""
    mine = (None, app.settings.reviewer)
    can = {h.id for h in holds if not (h.needs or h.role) and h.claimed_by in mine}
    return [h for h in holds if h.id in can], [h for h in holds if h.id not in can]


async def would(app: App, hold: HoldRow) -> Ruled:
    """What approving `hold` would change; nothing is decided."""
    try:
        _, changes = await _becomes(app, hold)
    except WaybillError as error:
        return Ruled(hold, None, [], error)
    return Ruled(hold, None, changes)


async def approve_all(
    app: App, holds: Sequence[HoldRow], *, reason: str = ""
) -> list[Ruled]:
    """Approve each, in this order; our own trouble refuses the rest, untried."""
    ruled: list[Ruled] = []
    trouble: WaybillError | None = None
    for hold in holds:
        if trouble is not None:
            ruled.append(Ruled(hold, None, [], trouble))
            continue
        try:
            update, changes = await _becomes(app, hold)
            decided = await model.decide(
                app, hold, "approve", reason=reason, digest=hold.digest, update=update
            )
            ruled.append(Ruled(hold, decided, changes))
        except WaybillError as error:
            ruled.append(Ruled(hold, None, [], error))
            if isinstance(error, StoreUnavailable | Trouble):
                trouble = error
    return ruled


async def _becomes(app: App, hold: HoldRow) -> tuple[str, list[Change]]:
    if hold.decision is not None:
        raise decided_before(hold)
    if hold.role:
        raise Usage(
            f"h{hold.id} ({hold.code}) is for the role {hold.role}, and never decided "
            "among several",
            code="ONE_BY_ONE",
            hint=f"read it, then decide it alone: `waybill review show h{hold.id}`",
        )
    return await model.becomes(app, hold, {})


def exit_code(ruled: Sequence[Ruled]) -> int:
    """0 when each was approved; else that of the gravest refusal, our own trouble
    before all."""
    codes = [one.error.exit_code for one in ruled if one.error is not None]
    trouble = StoreUnavailable.exit_code
    return trouble if trouble in codes else max(codes, default=0)
