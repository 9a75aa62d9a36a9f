"""
Parking: an item waits for a person, at no cost meanwhile.

What the reviewer is shown and what approval would do are fixed when the item is
held; `digest` binds a decision to exactly that.
"""

from __future__ import annotations

import hashlib
import json

from pydantic import BaseModel

from pipeline.folder import BoundStage
from pipeline.model import Hold, ToHeld
from pipeline.state import clean_text, encode

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


def digest_of(code: str, shown: str, proposal: str) -> str:
    """What a decision is bound to: the sha256 of code, picture and proposal."""
    # JSON of a list: no two different triples have the same text.
    return hashlib.sha256(json.dumps([code, shown, proposal]).encode()).hexdigest()
