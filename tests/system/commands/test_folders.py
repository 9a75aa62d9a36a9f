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
