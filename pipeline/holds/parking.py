"""
Parking: an item waits for a person, at no cost meanwhile.

What the reviewer is shown and what approval would do are fixed when the item is
held; `digest` binds a decision to exactly that.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

from pydantic import BaseModel

from pipeline.errors import Integrity
from pipeline.folder import BoundStage
from pipeline.model import Hold, ToHeld
from pipeline.stage import Artifacts
from pipeline.state import clean_text, encode, inline_or_ref
from pipeline.store.rows import HoldRow

WHY_CHARS_MAX = 500


def park(
    hold: Hold, stage: BoundStage, seq: int, state: BaseModel | None, proposal: str
) -> ToHeld:
    """The move that parks an item; `proposal` is JSON text."""
    shown = encode({"evidence": hold.evidence, "state": state})
    return ToHeld(
        stage=stage.name,
        seq=seq,
        code=hold.code,
        why=clean_text(hold.why)[:WHY_CHARS_MAX],
        shown=shown,
        proposal=proposal,
        digest=digest_of(hold.code, shown, proposal),
        needs=(*hold.needs, *hold.ask),
        again=bool(hold.ask),
        next_stage=stage.next,
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
        Integrity: an artifact is missing, or changed; HOLD_CHANGED, the row is none
            that was ever parked.
    """
    for name, ref in (("shown", hold.shown_ref), ("proposal", hold.proposal_ref)):
        if ref is not None:
            there = json.loads(await artifacts.get(ref))
            hold = hold._replace(**{name: there, f"{name}_ref": None})
    if not isinstance(hold.shown, dict) or not isinstance(hold.proposal, dict):
        raise Integrity(
            f"hold h{hold.id} was changed in the database",
            code="HOLD_CHANGED",
            hint=f"have its item held anew: waybill items retry {hold.item_id}",
        )
    return hold


def digest_of(code: str, shown: str, proposal: str) -> str:
    """What a decision is bound to: the sha256 of code, picture and proposal."""
    # JSON of a list: no two different triples have the same text.
    return hashlib.sha256(json.dumps([code, shown, proposal]).encode()).hexdigest()
