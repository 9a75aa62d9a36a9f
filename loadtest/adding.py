"""
`make proof`: every part in turn, each in a process of its own, and a table at the end.

A part prints one object of JSON; it is kept in the proof's folder, and the table is
added up from these files and from nothing else.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

Found = Mapping[str, Mapping[str, Any]]  # by part, what it printed
Say = Callable[[str], None]


class Part(NamedTuple):
    """
    One command of the proof.

    Attributes:
        prints: Whether it prints JSON; tests do not, and say by how they end.
    """

    name: str
    command: tuple[str, ...]
    prints: bool = True


def _run(name: str, *options: str) -> Part:
    return Part(name, ("loadtest", "run", name, *options, "--json"))


PARTS = (
    Part(
        "simulate",
        ("loadtest", "simulate", "--histories", "20000", "--seed", "1", "--json"),
    ),
    Part("mutants", ("loadtest", "mutants", "--json")),
    Part("tests", ("pytest", "-m", "proof"), prints=False),
    _run("kill", "--items", "1000", "--kills", "60"),
    _run("zombie", "--rounds", "50"),
    _run("restarts", "--rounds", "20"),
    _run("failover", "--rounds", "20"),
    _run("effects"),
    _run("approvals"),
    _run("hostile"),
    _run("long", "--pages", "120", "--kill-at", "61"),
    _run("honesty"),
    _run("bundle"),
    _run("evil"),
    _run("jail"),
    _run("trouble"),
    _run("budget"),
    _run("lies"),
    _run("outage"),
    _run("fallback"),
    _run("moderation", "--letters", "2000"),
    _run("zero-trust"),
    _run("loop"),
    _run("contracts", "--contracts", "100"),
    _run("fitting", "--pairs", "15000"),
    _run("quotes", "--quotes", "120", "--kills", "4"),
    _run("ask-back", "--requests", "60", "--kills", "4"),
)


class Row(NamedTuple):
    """A line of the table: what, how many there were and must be, how many broke."""

    what: str
    seen: int
    wanted: int
    broken: int

    @property
    def good(self) -> bool:
        """Whether it was enough, and nothing broke."""
        return self.seen >= self.wanted and not self.broken


def run(say: Say, *, only: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """
    Run every part, or `only` these; one that fails does not end the proof.

    Returns the rows of the table, the parts that failed, and how long each took.
    """
    folder.mkdir(parents=True, exist_ok=True)
    failed: list[str] = []
    took: dict[str, float] = {}
    for part in PARTS:
        if only and part.name not in only:
            continue
        say(f"proof: {part.name}")
        began = time.monotonic()
        with (folder / f"{part.name}.json").open("wb") as out:
            printed = subprocess.run(
                [sys.executable, "-m", *part.command],
                stdout=out if part.prints else None,
                check=False,
            )
        took[part.name] = round(time.monotonic() - began, 1)
        if printed.returncode:
            failed.append(part.name)
    found = read(folder)
    rows = table(found, whole=not only)
    return {
        "table": [row._asdict() | {"good": row.good} for row in rows],
        "failed": failed,
        "seconds": took,
        "folder": str(folder),
        "good": not failed and all(row.good for row in rows),
    }


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """What the parts printed, by name; of one that printed nothing, nothing."""
    found = {}
    for path in folder.glob("*.json"):
        lines = path.read_text(encoding="utf-8").strip().splitlines()
        if lines:
            found[path.stem] = json.loads(lines[-1])
    return found


def table(found: Found, *, whole: bool = True) -> list[Row]:
    """The proof in numbers; without `whole`, of the parts alone that there are."""
    of = partial(_count, found)
    killers = {"kill": "lost", "effects": "", "approvals": "lost", "fallback": "failed"}
    kills = sum(of(p, "kills") + of(p, "killed") for p in killers)
    badly = sum(of(p, bad) for p, bad in killers.items() if bad)
    points = ("simulate", "crash_points")
    lines = [
        (
            "simulate",
            Row(
                *("histories in virtual time", of("simulate", "histories")),
                *(20_000, of("simulate", "violations")),
            ),
        ),
        (
            "simulate",
            Row(
                *("named crash points", of(*points, "met")),
                *(of(*points, "named"), of(*points, "not_met")),
            ),
        ),
        ("kill", Row("workers killed (SIGKILL)", kills, 200, badly)),
        (
            "zombie",
            Row(
                *("zombies", of("zombie", "zombies_noticed"), 50),
                of("zombie", "late_writes_accepted") + of("zombie", "lost"),
            ),
        ),
        (
            "restarts",
            Row(
                *("database restarts", of("restarts", "restarts"), 20),
                of("restarts", "acknowledged_lost") + of("restarts", "lost"),
            ),
        ),
        *(("failover", row) for row in _failovers(found)),
        (
            "mutants",
            Row(
                *("seeded bugs caught", of("mutants", "caught")),
                max(40, of("mutants", "total")),
                of("mutants", "survived") + of("mutants", "unclear"),
            ),
        ),
    ]
    return [row for part, row in lines if whole or part in found]


def _failovers(found: Found) -> list[Row]:
    sync = partial(_count, found, "failover", "synchronous")
    late = partial(_count, found, "failover", "asynchronous")
    gone = sync("acknowledged_lost") + sync("ends_lost")
    named = "  acknowledged and lost in these, named"
    return [
        Row("failovers, synchronous", sync("failovers"), 20, gone),
        Row("failovers, asynchronous", late("failovers"), 1, late("unfinished")),
        Row(named, late("acknowledged_lost"), 0, 0),
    ]


def _count(found: Found, part: str, *keys: str) -> int:
    """A figure that a part printed, or how many there are of a list; 0: none."""
    value: Any = found.get(part, {})
    for key in keys:
        value = value.get(key, {})
    return int(value) if isinstance(value, int | float) else len(value)


def drawn(rows: list[dict[str, Any]]) -> str:
    """The table as people read it."""
    lines = [f"{'':42}{'seen':>9}{'wanted':>9}{'broken':>9}"]
    for row in rows:
        mark = "" if row["good"] else "   ✗"
        figures = f"{row['seen']:>9,}{row['wanted']:>9,}{row['broken']:>9,}"
        lines.append(f"{row['what']:42}{figures}{mark}")
    return "\n".join(lines)
