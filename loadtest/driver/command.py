"""`python -m loadtest run SCENARIO|FILE.toml`: the driver's command."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from loadtest.driver import drive, scenario
from loadtest.showing import Json, fail_if, say, show

PLAY = "FILE.toml"
RUNS = Path(".waybill/runs")


class Runs(TyperGroup):
    """A name that is no command of its own is a scenario's, or a file's."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As usual, or the driver with that scenario."""
        first = args[0] if args else ""
        ours = first.endswith(".toml") or first in scenario.known()
        if ours and first not in self.commands:
            args = [PLAY, *args]
        return super().resolve_command(ctx, args)


def play(
    source: Annotated[str, typer.Argument(metavar="SCENARIO", help="Name or file.")],
    pipeline: Annotated[
        str | None, typer.Option(help="A folder, or the name of an example.")
    ] = None,
    files: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="Your documents."),
    ] = None,
    items: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="In all.")
    ] = None,
    speed: Annotated[
        float | None, typer.Option(min=0.01, max=1000, help="Time goes so fast.")
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.1, max=10_000, help="All phases take so long together."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything drawn.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run's folder; default: one of its own.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the home, with its database.")
    ] = False,
    json: Json = False,
) -> None:
    """A scenario: letters, overload, flood, … or a file of yours (docs/loadtest.md)."""
    it, beside = scenario.read(
        source,
        pipeline=pipeline,
        folder=files,
        items=items,
        speed=speed,
        minutes=minutes,
        seed=seed,
    )
    text = scenario.path_of(source).read_text(encoding="utf-8")
    stamp = time.strftime("%Y%m%d-%H%M%S")
    folder = (out or RUNS / f"{it.name}-{stamp}").absolute()
    summary = drive.run(it, beside, text, folder, say, keep=keep)
    results: dict[str, Any] = {**summary["results"], "good": summary["good"]}
    show(results, json)
    fail_if(not summary["good"])
