"""
Clause: one type of clause of one contract, read by every reader there is.

Reads   `clause`, the type; `found`, what the two routes by rules found of it;
        `structure`.
Writes  `found`: verdict, quotes and value, and each reader's opinion; `model`.
Steps   those of the conversation (`read/ask-1`, `read/call-1.1:read_section`).
Limits  the model's vendor's; a conversation's budget.
Ends    Advance; a conversation without an answer fails with AGENT_BUDGET and the like:
        its type is a gap of the contract.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline.agents.agent import HOLDS, Agent, Budget, Ended
from pipeline.agents.loop import ask
from pipeline.agents.tools import Ref, ToolContext, Untrusted, tool
from pipeline.errors import Permanent, Usage
from pipeline.messages import CallEnd, Message, Results
from pipeline.stage import Advance, Context, Outcome, Retry, stage
from stages.abstracts.forms import structure_of
from stages.abstracts.passages import Passage, passages_of
from stages.abstracts.readers import by_model, in_passage, together
from stages.abstracts.record import NO_MODEL

MODEL = "reader"
WEIGHT = 8  # letters and digits of a quote, at least: `the` is evidence of nothing


class Quoted(BaseModel):
    """Words of the contract, and the section they stand in."""

    model_config = ConfigDict(extra="forbid")

    section: str
    text: str = Field(min_length=1, max_length=4_000)


class Reading(BaseModel):
    """What a model answers."""

    model_config = ConfigDict(extra="forbid")

    verdict: Literal["present", "absent", "unclear"]
    quotes: list[Quoted] = Field(max_length=10)


@tool(max_calls=12, result_bytes=16_000)
async def read_section(
    around: ToolContext, section: Annotated[str, Ref("section")]
) -> Untrusted:
    """The text of a section."""
    return Untrusted(section)


def quotes_are_verbatim(
    found: Reading, facts: tuple[str, dict[str, Passage]]
) -> str | None:
    """Each quote stands in the section it names; present needs one, absent has none."""
    text, passages = facts
    for number, quote in enumerate(found.quotes, 1):
        at = passages.get(quote.section)
        if at is None:
            return f"quote {number} names no section"
        if in_passage(text, at, quote.text) is None:
            return f"quote {number} does not stand in {quote.section}, word for word"
        if sum(map(str.isalnum, quote.text)) < WEIGHT:
            return f"quote {number} is too short to say it: quote the sentence"
    if (found.verdict == "present") != bool(found.quotes):
        return "present has a quote, and nothing else has"
    return None


READER = Agent(
    "clause_reader",
    prompt="prompts/clause.md",
    models=(MODEL,),
    tools=(read_section,),
    output=Reading,
    checks=(quotes_are_verbatim,),
    budget=Budget(asks=8, calls=12, tokens=120_000),
)


@stage(timeout_s=1800, retry=Retry(attempts=3), window=2000)
async def clause(contract, ctx: Context) -> Outcome:
    """What the readers of one type come to together."""
    if not declared(ctx):
        return Advance(model=NO_MODEL)
    structure = structure_of(await ctx.artifacts.get(contract.structure))
    text = (await ctx.artifacts.get(structure.text)).decode()
    passages = {one.name: one for one in passages_of(text, structure.sections)}
    told = [f"{name}: {one.label}" for name, one in passages.items()]
    [of] = [one for one in structure.types if one.name == contract.clause]
    answer = await ask(
        ctx,
        READER,
        [f"{of.title}: {of.question}\n\nThe sections are:", Untrusted("\n".join(told))],
        name="read",
        facts=(text, passages),
        refs={"section": {n: text[one.start : one.end] for n, one in passages.items()}},
    )
    if answer.ended is not Ended.OUTPUT:
        raise Permanent(answer.why, code=HOLDS[answer.ended])
    places = [
        place
        for quote in answer.output.quotes
        if (place := in_passage(text, passages[quote.section], quote.text))
    ]
    verdict = answer.output.verdict
    if verdict == "absent" and not has_read(answer.talk):
        verdict = "unclear"  # it cannot know
    model = by_model(text, of.name, verdict, places)
    kind = structure.kinds[of.name]
    return Advance(found=together(contract.found, model, kind), model=MODEL)


def declared(ctx: Context) -> bool:
    """Whether there is a model to ask."""
    try:
        ctx.model(MODEL)
    except Usage as error:
        if error.code != "MODEL_UNKNOWN":
            raise
        return False
    return True


def has_read(talk: Sequence[Message]) -> bool:
    """Whether a model was shown a section."""
    results = [r for m in talk if isinstance(m, Results) for r in m.results]
    return any(result.end is CallEnd.RESULT for result in results)
