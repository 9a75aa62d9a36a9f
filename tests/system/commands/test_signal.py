"""An item asks, a person answers: by the command, and at the right time."""

from __future__ import annotations

import json

from tests.system.command import Home, pictures

ASKS = """
answer = await ctx.signal("proof-read", dict[str, bool], within_s=3600)
return Advance() if answer["good"] else Reject("BAD_PROOF")
"""


def test_an_item_waits_for_an_answer_and_goes_on(home: Home) -> None:
    """Asked, explained, answered once, refused then: each as commands tell it."""
    folder = home.pipeline("letters", proof=ASKS)
    files = pictures(home.folder / "made", ["one.png", "two.png"])
    waits = home.run("ingest", *files, "--pipeline", folder, "--batch", "may", "--wait")
    signal = ("signal", "one.png", "proof-read", "--json")

    rows = home.ok("items", "ls", "--code", "SIGNAL", "--state", "waiting")
    [(one, row)] = [(r["id"], r) for r in rows if r["name"] == "one.png"]
    why = home.ok("items", "why", "one.png")["why"]
    [asked] = home.ok("items", "show", "one.png")["signals"]
    bad = home.run(*signal, '{"good": "perhaps"}').error()
    early = home.run("signal", "one.png", "proof", "--json", "1")
    answered = home.run(*signal, '{"good": true}')
    again = home.run(*signal, '{"good": true}')
    other = home.run(*signal, '{"good": false}')
    file = home.folder / "no.json"
    file.write_text('{"good": false}')
    two = home.run("signal", "two.png", "proof-read", "--file", file)
    gone_on = home.run("ingest", *files, "--pipeline", folder, "--wait")
    late = home.run("signal", "two.png", "other", "--json", "1").error()
    shown = home.ok("items", "show", "two.png")

    assert waits.code == 5
    assert "2 for a signal: waybill items ls --code SIGNAL" in " ".join(
        waits.err.split()
    )
    assert (len(rows), row["state"]) == (2, "waiting")
    assert row["why"] == "the signal proof-read"
    assert "it waits for the signal proof-read since" in why
    assert "until" in why
    assert f"`waybill signal {one} proof-read --json …`" in why
    assert (asked["stage"], asked["delivery"]) == ("proof", None)
    assert bad == (2, "SIGNAL_SCHEMA")
    said = {"item": int(one), "signal": "proof-read"}
    assert answered.json() == {**said, "taken": "now", "waits": []}
    assert early.json() == {**said, "signal": "proof", "taken": "kept"} | {
        "waits": ["proof-read"]
    }
    assert "what it waits for now is proof-read" in early.err
    assert (answered.code, early.code) == (0, 0)
    assert "no worker is up" in answered.err
    assert again.json()["taken"] == "again"
    assert "item" in two.out
    assert "proof-read: it asked for that, and goes on" in two.out
    assert other.error() == (7, "SIGNAL_ANSWERED")
    assert two.code == 0, two
    assert gone_on.code == 0
    assert home.ends() == {"done": 1, "rejected": 1}
    assert late == (7, "SIGNAL_LATE")
    events = [(e["event"], e["detail"]) for e in shown["timeline"]]
    assert ("signalled", "proof-read") in events
    assert ("refused", "SIGNAL_LATE other") in events


def test_how_an_answer_is_given(home: Home) -> None:
    """By stdin too; what cannot be is said so."""
    folder = home.pipeline("letters", proof="return Wait(3600)")
    [file] = pictures(home.folder / "made", ["one.png"])
    home.run("ingest", file, "--pipeline", folder)

    calls = {
        "none": home.run("signal", "1", "a"),
        "both": home.run("signal", "1", "a", "--json", "1", "--file", "x"),
        "no file": home.run("signal", "1", "a", "--file", "nowhere"),
        "no item": home.run("signal", "77", "a", "--json", "1"),
        "no name": home.run("signal", "1", "a b", "--json", "1"),
        "no json": home.run("signal", "1", "a", "--json", "yes"),
    }

    assert {name: ran.code for name, ran in calls.items()} == {
        **dict.fromkeys(calls, 2),
        "no item": 9,
    }
    assert json.loads(calls["no json"].out)["error"]["code"] == "SIGNAL_SCHEMA"
