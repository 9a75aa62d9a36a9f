"""
Benchmark of agents: a hundred readers of each of fifty contracts, in one process.

A supervisor makes a child for each reader and waits for all of them; a reader asks a
model that answers in a second, calls a tool, and asks again.  Beside it, in the same
run and against the same vendor, the same asks by the same HTTP client, one after the
other for each reader, and nothing around them: that is the ideal.

The vendor lets so many ask at once, as vendors of models do: how well what it allows is
used is the question.  Without that bound both sides take what processor there is, and
the ratio says what an ask costs beside a bare request.
"""

from __future__ import annotations

import math
import time
from typing import Annotated, Any, Literal

import anyio
from pydantic import BaseModel

from loadtest.bench.calls import allow_descriptors
from loadtest.bench.engine import Bed, rss_mb, until_done
from loadtest.vendors.playing import playing
from pipeline.agents.agent import Agent, Budget, Ended
from pipeline.agents.declared import ModelSpec
from pipeline.agents.loop import ask
from pipeline.agents.shapes import Output, request_of
from pipeline.agents.tools import Ref, ToolContext, Untrusted, tool
from pipeline.calls import Request
from pipeline.folder import Builtin
from pipeline.messages import Asked, ModelRequest
from pipeline.model import Advance, Outcome
from pipeline.parts import Part
from pipeline.stage import Context, Stage, stage
from pipeline.vendors.declared import VendorLimits, VendorSpec
from pipeline.vendors.door import Door

LATENCY_S = 1.0
ASKS = 2  # of each reader
MANIFEST = """
name = "agents"
deadline = "1d"
stages = ["supervise"]

[branch.reader]
stages = ["clause"]

[grant]
"*/clause/reader" = ["section"]
"""
SECTIONS = {"s1": "This agreement ends after a year. It may be renewed."}


class Reading(BaseModel):
    """State of a contract, or of one reader of it."""

    found: int = 0


class Finding(BaseModel):
    """What a reader answers."""

    verdict: Literal["present", "absent"]
    quote: str


@tool()
async def section(around: ToolContext, at: Annotated[str, Ref("section")]) -> Untrusted:
    """The text of a section."""
    return Untrusted(at)


def is_verbatim(found: Finding, sections: dict[str, str]) -> str | None:
    """A quote stands in its section."""
    there = any(found.quote in text for text in sections.values())
    return None if there else "its quote stands nowhere"


READER = Agent(
    "reader",
    prompt="prompt.md",
    models=("reader",),
    tools=(section,),
    output=Finding,
    checks=(is_verbatim,),
    budget=Budget(asks=4),
)


async def _supervise(reading: Reading, ctx: Context) -> Outcome:
    readers = int(ctx.folder.text("readers.txt"))
    parts = [Part(f"clause-{n}", {}) for n in range(readers)]
    await ctx.spawn(parts, at="reader")
    kin = await ctx.join(need=[part.name for part in parts])
    return Advance(found=sum(k.values["found"] for k in kin))


async def _clause(reading: Reading, ctx: Context) -> Outcome:
    found = await ask(
        ctx,
        READER,
        f"Is there a clause on {ctx.item.name}?",
        name="one",
        facts=SECTIONS,
        refs={"section": SECTIONS},
    )
    return Advance(found=int(found.ended is Ended.OUTPUT))


def _named(name: str, run: Any) -> Stage:
    made = stage(timeout_s=300, window=10_000)(run)
    return Stage(name, made.run, made.settings, 300, made.retry, 10_000, None)


STAGES = (_named("supervise", _supervise), _named("clause", _clause))
BUILTIN = Builtin({s.name: s for s in STAGES}, Reading)


async def agents(
    bed: Bed, contracts: int, readers: int, at_once: int
) -> dict[str, Any]:
    """
    `ratio` is the wall time beside that of the bare asks.

    Args:
        at_once: Asks that the vendor allows at a time; 0: any.
    """
    allow_descriptors()
    items = contracts * readers
    folder = bed.folder / "agents"
    folder.mkdir()
    (folder / "pipeline.toml").write_text(MANIFEST)
    (folder / "prompt.md").write_text("You read contracts.")
    (folder / "readers.txt").write_text(str(readers))
    play: dict[str, Any] = {"kind": "reader", "latency": LATENCY_S}
    if at_once:
        play["limits"] = [{"concurrency": at_once, "per": "service"}]
    with playing({"llm": play}) as world:
        vendor = VendorSpec(
            limits=VendorLimits(concurrency=at_once or None),
            name="llm",
            kind="openai",
            url=f"{world.url('llm')}/v1",
            model="m",
            inside=True,
        )
        model = ModelSpec(name="reader", vendor="llm", output=Output.JSON_SCHEMA)
        async with Door() as door:
            bare = [await _bare(door, vendor, model, items, at_once) for _ in range(2)]
            ideal_s = min(bare)
        async with Door() as door:
            await bed.submit([], contracts, "agents", root=folder, builtin=BUILTIN)
            worker = bed.worker(
                items + contracts,
                door,
                {"llm": vendor},
                models={"reader": model},
                builtin=BUILTIN,
            )
            wall_s = await until_done(bed, worker, items + contracts)
            assert worker.session is not None
            in_flight = worker.session.windows.total_max
        found = await bed.store.counts()
        asked = world.counts("llm")["calls"] - 2 * ASKS * items
    return {
        "wall_s": round(wall_s, 2),
        "ideal_s": round(ideal_s, 2),
        "ratio": round(wall_s / ideal_s, 3),
        "at_once": at_once,
        "contracts": contracts,
        "agents": items,
        "asks": asked,
        "done": found.done,
        "in_flight_max": in_flight,
        "peak_rss_mb": rss_mb(),
    }


async def _bare(
    door: Door, vendor: VendorSpec, model: ModelSpec, readers: int, at_once: int
) -> float:
    """The same asks, and nothing around them; seconds."""
    request = _request(vendor, model)
    room = anyio.CapacityLimiter(at_once or math.inf)
    begun = time.perf_counter()

    async def one(number: int) -> None:
        for n in range(ASKS):
            key = f"bare-{number}-{n}"
            async with room:
                await door.send(vendor, request, timeout_s=60, idempotency_key=key)

    async with anyio.create_task_group() as group:
        for number in range(readers):
            group.start_soon(one, number)
    return time.perf_counter() - begun


def _request(vendor: VendorSpec, model: ModelSpec) -> Request:
    asked = ModelRequest(
        system="You read contracts.",
        messages=(Asked(text="Is there a clause on it?"),),
        tools=(section.spec({"section": SECTIONS}),),
        output=Finding.model_json_schema(),
    )
    return request_of(vendor.kind, model.asked(asked), model.output)
