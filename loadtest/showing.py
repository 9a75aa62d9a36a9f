"""
What every run and benchmark shows, and the options that several of them take.
"""

from __future__ import annotations

import json as jsonlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Seed = Annotated[int, typer.Option(help="Of the faults' moments.")]
Items = Annotated[int, typer.Option(min=100, max=1_000_000, help="In all.")]
InFlight = Annotated[int, typer.Option(min=1, max=100_000, help="At once.")]
Reader = Annotated[str, typer.Option("--engine", help="auto, or its name.")]
Scans = Annotated[int, typer.Option(min=4, max=1000, help="In all.")]
Samples = Annotated[
    Path, typer.Option(help="Folder of real documents; used where it is there.")
]


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def show(result: dict[str, Any], as_json: bool) -> None:
    """The figures."""
    if as_json:
        print(jsonlib.dumps(result), flush=True)
        return
    for key, value in result.items():
        print(f"{key:24} {value}")


def fail_if(bad: object) -> None:
    """Exit with 8: a promise is broken."""
    if bad:
        raise typer.Exit(8)
