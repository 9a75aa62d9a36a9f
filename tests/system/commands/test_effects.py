"""`waybill effects`: what a person sees of them, and says."""

from __future__ import annotations

import json

from tests.system.command import Home, pictures

PLANS = """
sent = {"to": "ann@example.org"}
await ctx.effect("tell", "box", sent, irreversible=ctx.item.name == "two.png")
return Advance()
"""


def test_effects_are_released_sent_shown_and_reconciled(home: Home) -> None:
    """In numbered folders; what cannot be taken back goes when a person says so."""
    (home.folder / "vendors.toml").write_text(
        '[sink.box]\nkind = "folder"\ngather_s = 0\n'
    )
    folder = home.pipeline("notes", note=PLANS.strip())
    files = pictures(home.folder / "made", ["one.png", "two.png", "three.png"])
    call = ("ingest", "--pipeline", folder, "--batch", "may", "--wait")

    home.ok(*call, *files[:2])
    rows = {r["item_name"]: r for r in home.ok("effects", "ls")}
    batch = home.ok("batches", "show", "may")
    home.ok("effects", "release", "may", "--window-s", "600", "--yes")
    undone = home.ok("effects", "undo", "may")
    home.ok("effects", "release", "may", "--window-s", "0", "--yes")
    none = home.run("effects", "release", "1", "2", "--yes", "--json")
    assert none.error() == (7, "CONFLICT")
    assert "waits for no release" in none.out
    assert "nothing of it waits" in home.run("effects", "release", "may", "--yes").err
    home.ok(*call, files[2])
    shown = home.ok("effects", "show", str(rows["two.png"]["id"]))

    assert rows["one.png"]["state"] == "confirmed"
    assert rows["two.png"]["state"] == "awaiting_release"
    assert {(e["sink"], e["state"]) for e in batch["effects"]} == {
        ("box", "confirmed"),
        ("box", "awaiting_release"),
    }
    assert undone["undone"] == [rows["two.png"]["id"]]
    assert shown["state"] == "confirmed"
    assert shown["payload"] == {"to": "ann@example.org"}
    assert "effect_released" in [p["event"] for p in shown["passages"]]
    at = home.folder / "box" / "default" / "may"
    handed = [path.name for path in sorted(at.glob("0*/*payload.json"))]
    assert len(handed) == 3
    listed = home.folder / "printed.txt"
    listed.write_text("\n".join([*handed[:2], "odd.pdf"]))
    differs = home.run("effects", "reconcile", "box", "may", listed, "--json")
    assert differs.code == 8
    assert json.loads(differs.out)["missing"] == [handed[2]]
    again = home.run("effects", "resolve", str(shown["id"]), "--confirmed", "--json")
    assert again.code == 7
    both = [str(shown["id"]), str(rows["one.png"]["id"])]
    several = home.run("effects", "resolve", *both, "--confirmed", "--json")
    assert several.code == 7
    refused = json.loads(several.out)
    assert [e["code"] for e in refused["refused"]] == ["CONFLICT"] * 2
    assert refused["resolved"] == []
