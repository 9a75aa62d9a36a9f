"""
`python -m loadtest simulate`, `mutants` and `proof`: what `make proof` adds up, and the
runs that end the database under a service.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from loadtest import adding
from loadtest.mutants import running as mutating
from loadtest.mutants.listed import listed
from loadtest.runs import run
from loadtest.scenarios import failover, restarts
from loadtest.showing import Json, Seed, fail_if, say, show
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


def proof(
    only: Annotated[
        list[str] | None, typer.Option("--only", help="This part; may be repeated.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Where what each part printed is kept.")
    ] = Path(".waybill/proof"),
    json: Json = False,
) -> None:
    """Every part of `make proof`, and one table at the end."""
    if unknown := set(only or ()) - {part.name for part in adding.PARTS}:
        raise Usage(f"no such part: {', '.join(sorted(unknown))}", hint="see the list")
    folder = out / time.strftime("%Y%m%d-%H%M%S")
    result = adding.run(say, only=tuple(only or ()), folder=folder)
    if json:
        show(result, json)
    else:
        for name in result["failed"]:
            say(f"failed: {name}, see {folder}")
        print(adding.drawn(result["table"]))
    fail_if(not result["good"])


@run.command("restarts")
def run_restarts(
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Restarts.")] = 20,
    seed: Seed = 1,
    json: Json = False,
) -> None:
    """Restart the database under working workers: fast, immediate, kill -9."""
    result = restarts.run(say, rounds=rounds, seed=seed)
    show(result, json)
    fail_if(not result["good"])


@run.command("failover")
def run_failover(
    rounds: Annotated[
        int, typer.Option(min=0, max=1000, help="With a synchronous standby.")
    ] = 20,
    asynchronous: Annotated[
        int, typer.Option(min=0, max=1000, help="With one that may lag.")
    ] = 5,
    seed: Seed = 1,
    json: Json = False,
) -> None:
    """Kill the primary, promote its standby: is what was acknowledged there?"""
    result = failover.run(say, rounds=rounds, asynchronous=asynchronous, seed=seed)
    show(result, json)
    fail_if(not result["good"])
