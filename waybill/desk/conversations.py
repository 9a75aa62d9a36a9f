"""
The conversations of an item's agents: who asked how often, and how it ended.

How one ended stands in a step of its own; of one that goes on its asks and calls tell.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from pipeline.agents.agent import Closing, Spending
from pipeline.calls import Answer
from pipeline.model import Checkpoint
from pipeline.stage import Artifacts
from pipeline.state import update_of

STEP = re.compile(
    r"(?P<name>.+)/"
    r"(?:(?P<end>ended|waits-\d+)|ask-(?P<ask>\d+)(?:/by-[^/]+)?"
    r"|refused-(?P<refused>\d+)|call-(?P<call>\d+)\.\d+:[^/]+)"
)
GOES_ON = "goes on"
REFUSED = TypeAdapter(list[tuple[str, str, str]])  # call, tool, code


class Conversation(NamedTuple):
    """
    One conversation.

    Attributes:
        agent: "" until it has ended, or waits.
        ended: As `Ended` says, or that it goes on.
        counted: Answers whose calls are in `spent`, since it waited for a person.
    """

    stage: str
    name: str
    agent: str
    ended: str
    spent: Spending
    counted: int = 0

    def facts(self) -> dict[str, Any]:
        """As an object; money is text, for no float holds it."""
        spent = self.spent.model_dump(mode="json")
        head = {"stage": self.stage, "name": self.name, "agent": self.agent}
        return {**head, "ended": self.ended, **spent}


async def conversations_of(
    history: Sequence[Checkpoint], artifacts: Artifacts
) -> list[Conversation]:
    """All of an item with this history, in the order in which they began."""
    found: dict[tuple[str, str], Conversation] = {}
    for c in history:
        step = STEP.fullmatch(c.step or "")
        if step is None:
            continue
        key = (c.stage, step["name"])
        one = found.get(key) or Conversation(*key, "", GOES_ON, Spending())
        try:
            found[key] = await _with(one, c, step, artifacts)
        except ValidationError:
            continue  # a step of the stage's own that is called alike
    return [one for one in found.values() if one.agent or one.spent.asks]


async def _with(
    one: Conversation, c: Checkpoint, step: re.Match[str], artifacts: Artifacts
) -> Conversation:
    key = one.stage, one.name
    if one.ended != GOES_ON and not step["end"]:
        # After a person's word: what follows is counted on.
        one = one._replace(ended=GOES_ON)
    if step["end"]:
        found = json.loads(await update_of(c, artifacts))
        # Where it was drawn from a purse what was drawn stands beside it.
        end = Closing.model_validate(found.get("note") or found)
        asks = end.spent.asks
        return Conversation(*key, end.agent, end.ended.value, end.spent, asks)
    spent = one.spent.model_copy()
    if step["ask"]:
        answer = Answer.model_validate_json(await update_of(c, artifacts))
        spent.asks = max(spent.asks, int(step["ask"]))
        spent.tokens += answer.usage.total
        spent.cost += answer.cost
    elif int(step["refused"] or step["call"]) > one.counted:
        codes = [""]
        if step["refused"]:
            codes = [
                code
                for _, _, code in REFUSED.validate_json(await update_of(c, artifacts))
            ]
            spent.refused = dict(Counter(spent.refused) + Counter(codes))
        spent.calls += len(codes)
    return one._replace(spent=spent)
