"""An agent in a real pipeline: its example in the docs, a simulated model, a worker."""

from __future__ import annotations

import re
from pathlib import Path

from loadtest.vendors.playing import playing
from tests.system.command import ROOT, Home

VENDORS = """
[vendor.llm]
kind = "openai"
url = "{url}/v1"
inside = true
model = "m"

[model.reader]
vendor = "llm"
output = "tool"
"""


def documented(kind: str) -> list[str]:
    """The blocks of docs/agents.md of a kind, in order."""
    page = (ROOT / "docs" / "agents.md").read_text(encoding="utf-8")
    return re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL)


def pipeline(home: Home) -> Path:
    """The example as the page has it, in a folder."""
    # The first of each; what follows it on the page is another pipeline, told whole.
    stage = next(block for block in documented("python") if "@stage" in block)
    grant = next(block for block in documented("toml") if "[grant]" in block)
    folder = home.pipelines / "clauses"
    (folder / "prompts").mkdir(parents=True)
    (folder / "prompts" / "clause.md").write_text("You read contracts.")
    (folder / "clause.py").write_text(stage)
    (folder / "pipeline.toml").write_text(
        'name = "clauses"\nstages = ["intake", "ocr", "clause"]\n' + grant
    )
    return folder


def test_the_documented_agent_reads_a_document(home: Home) -> None:
    """A tool that its model asks for, an answer that fits, each a step on record."""
    home.environment["WAYBILL_PIPELINES"] = str(pipeline(home).parent)
    note = home.folder / "sent" / "note.txt"
    note.parent.mkdir()
    note.write_text("This agreement ends after a year.")
    declared = home.folder / "vendors.toml"
    home.environment["WAYBILL_VENDORS"] = str(declared)
    with playing({"llm": {}}, for_s=120) as world:
        declared.write_text(VENDORS.format(url=world.url("llm")))

        home.ok("ingest", note, "--pipeline", "clauses", "--wait")

    [item] = home.ok("items", "ls")
    shown = home.ok("items", "show", str(item["id"]))
    steps = [e["detail"] for e in shown["timeline"] if e["event"] == "step"]
    assert item["state"] == "done", shown["failures"]
    assert shown["state"]["facts"]["term"] == {"verdict": "present", "quote": ""}
    assert [step for step in steps if step.startswith("term/")] == [
        *("term/ask-1", "term/call-1.1:read_section", "term/ask-2"),
        "term/ended",
    ]
    [talk] = shown["conversations"]
    assert (talk["agent"], talk["name"], talk["ended"]) == ("reader", "term", "output")
    assert (talk["asks"], talk["calls"], talk["refused"]) == (2, 1, {})
    assert [call["step"] for call in shown["calls"]] == ["term/ask-2", "term/ask-1"]


WRITER = '''
"""An agent that sends, after a person's word."""

from typing import Any

from pipeline.agents.agent import Agent, Ended
from pipeline.agents.loop import ask
from pipeline.agents.tools import ToolContext, tool
from pipeline.stage import Advance, stage


@tool(effect="write", sink="print", approve=True)
async def send(around: ToolContext, to: str) -> dict[str, Any]:
    """Send the note to somebody."""
    return {"to": to}


WRITER = Agent("writer", prompt="prompts/clause.md", models=("reader",), tools=(send,))


@stage(timeout_s=60)
async def clause(deal, ctx):
    found = await ask(ctx, WRITER, "Send it.", name="one", rulings=deal.rulings)
    if found.ended is Ended.APPROVAL:
        return found.hold("rulings")
    if found.ended is not Ended.OUTPUT:
        return found.hold()
    return Advance(text=found.output)
'''


STATE = '''
"""A document, and what persons ruled on the calls of its agent."""

from typing import Annotated, Any

from pipeline.stage import merge
from stages.document import Document


class Deal(Document):
    rulings: Annotated[dict[str, Any], merge] = {}
'''


def test_a_person_rules_on_a_call_and_it_goes_on(home: Home) -> None:
    """Shown what it is; another call's name, and nothing said, are refused."""
    folder = pipeline(home)
    (folder / "clause.py").write_text(WRITER)
    text = (folder / "pipeline.toml").read_text().partition('"*/clause/reader"')[0]
    (folder / "state.py").write_text(STATE)
    grant = '"*/clause/writer" = ["send"]\n'
    (folder / "pipeline.toml").write_text(f'state = "Deal"\n{text}{grant}')
    home.environment["WAYBILL_PIPELINES"] = str(folder.parent)
    note = home.folder / "sent" / "note.txt"
    note.parent.mkdir()
    note.write_text("This agreement ends after a year.")
    declared = home.folder / "vendors.toml"
    home.environment["WAYBILL_VENDORS"] = str(declared)
    with playing({"llm": {}}, for_s=120) as world:
        declared.write_text(VENDORS.format(url=world.url("llm")))
        held = home.run("ingest", note, "--pipeline", "clauses", "--wait")
        [hold] = home.ok("review", "ls")
        name = hold["hold"]

        shown = home.run("review", "show", name).out
        plain = home.run("review", "approve", name, "--yes")
        wrong = home.run("review", "rule", name, "--approve", "c9_9")
        empty = home.run("review", "rule", name)
        ruled = home.ok(
            *("review", "rule", name, "--change", 'c1_1={"to": "acme"}', "--yes")
        )

    assert held.code == 5
    assert "send" in shown
    assert f"waybill review rule {name} --approve all" in shown
    assert "review rule" in plain.err
    assert (wrong.code, "c1_1" in wrong.err) == (2, True)
    assert (empty.code, "--approve all" in empty.err) == (2, True)
    assert ruled["state"] == "done"
    [effect] = home.ok("effects", "ls")
    found = home.ok("effects", "show", str(effect["id"]))
    assert found["payload"] == {"to": "acme"}
