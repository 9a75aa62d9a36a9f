"""An agent that reads; what its tools do is written down by themselves."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

import anyio
from pydantic import BaseModel

from pipeline.agents.agent import Agent, Answer, Budget, Ended
from pipeline.agents.loop import ask
from pipeline.agents.tools import Ref, ToolContext, Untrusted, tool
from pipeline.model import Advance, Outcome
from pipeline.stage import Context, Retry, Settings, stage


class Finding(BaseModel):
    """What was found."""

    verdict: Literal["present", "absent", "unclear"]
    quote: str


def note(around: ToolContext, what: str) -> None:
    """What really happened, a line each, whoever else forgets it."""
    line = f"{around.ctx.item.name} {what}\n".encode()
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
    note(around, f"record {subject}")
    return {"subject": subject}


@tool(effect="write", sink="bank")
async def pay(around: ToolContext, to: str, amount: int) -> dict[str, Any]:
    """Pay.  Granted to nobody."""
    note(around, "pay")
    return {"to": to, "amount": amount}


def is_verbatim(found: Finding, sections: dict[str, str]) -> str | None:
    """A finding without its words is none."""
    if found.verdict != "present":
        return None
    if found.quote and any(found.quote in text for text in sections.values()):
        return None
    return "its quote stands nowhere in the document"


READER = Agent(
    "reader",
    prompt="prompts/reader.md",
    models=("reader",),
    tools=(section, record, pay),
    output=Finding,
    checks=(is_verbatim,),
    budget=Budget(asks=8, calls=12, faults=3, same_call=2, tokens=20_000),
)


class Reading(Settings):
    """How many read each document, side by side, with the same question."""

    readers: int = 1


@stage(settings=Reading, timeout_s=300, retry=Retry(attempts=20, cap_s=2), window=200)
async def read(deal: Any, ctx: Context) -> Outcome:
    """One question about the document."""
    answers: dict[int, Answer] = {}
    about = f"document: {ctx.item.name}\nclause: {deal.clause}"
    question = f"{about}\nIs there such a clause?"

    async def one(number: int) -> None:
        answers[number] = await ask(
            ctx,
            READER,
            question,
            name="term" if number == 1 else f"term{number}",
            facts=deal.sections,
            refs={"section": deal.sections},
        )

    async with anyio.create_task_group() as tasks:
        for number in range(1, ctx.settings.readers + 1):
            tasks.start_soon(one, number)
    for number in sorted(answers):
        found = answers[number]
        if found.ended is not Ended.OUTPUT:
            return found.hold(finding={"ended": found.ended.value})
    return Advance(finding=answers[1].output.model_dump())
