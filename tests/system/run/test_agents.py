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
    [stage] = [block for block in documented("python") if "@stage" in block]
    [grant] = [block for block in documented("toml") if "[grant]" in block]
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
        *("term/ask-1", "term/call-1.1:read_section", "term/ask-2")
    ]
    assert [call["step"] for call in shown["calls"]] == ["term/ask-2", "term/ask-1"]
