"""Which pipelines there are, and what is wrong with them: `pipelines ls`, `check`."""

from __future__ import annotations

from tests.system.command import ROOT, Home

BROKEN = """
name = "broken"
deadline = "soon"
stages = ["work", "gone", "moderation"]
[stage.work]
attempts = 0
colour = "red"
[stage.moderation]
rules = "rules/*.toml"
"""


def test_folders_are_listed_and_every_fault_is_said(home: Home) -> None:
    """Of each where it stands and what to do; items under way are counted."""
    sound = home.pipeline("notes", work='return Hold("LOOK")')
    home.environment["WAYBILL_PIPELINES"] = str(sound.parent)
    (home.folder / "a.txt").write_text("a")
    home.run("ingest", home.folder / "a.txt", "--pipeline", "notes", "--wait")
    alone = home.run("pipelines", "check")

    broken = home.pipeline("broken", work="return Advance()")
    (broken / "pipeline.toml").write_text(BROKEN)
    both = home.run("pipelines", "check", "--json")
    listed = {row["name"]: row for row in home.ok("pipelines", "ls")}

    assert (alone.code, alone.out.count("\n")) == (0, 1)
    assert alone.out.startswith("ok\tnotes\twork @")
    found, fine = both.json()["pipelines"]
    messages = "\n".join(fault["message"] for fault in found["faults"])
    assert (both.code, both.json()["ok"], fine["faults"]) == (2, False, [])
    for word in (
        *("[stage.work]: attempts", "[stage.work]: colour", "no stage 'gone'"),
        *("deadline: 'soon'", str(broken / "pipeline.toml")),
    ):
        assert word in messages
    assert listed["notes"]["under_way"] == 1
    assert listed["notes"]["stages"] == ["work"]
    assert listed["broken"]["fault"]


def test_the_examples_are_sound(embedded_home: Home) -> None:
    """Rules with their examples, and nothing that a database is needed for."""
    paths = [ROOT / "examples" / name for name in ("contracts", "letters", "documents")]

    checked = embedded_home.run("pipelines", "check", *paths, "--json")

    assert (checked.code, checked.json()["ok"]) == (0, True)
    assert checked.json()["pipelines"][0]["notes"]  # nobody declared a model or a CRM
    assert not (embedded_home.folder / "postgres").exists()


PRICED = """
[vendor.llm]
kind = "openai"
url = "https://llm.example/v1"
model = "m"
[vendor.llm.price]
call = "0.01"
"""

ASKING = '''
from pydantic import BaseModel
from pipeline.agents.agent import Agent, Budget
from pipeline.agents.tools import ToolContext, tool
from pipeline.stage import Advance, Context, stage


class Finding(BaseModel):
    text: str


@tool(effect="write", sink="desk")
async def note(around: ToolContext, text: str) -> dict[str, str]:
    """Write a note."""
    return {"text": text}


@tool()
async def look(around: ToolContext) -> str:
    """Look around."""
    return "nothing"


SCOUT = Agent(
    "scout",
    prompt="prompts/scout.md",
    models=("small",),
    tools=(note, look),
    output=Finding,
    budget=Budget(asks=2, calls=2, tokens=1000),
)


@stage()
async def scan(state: BaseModel, ctx: Context) -> Advance:
    """Scan."""
    return Advance()
'''


def test_what_nobody_declared_or_gave_is_noted(home: Home) -> None:
    """A tool's sink, a grant that was forgotten: told before a person rules on it."""
    folder = home.pipeline("asks", scan="return Advance()")
    (folder / "prompts").mkdir()
    (folder / "prompts" / "scout.md").write_text("You look.")
    (folder / "scan.py").write_text(ASKING)
    declared = (folder / "pipeline.toml").read_text()
    (folder / "pipeline.toml").write_text(
        declared + '[grant]\n"acme/scan/scout" = ["look"]\n'
        '[budget]\nitem = "2.00 EUR"\n'
    )
    (home.folder / "vendors.toml").write_text(PRICED)

    checked = home.run("pipelines", "check", folder, "--json")

    assert checked.code == 0, checked.out
    assert checked.json()["pipelines"][0]["notes"] == [
        "[budget] is in EUR, and vendors' prices are in USD: it would end every call "
        "that costs",
        "agent scout: vendors.toml has no [model.small]",
        "agent scout: vendors.toml has no [sink.desk]",
        "agent scout: no line of [grant] gives note",
    ]
