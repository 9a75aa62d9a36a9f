"""The conversations of an item, as they stand in its steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.doubles import MemoryArtifacts
from pipeline.model import Checkpoint
from tests.unit.agents.desk import ANSWER, Desk, call, calls
from waybill.desk.conversations import conversations_of


def history(steps: dict[str, Any]) -> list[Checkpoint]:
    return [
        Checkpoint(seq, "read", name, json.dumps(value), None, None, 0.1)
        for seq, (name, value) in enumerate(steps.items())
    ]


def asked(steps: dict[str, Any]) -> dict[str, Any]:
    """Asks as a vendor's answers are kept; the desk's model has no vendor."""
    return {
        name: {"status": 200, "usage": {"input_tokens": 7}, "cost": "0.5"}
        if "/ask-" in name
        else value
        for name, value in steps.items()
    }


async def test_conversations_are_told_by_their_steps(tmp_path: Path) -> None:
    """One that goes on by its asks and calls, the others by how they ended."""
    desk = Desk(
        calls(call("section", at="s1"), call("nothing")),
        calls(call("send", to="acme")),
        ANSWER,
    )
    answer = await desk.ask(tmp_path)
    steps = asked(desk.ctx.recorded)
    early = {name: steps[name] for name in steps if not name.endswith("-2")}
    after = Desk(*desk.said, recorded=desk.ctx.recorded)
    ruling = {answer.pending[0].digest: {"verdict": "approve"}}
    await after.ask(tmp_path, rulings=ruling)
    kept = MemoryArtifacts()

    [begun] = await conversations_of(history({**early, "page-1": 1}), kept)
    [waits] = await conversations_of(history(steps), kept)
    [ended] = await conversations_of(history(asked(after.ctx.recorded)), kept)

    assert (begun.agent, begun.ended, begun.spent.asks) == ("", "goes on", 1)
    assert (begun.spent.calls, begun.spent.tokens) == (2, 7)
    assert begun.spent.refused == {"TOOL_UNKNOWN": 1}
    assert (waits.agent, waits.ended) == ("reader", "approval")
    assert (ended.agent, ended.name, ended.ended) == ("reader", "one", "output")
    assert (ended.spent.asks, ended.spent.calls) == (3, 3)
    assert ended.facts()["refused"] == {"TOOL_UNKNOWN": 1}
