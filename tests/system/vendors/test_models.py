"""Models over HTTP: both shapes, each way to hold one to a schema, tools between."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

from loadtest.vendors.playing import Steered, playing
from pipeline.agents.declared import ModelSpec
from pipeline.agents.shapes import Output
from pipeline.messages import (
    Asked,
    CallEnd,
    Finish,
    ModelRequest,
    Results,
    ToolResult,
    ToolSpec,
)
from pipeline.stage import Advance, stage
from pipeline.testing import Context
from pipeline.vendors.declared import VendorSpec
from pipeline.vendors.door import Door
from waybill.cli import app
from waybill.commands.models import try_model
from waybill.outside import declared_models, declared_vendors
from waybill.settings import Settings

LOOK = ToolSpec(
    name="look",
    description="Looks at a page.",
    parameters={"type": "object", "properties": {"page": {"type": "integer"}}},
)


class Finding(BaseModel):
    """What is asked for."""

    verdict: str
    quotes: list[str]


@stage()
async def read(letter: Any, ctx: Any) -> Advance:
    """Who asks."""
    return Advance()


@pytest.fixture(scope="module")
def world() -> Iterator[Steered]:
    with playing({"llm": {}}, for_s=120) as found:
        yield found


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    async with Door() as opened:
        yield opened


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
@pytest.mark.parametrize("output", [Output.JSON_SCHEMA, Output.TOOL])
async def test_a_conversation_with_tools_ends_in_the_schema(
    world: Steered, door: Door, kind: Any, output: Output
) -> None:
    """A call, its result by our id, and the answer; what it took is counted."""
    vendor = VendorSpec(
        name="llm", kind=kind, url=f"{world.url('llm')}/v1", model="m", inside=True
    )
    model = ModelSpec(name="reader", vendor="llm", output=output)
    ctx = Context(
        read, door=door, vendors={"llm": vendor}, models={"reader": model}, left_s=20
    )
    question = ModelRequest(
        system="You read.",
        messages=(Asked(text="What is the verdict?"),),
        tools=(LOOK,),
        output=Finding.model_json_schema(),
    )

    called = await ctx.model("reader").ask("ask-1", question)
    [call] = called.said.calls
    seen = ToolResult(call=call.id, name=call.name, end=CallEnd.RESULT, text="page 1")
    talk = (*question.messages, called.said, Results(results=(seen,)))
    more = question.model_copy(update={"messages": talk, "tools_allowed": False})
    answered = await ctx.model("reader").ask("ask-2", more, number=2)

    assert (call.id, call.name) == ("c1_1", "look")
    assert called.said.finish is Finish.CALLS
    Finding.model_validate_json(answered.said.text)
    assert answered.usage.total > 0
    assert ctx.ran == ["ask-1", "ask-2"]


@pytest.mark.parametrize(
    ("kind", "said"), [("openai", r"\{.*\}"), ("anthropic", "You said: When.*")]
)
async def test_who_is_only_told_the_schema_answers_too(
    world: Steered, door: Door, kind: Any, said: str
) -> None:
    """By `json_object`: one promises some JSON, the other nothing."""
    vendor = VendorSpec(
        name="llm", kind=kind, url=f"{world.url('llm')}/v1", model="m", inside=True
    )
    model = ModelSpec(name="reader", vendor="llm", output=Output.JSON_OBJECT)
    ctx = Context(
        read, door=door, vendors={"llm": vendor}, models={"reader": model}, left_s=20
    )
    question = ModelRequest(
        system="You read.",
        messages=(Asked(text="When?"),),
        output=Finding.model_json_schema(),
    )

    answered = await ctx.model("reader").ask("ask-1", question)

    assert answered.said.finish is Finish.STOP
    assert re.fullmatch(said, answered.said.text)
    assert answered.usage.total > 0


@pytest.mark.parametrize(
    ("output", "good", "found"),
    [("tool", True, "as tool"), ("json_object", False, "no JSON of the schema")],
)
async def test_a_model_is_listed_shown_and_tried(
    world: Steered,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    output: str,
    good: bool,
    found: str,
) -> None:
    """Asked one question by its name; where it is held to no schema that is said."""
    (tmp_path / "vendors.toml").write_text(
        f'[vendor.llm]\nkind = "openai"\nurl = "{world.url("llm")}/v1"\nmodel = "m"\n'
        f'inside = true\n[model.reader]\nvendor = "llm"\noutput = "{output}"\n'
    )
    settings = Settings(home=tmp_path)
    vendors = declared_vendors(settings).vendors
    model = declared_models(settings, vendors)["reader"]
    monkeypatch.setattr("os.environ", {"WAYBILL_HOME": str(tmp_path)})

    tried = await try_model(settings, model, vendors["llm"], 15)
    listed, shown = (
        json.loads(CliRunner().invoke(app, ["vendors", *words, "--json"]).stdout)
        for words in (["ls"], ["show", "reader"])
    )

    assert tried["ok"] is good
    assert found in tried["found"]
    [row] = listed["models"]
    assert (row["name"], row["kind"]) == ("reader", "model of llm")
    assert shown["output"] == output
