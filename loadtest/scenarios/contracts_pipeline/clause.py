"""One reader: one type of clause, on one page."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Literal

from pydantic import BaseModel

from pipeline.agents.agent import Agent, Budget, Ended
from pipeline.agents.loop import ask
from pipeline.agents.tools import Untrusted
from pipeline.model import Advance, Outcome
from pipeline.stage import Context, Retry, stage

TEXTS_KEPT = 64  # of contracts: a hundred readers of one begin together
_texts: OrderedDict[str, list[str]] = OrderedDict()


class Finding(BaseModel):
    """What a reader answers."""

    verdict: Literal["present", "absent", "unclear"]
    quote: str
    value: str


def is_verbatim(found: Finding, page: str) -> str | None:
    """A finding without its words is none."""
    if found.verdict != "present" or (found.quote and found.quote in page):
        return None
    return "its quote does not stand on the page"


READER = Agent(
    "reader",
    prompt="prompts/reader.md",
    models=("reader",),
    output=Finding,
    checks=(is_verbatim,),
    budget=Budget(asks=4, faults=3, tokens=20_000),
)


async def pages_of(ctx: Context, text: str) -> list[str]:
    """The pages of a contract."""
    if text not in _texts:
        _texts[text] = (await ctx.artifacts.get(text)).decode().split("\f")
        while len(_texts) > TEXTS_KEPT:
            _texts.popitem(last=False)
    return _texts[text]


@stage(timeout_s=600, retry=Retry(attempts=20, cap_s=2), window=300)
async def clause(part: Any, ctx: Context) -> Outcome:
    """One question; where it has no answer, that is said."""
    page = (await pages_of(ctx, part.text))[part.page - 1]
    question = (
        f"document: {part.of}\nclause: {part.clause}\nreader: {part.reader}\n"
        "Is there such a clause on this page?"
    )
    found = await ask(ctx, READER, [question, Untrusted(page)], name="read", facts=page)
    said = {"reader": part.reader, "page": part.page, "item": ctx.item.id}
    said["step"] = f"read/ask-{found.spent.asks}"
    if found.ended is not Ended.OUTPUT:
        why = {"verdict": "unclear", "quote": "", "value": "", "why": found.why}
        return Advance(finding=said | why)
    return Advance(finding=said | found.output.model_dump())
