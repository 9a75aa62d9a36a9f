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

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline.agents.agent import HOLDS, Agent, Budget, Ended
from pipeline.agents.loop import ask
from pipeline.agents.tools import Ref, ToolContext, Untrusted, tool
from pipeline.errors import Permanent, Usage
from pipeline.stage import Advance, Context, Outcome, Retry, stage
from stages.abstracts.forms import Structure, structure_of
from stages.abstracts.readers import by_model, in_section, together
from stages.abstracts.record import NO_MODEL

MODEL = "reader"
HEADINGS_MAX = 300  # sections that a model is told of


class Passage(BaseModel):
    """Words of the contract, and the section they stand in."""

    model_config = ConfigDict(extra="forbid")

    section: str
    text: str = Field(min_length=1, max_length=4_000)


class Reading(BaseModel):
    """What a model answers."""

    model_config = ConfigDict(extra="forbid")

    verdict: Literal["present", "absent", "unclear"]
    quotes: list[Passage] = Field(max_length=10)


@tool(max_calls=12, result_bytes=16_000)
async def read_section(
    around: ToolContext, section: Annotated[str, Ref("section")]
) -> Untrusted:
    """The text of a section."""
    return Untrusted(section)


def quotes_are_verbatim(found: Reading, facts: tuple[str, Structure]) -> str | None:
    """Each quote stands in the section it names; present needs one, absent has none."""
    text, structure = facts
    known = dict(names_of(structure))
    for number, quote in enumerate(found.quotes, 1):
        at = known.get(quote.section)
        if at is None:
            return f"quote {number} names no section"
        if in_section(text, structure.sections[at], quote.text) is None:
            return f"quote {number} does not stand in {quote.section}, word for word"
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
    names = names_of(structure)
    sections = structure.sections
    told = [
        f"{name}: {sections[at].number} {sections[at].heading}" for name, at in names
    ]
    [of] = [one for one in structure.types if one.name == contract.clause]
    answer = await ask(
        ctx,
        READER,
        [f"{of.title}: {of.question}\n\nThe sections are:", Untrusted("\n".join(told))],
        name="read",
        facts=(text, structure),
        refs={
            "section": {
                name: text[sections[at].start : sections[at].end] for name, at in names
            }
        },
    )
    if answer.ended is not Ended.OUTPUT:
        raise Permanent(answer.why, code=HOLDS[answer.ended])
    known = dict(names)
    places = [
        place
        for quote in answer.output.quotes
        if (place := in_section(text, sections[known[quote.section]], quote.text))
    ]
    model = by_model(text, of.name, answer.output.verdict, places)
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


def names_of(structure: Structure) -> list[tuple[str, int]]:
    """What sections are called before a model, and their places: `s1`, `s2`, …"""
    return [(f"s{n + 1}", n) for n in range(len(structure.sections[:HEADINGS_MAX]))]
