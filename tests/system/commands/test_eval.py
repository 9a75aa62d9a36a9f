"""`waybill eval` and `waybill review export`: cases run, killed, scored, compared."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.system.command import Home, eventually

FIND = """
import re
from pathlib import Path

text = (await ctx.artifacts.get(letter.source)).decode()
home = Path({home!r})
with (home / "ran.log").open("a") as log:
    log.write(ctx.item.name + chr(10))
while text.startswith("Slow") and not (home / "gate").exists():
    await anyio.sleep(0.05)
found = re.search({rule!r}, text)
quotes = [{{"text": found.group(), "page": 1}}] if found else []
verdict = "present" if found else "absent"
findings = [{{"type": "governing_law", "verdict": verdict, "quotes": quotes}}]
if text.startswith("Odd"):
    return Hold("ODD", facts={{"findings": findings}})
if text.startswith("Bad"):
    raise Permanent("no", code="BAD")
await ctx.effect("tell", "box", {{"law": verdict}})
(ctx.out_dir / ctx.item.name).write_text(verdict)
return Advance(facts={{"findings": findings}})
"""
LAW = "governed by the laws of Ohio"
TEXTS = {
    "one": f"First. It is {LAW}. End.",
    "two": "Second. It says nothing.",
    "odd": f"Odd. It is {LAW}. End.",
    "bad": f"Bad. It is {LAW}. End.",
    "slow": f"Slow. It is {LAW}. End.",
}


def cases(home: Home) -> Path:
    """A file of them, the first in CUAD's form."""
    folder = home.folder / "cases"
    (folder / "txt").mkdir(parents=True)
    (folder / "txt" / "one.txt").write_text(TEXTS["one"])
    lines: list[dict[str, Any]] = [
        {"id": "one", "clauses": {"Governing Law": {"spans": [LAW], "answer": "Ohio"}}}
    ]
    for name in ("two", "odd", "bad", "slow"):
        expect: dict[str, Any] = {"verdict": "absent"}
        if LAW in TEXTS[name]:
            expect = {"verdict": "present", "quotes": [LAW]}
        document = {"text": TEXTS[name]}
        line = {"document": document, "name": f"{name}.txt"}
        lines.append({**line, "expect": {"governing_law": expect}})
    file = folder / "cases.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    return file


def finder(home: Home, name: str, rule: str) -> Path:
    folder = home.pipeline(name, find=FIND.format(home=str(home.folder), rule=rule))
    (folder / "pipeline.toml").write_text(
        f'name = "{name}"\ndeadline = "1d"\nstages = ["find"]\n'
    )
    return folder


@pytest.mark.proof
def test_a_killed_trial_goes_on_and_tells_nobody(home: Home) -> None:
    """What was done is not done again; no effect is sent, nobody has to review it."""
    (home.folder / "vendors.toml").write_text(
        '[sink.box]\nkind = "folder"\ngather_s = 0\n'
    )
    file, folder = cases(home), finder(home, "finder", "governed by[^.]*")
    call = ("eval", str(folder), "--cases", str(file), "--repeat", "2")

    with home.started(*call) as process:
        done = "select 1 from waybill.outcomes"
        held = "select 1 from waybill.holds where open and trial"
        assert eventually(
            lambda: len(home.sql(done)) == 6 and len(home.sql(held)) == 2,
            within_s=60,
        )
        os.killpg(process.pid, signal.SIGKILL)
    (home.folder / "gate").touch()
    result = home.ok(*call)

    whole = result["all"]
    ran = (home.folder / "ran.log").read_text().split()
    assert {name: ran.count(name) for name in set(ran) - {"slow.txt"}} == {
        **dict.fromkeys(("one.txt", "two.txt", "odd.txt", "bad.txt"), 2)
    }
    assert len(home.ok("batches", "ls")) == 1
    assert (whole["labelled"], whole["right"], whole["unanswered"]) == (8, 6, 2)
    assert (whole["precision"], whole["recall"], whole["agreement"]) == (1.0, 0.75, 1)
    assert (whole["held"], whole["failed"], whole["exact_quote"]) == (0.2, 0.2, 1.0)
    assert {(f["name"], f["code"]) for f in result["failed_items"]} == {
        ("bad.txt", "BAD")
    }
    # -- nobody outside has heard of it
    effects = home.ok("effects", "ls")
    assert {e["state"] for e in effects} == {"not_sent"}
    assert not (home.folder / "box").exists()
    assert not list((home.folder / "out").rglob("*.txt"))
    assert home.ok("review", "ls") == []
    [batch] = home.ok("batches", "ls")
    assert batch["trial"] is True
    assert (batch["held"], batch["live"], batch["conserved"]) == (0, 0, True)
    export = home.run("export", batch["name"], "--to", "x.csv", "--json")
    assert export.error() == (2, "BATCH_IS_TRIAL")

    # -- against the same rule, that of a worse one, and the result that was kept
    worse = finder(home, "worse", "governed by the law\\b")
    again = ("eval", worse, "--cases", file, "--json")
    ran_again = home.run(*again, "--against", result["saved"], "--margin", "0.1")
    compared = json.loads(ran_again.out)
    assert ran_again.code == 8
    assert ("governing_law", "recall") in {
        (r["type"], r["rate"]) for r in compared["regressions"]
    }
    assert "worse: governing_law recall 0, was 0.75" in ran_again.err
    better = home.run("eval", folder, "--cases", file, "--against", worse, "--json")
    assert better.code == 0, better
    assert json.loads(better.out)["against"]["pipeline"] == "worse"
    assert all(batch["trial"] for batch in home.ok("batches", "ls"))


def test_decisions_become_cases(home: Home) -> None:
    """What was corrected and what was accepted; they are read again by `eval`."""
    folder = finder(home, "finder", "governed by[^.]*")
    (home.folder / "vendors.toml").write_text('[sink.box]\nkind = "folder"\n')
    made = home.folder / "made" / "files"
    made.mkdir(parents=True)
    for name in ("first", "second", "third"):
        (made / f"{name}.txt").write_text(f"Odd {name}. It is {LAW}. End.")
    home.run("ingest", "--pipeline", folder, "--wait", made)
    holds = {h["item_name"]: h["hold"] for h in home.ok("review", "ls")}
    facts = {"findings": [{"type": "governing_law", "verdict": "absent", "quotes": []}]}
    home.ok("review", "approve", holds["first.txt"], "--yes")
    home.ok("review", "reject", holds["third.txt"], "--reason", "no contract")
    set_ = f"facts={json.dumps(facts)}"
    home.ok("review", "edit", holds["second.txt"], "--set", set_, "--yes")
    to = home.folder / "corrections.jsonl"

    said = home.ok("review", "export", "--to", to)
    text = home.ok("review", "export", "--to", f"{to}2", "--documents", "text")
    twice = home.run("review", "export", "--to", to, "--json")

    written = map(json.loads, to.read_text().splitlines())
    lines = {line["name"]: line for line in written}
    assert (said["cases"], said["labels"], said["corrected"]) == (2, 2, 1)
    assert said["left_out"] == {holds["third.txt"]: "rejected"}
    assert lines["first.txt"]["expect"] == {
        "governing_law": {"verdict": "present", "quotes": [LAW]}
    }
    assert lines["second.txt"]["expect"] == {"governing_law": {"verdict": "absent"}}
    assert lines["second.txt"]["corrected"] == ["governing_law"]
    assert lines["first.txt"]["corrected"] == []
    assert twice.error() == (7, "EXPORT_EXISTS")
    for file in (to, f"{to}2"):
        result = home.ok("eval", folder, "--cases", file)
        whole = result["all"]
        assert (whole["right"], whole["fabricated"], whole["held"]) == (1, 1, 1.0)
    assert text["cases"] == 2
