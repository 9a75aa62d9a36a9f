"""Failure runs and benchmarks that the Makefile and the documents name exist."""

from __future__ import annotations

import re

import typer

from loadtest.__main__ import app
from loadtest.adding import PARTS
from tests.system.command import ROOT

MAKEFILE = ROOT / "Makefile"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CALL = re.compile(
    r"(?:loadtest |^\| `)(run|bench) ([a-z-]+)(?![\w.-])([^`\n;]*)", re.MULTILINE
)
LOOP = re.compile(r"for name in ([a-z -]+); do .*\n.*loadtest bench \$\$name")


def commands() -> dict[str, set[str]]:
    """The options of every command, by `run kill` and the like."""
    groups = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return {
        f"{group} {name}": {option for one in command.params for option in one.opts}
        for group in ("run", "bench")
        for name, command in groups[group].commands.items()
    }


def scenarios() -> dict[str, set[str]]:
    """The same of scenarios that are files."""
    given = commands()["run FILE.toml"]
    files = (ROOT / "loadtest" / "scenarios" / "files").glob("*.toml")
    return {f"run {file.stem}": given for file in files}


def test_what_is_named_can_be_run() -> None:
    """A command or option that was renamed is renamed where people read of it."""
    texts = [path.read_text(encoding="utf-8") for path in (MAKEFILE, *DOCUMENTS)]
    there = commands() | scenarios()

    calls = [call for text in texts for call in CALL.findall(text)]

    assert len(calls) > 20
    for group, name, rest in calls:
        assert f"{group} {name}" in there
        assert set(re.findall(r"--[a-z-]+", rest)) <= there[f"{group} {name}"]


def test_make_runs_every_one_of_them() -> None:
    """`make bench` and `make proof` leave none out."""
    text = MAKEFILE.read_text(encoding="utf-8")

    [looped] = LOOP.findall(text)
    named = {f"bench {name}" for name in looped.split()}
    named |= {f"{group} {name}" for group, name, _ in CALL.findall(text)}
    named |= {" ".join(part.command[1:3]) for part in PARTS if part.command[1] == "run"}

    assert named == commands().keys() - {"run FILE.toml"}  # a file of the reader's
