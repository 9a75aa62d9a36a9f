"""A decision's result is shown before it is decided."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from tests.system.command import Home, pictures

NOTE = """
if ctx.item.name.startswith("typed"):
    return Hold("TYPE", "a page", typed={"1": "one"})
return Hold("LOOK", "look", text="what the machine read")
"""


@pytest.fixture
def held(home: Home) -> dict[str, str]:
    """Two holds by what they are about; nothing else is there."""
    folder = home.pipeline("notes", note=NOTE)
    files = pictures(home.folder / "made" / "a", ["typed.png", "text.png"])
    home.run("ingest", *files, "--pipeline", folder, "--wait")
    rows = home.ok("review", "ls")
    return {row["item_name"].partition(".")[0]: row["hold"] for row in rows}


def at_a_terminal(home: Home, answer: str, *args: str) -> tuple[int, str]:
    """Exit code and screen of a command whose question is answered so."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "waybill", *args],
        env=home.environment | {"TERM": "xterm", "COLUMNS": "200"},
        cwd=home.folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    os.write(ours, f"{answer}\n".encode())
    screen = b""
    try:
        while part := os.read(ours, 65536):
            screen += part
    except OSError:  # EIO: the other end is closed, that is how a pty ends
        pass
    finally:
        os.close(ours)
    return process.wait(60), screen.decode()


def test_the_result_is_shown_before_it_is_decided(home: Home, held: dict[str, str]):
    """Dry: as data, nothing is decided.  At a terminal: asked.  In a script: told."""
    look, page = held["text"], held["typed"]

    as_is = home.ok("review", "approve", look, "--dry-run")
    edit = ("review", "edit", page, "--set", "typed.2=two", "--dry-run")
    edited, text = home.ok(*edit), home.run(*edit)
    bad = home.run("review", "edit", look, "--set", "zz=1", "--dry-run", "--json")
    assert home.one("select count(*) from decisions") == 0

    approve = ("review", "approve", look, "--no-run")
    refused = at_a_terminal(home, "n", *approve)
    assert home.one("select count(*) from decisions") == 0
    agreed = at_a_terminal(home, "y", *approve)
    scripted = home.run("review", "approve", page, "--no-run", "--json")

    change = {"channel": "text", "old": None, "new": "what the machine read"}
    assert as_is["changes"] == [change]
    assert as_is["digest"]
    assert {c["channel"]: c["new"] for c in edited["changes"]} == {
        "typed.1": "one",
        "typed.2": "two",
    }
    assert 'typed.2: nothing → "two"' in text.out
    assert bad.error() == (2, "BAD_UPDATE")
    line = 'text: nothing → "what the machine read"'
    assert (refused[0], line in refused[1]) == (2, True), refused
    assert (agreed[0], line in agreed[1]) == (0, True), agreed
    assert scripted.json()["verb"] == "approve"
    assert [c["channel"] for c in scripted.json()["changes"]] == ["typed.1"]
    assert home.one("select count(*) from decisions") == 2


def test_a_script_is_told_the_result_and_not_asked(home: Home, held: dict[str, str]):
    """Without a terminal nobody is there to answer: it is decided, as before."""
    said = home.run("review", "approve", held["text"], "--no-run")

    assert said.code == 0
    assert 'text: nothing → "what the machine read"' in said.err
    assert "approve by" in said.err
    assert "no worker is up: start `waybill up`" in said.err
