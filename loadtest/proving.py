"""
`python -m loadtest simulate`, `mutants` and `proof`: what `make proof` adds up.
"""

from __future__ import annotations

import os
from typing import Annotated

import typer

from loadtest.mutants import running as mutating
from loadtest.mutants.listed import listed
from loadtest.showing import Json, fail_if, say, show
from loadtest.simulation import running
from pipeline.errors import Usage

Processes = Annotated[
    int, typer.Option(min=1, max=256, help="At once; as many as cores.")
]
CORES = os.cpu_count() or 1


def simulate(
    histories: Annotated[
        int, typer.Option(min=1, max=10_000_000, help="In all.")
    ] = 1000,
    seed: Annotated[int, typer.Option(help="Of the first; the next has the next.")] = 1,
    processes: Processes = CORES,
    json: Json = False,
) -> None:
    """Histories of the whole worker in virtual time, with faults drawn from a seed."""
    result = running.run(say, histories=histories, seed=seed, processes=processes)
    show(result, json)
    fail_if(not result["good"])


def mutants(
    only: Annotated[
        list[str] | None, typer.Option("--only", help="This one; may be repeated.")
    ] = None,
    processes: Processes = CORES,
    json: Json = False,
) -> None:
    """Seeded bugs in the engine, each in a copy of the tree: does its test fail?"""
    names = {mutant.name for mutant in listed()}
    if unknown := set(only or ()) - names:
        raise Usage(f"no such bug: {', '.join(sorted(unknown))}", hint="see the list")
    result = mutating.run(say, only=only or (), processes=processes)
    show(result, json)
    fail_if(not result["good"])
