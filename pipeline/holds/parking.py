"""
Parking: an item waits for a person, at no cost meanwhile.

What the reviewer is shown and what approval would do are fixed when the item is
held; the store binds a decision to exactly that, by the digest of the hold's row.
"""

from __future__ import annotations

import json
from dataclasses import replace

from pipeline.bound import BoundStage
from pipeline.model import Hold, ToHeld
from pipeline.stage import Artifacts
from pipeline.state import clean_text, inline_or_ref
from pipeline.store.refusals import changed
from pipeline.store.rows import HoldRow

WHY_CHARS_MAX = 500


def park(
    hold: Hold,
    stage: BoundStage,
    seq: int,
    shown: str,
    proposal: str,
    lapse: str | None = None,
    *,
    again: bool = False,
) -> ToHeld:
    """
    The move that parks an item; `shown`, `proposal` and `lapse` are JSON text.

    Of `hold` only the words and the names count: its evidence stands in `shown`.
    `again`: the stage runs once more, though nothing is asked.
    """
    return ToHeld(
        stage=stage.name,
        seq=seq,
        code=hold.code,
        why=clean_text(hold.why)[:WHY_CHARS_MAX],
        shown=shown,
        proposal=proposal,
        needs=(*hold.needs, *hold.ask),
        again=again or bool(hold.ask),
        next_stage=stage.next,
        lapse=lapse,
        lapse_s=None if hold.lapse is None else hold.lapse.after_s,
        role=hold.role,
        within_s=hold.within_s,
    )


async def by_reference(move: ToHeld, artifacts: Artifacts) -> ToHeld:
    """The same move; what is large is an artifact, of which the row holds the name."""
    assert move.shown is not None
    assert move.proposal is not None
    shown, shown_ref = await inline_or_ref(move.shown, artifacts)
    proposal, proposal_ref = await inline_or_ref(move.proposal, artifacts)
    return replace(
        move,
        shown=shown,
        shown_ref=shown_ref,
        proposal=proposal,
        proposal_ref=proposal_ref,
    )


async def whole(hold: HoldRow, artifacts: Artifacts) -> HoldRow:
    """
    The hold with what stands in artifacts.

    Raises:
        Integrity: an artifact is missing, or changed; HOLD_CHANGED, the row is not
            as it was parked.
    """
    if hold.changed:
        raise changed(hold)
    for name, ref in (("shown", hold.shown_ref), ("proposal", hold.proposal_ref)):
        if ref is not None:
            there = json.loads(await artifacts.get(ref))
            hold = hold._replace(**{name: there, f"{name}_ref": None})
    return hold
