"""
Ruling: what a reviewer's decision puts into the item's state.
"""

from __future__ import annotations

from typing import Any

from pipeline.errors import Permanent, Usage
from pipeline.folder import Pipeline
from pipeline.state import encode
from pipeline.store.rows import HoldRow


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
