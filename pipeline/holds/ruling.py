"""
Ruling: what a reviewer's decision puts into the item's state.
"""

from __future__ import annotations

from typing import Any

from pipeline.agents.agent import APPROVAL
from pipeline.errors import Permanent, Usage
from pipeline.folder import Pipeline
from pipeline.state import encode
from pipeline.store.rows import HoldRow

# How a hold is answered that asks for more than a value, by its code.
ANSWERED_BY = {
    APPROVAL: "rule h{0} --approve all, or --deny …",
    "CLAUSES_DOUBTFUL": "clause h{0} --accept all, or --correct …",
}
# Beside what is in doubt one may rule on more: its key in evidence, what lists it.
LISTED_BY = {"CLAUSES_DOUBTFUL": ("types", "clause h{0} --types")}
EMPTY: tuple[Any, ...] = (None, "", [], {})


def ruling(hold: HoldRow, pipeline: Pipeline, edits: dict[str, Any]) -> str:
    """
    The update that approves `hold`, with the reviewer's values in it.

    Raises:
        Usage: a needed channel is missing, or a value does not fit its channel.
    """
    try:
        # First: whoever mistyped a channel's name has given nothing for it.
        valid = pipeline.channels.validate(edits)
    except Permanent as error:  # a typing mistake of the reviewer's, not the item's
        raise Usage(error.message, code=error.code, hint=error.hint) from None
    missing = [name for name in hold.needs if _given(edits, name) in EMPTY]
    if missing:
        way = ANSWERED_BY.get(hold.code, f"edit h{{0}} --set {missing[0]}=…")
        raise Usage(
            f"hold h{hold.id} ({hold.code}) needs {', '.join(missing)} from you",
            code="ANSWER_NEEDED",
            hint=f"waybill review {way.format(hold.id)}",
        )
    try:
        # As every other update: what the machine found beside it stays.
        proposal = pipeline.channels.validate(hold.proposal)
        update = pipeline.channels.joined(proposal, valid)
    except Permanent as error:  # a typing mistake of the reviewer's, not the item's
        raise Usage(error.message, code=error.code, hint=error.hint) from None
    return encode(update)


def _given(edits: dict[str, Any], name: str) -> Any:
    """The reviewer's value of a channel, or of a key of one (`clauses.date`)."""
    channel, dot, key = name.partition(".")
    value = edits.get(channel)
    return value.get(key) if dot and isinstance(value, dict) else value
