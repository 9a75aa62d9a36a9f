"""An agent that writes, and asks a person for every word of it."""

from __future__ import annotations

import os
from typing import Annotated, Any

from pydantic import BaseModel

from pipeline.agents.agent import Agent, Budget, Ended, Ruling
from pipeline.agents.loop import ask
from pipeline.agents.tools import Ref, ToolContext, Untrusted, tool
from pipeline.model import Advance, Outcome
from pipeline.stage import Context, Retry, stage


class Done(BaseModel):
    """What it says at the end."""

    verdict: str


def note(around: ToolContext, what: str) -> None:
    """What really happened, a line each, whoever else forgets it."""
    line = f"{around.ctx.item.name} {around.call} {what}\n".encode()
    log = os.open(os.environ["WAYBILL_CHAOS_LOG"], os.O_WRONLY | os.O_APPEND)
    try:
        os.write(log, line)
    finally:
        os.close(log)


@tool(max_calls=8)
async def section(around: ToolContext, at: Annotated[str, Ref("section")]) -> Untrusted:
    """The text of a section."""
    note(around, "section")
    return Untrusted(at)


@tool(effect="write", sink="ledger")
async def record(around: ToolContext, subject: str) -> dict[str, Any]:
    """Record a subject in the ledger."""
    note(around, "record")
    return {"subject": subject}


WRITER = Agent(
    "writer",
    prompt="prompts/reader.md",
    models=("reader",),
    tools=(section, record),
    output=Done,
    budget=Budget(asks=6, calls=20, same_call=9),
)


@stage(timeout_s=300, retry=Retry(attempts=20, cap_s=2), window=200)
async def write(deal: Any, ctx: Context) -> Outcome:
    """One conversation, which a person has to agree to."""
    rulings = {key: Ruling.model_validate(one) for key, one in deal.rulings.items()}
    found = await ask(
        ctx,
        WRITER,
        f"document: {ctx.item.name}",
        name="term",
        facts=deal.sections,
        refs={"section": deal.sections},
        rulings=rulings,
    )
    if found.ended is Ended.APPROVAL:
        return found.hold("rulings")
    if found.ended is not Ended.OUTPUT:
        return found.hold()
    return Advance(finding={"rulings": len(rulings)})
