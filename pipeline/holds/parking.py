"""
Holds: an item parked for a person, at no cost while it waits.

What the reviewer is shown and what approval would do are fixed when the item is
held; `digest` binds a decision to exactly that.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel

from pipeline.errors import Permanent, Usage
from pipeline.folder import BoundStage, Pipeline
from pipeline.model import Hold, ToHeld
from pipeline.state import clean_text, encode
from pipeline.store.port import HoldRow

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


def ruling(hold: HoldRow, pipeline: Pipeline, edits: dict[str, Any]) -> str:
    """
    The update that approves `hold`, with the reviewer's values in it.

    Raises:
        Usage: a needed channel is missing, or a value does not fit its channel.
    """
    missing = [name for name in hold.needs if edits.get(name) in (None, "", [], {})]
    if missing:
        raise Usage(
            f"hold h{hold.id} ({hold.code}) needs {', '.join(missing)} from you",
            code="ANSWER_NEEDED",
            hint=f"waybill review edit h{hold.id} --set {missing[0]}=…",
        )
    try:
        valid = pipeline.channels.validate(edits)
    except Permanent as error:  # a typing mistake of the reviewer's, not the item's
        raise Usage(error.message, code=error.code, hint=error.hint) from None
    return encode({**hold.proposal, **valid})
