"""
`python -m loadtest simulate`, `mutants` and `proof`: what `make proof` adds up.
"""

from __future__ import annotations

import os
from typing import Annotated

import typer

from loadtest.showing import Json, fail_if, say, show
from loadtest.simulation import running


def simulate(
    histories: Annotated[
        int, typer.Option(min=1, max=10_000_000, help="In all.")
    ] = 1000,
    seed: Annotated[int, typer.Option(help="Of the first; the next has the next.")] = 1,
    processes: Annotated[
        int, typer.Option(min=1, max=256, help="At once; as many as cores.")
    ] = os.cpu_count() or 1,
    json: Json = False,
) -> None:
    """Histories of the whole worker in virtual time, with faults drawn from a seed."""
    result = running.run(say, histories=histories, seed=seed, processes=processes)
    show(result, json)
    fail_if(not result["good"])
